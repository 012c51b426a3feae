"""Help: the list of shortcuts, and About with versions and licences."""

from __future__ import annotations

import platform
from importlib import metadata

from PySide6.QtCore import Qt, qVersion
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.icons import app_icon
from app.theme import SPACE_L, SPACE_S, SPACE_XL

LOGO_PX = 64
SHORTCUTS = (
    ("Enter", "Send the message"),
    ("Shift+Enter", "Start a new line"),
    ("Esc", "Stop the reply, or take back a waiting message"),
    ("Ctrl+N", "New chat"),
    ("Ctrl+O", "Open a model file"),
    ("Ctrl+Shift+O", "Open a model folder"),
    ("Ctrl+,", "Settings"),
    ("Ctrl+B", "Show or hide the live panel"),
    ("Ctrl++ / Ctrl+- / Ctrl+0", "Larger, smaller, normal text"),
    ("PgUp / PgDn", "Scroll the chat"),
    ("Ctrl+L", "Go to the message field"),
    ("F1", "This list"),
    ("Ctrl+Q", "Quit"),
)
LICENCE_NOTICE = (
    "Rooftop is free software under the Apache License 2.0.\n\n"
    "It uses Qt and PySide6 under the GNU Lesser General Public License, version 3; you may replace these libraries "
    "with your own build of them. Their source is at code.qt.io. The font Inter is under the SIL Open Font License."
)


class ShortcutsDialog(QDialog):
    """All shortcuts."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keyboard shortcuts")
        grid = QGridLayout()
        grid.setHorizontalSpacing(SPACE_XL)
        grid.setVerticalSpacing(SPACE_S + 2)
        for row, (keys, action) in enumerate(SHORTCUTS):
            key_label = plain_label(keys, "figure")
            grid.addWidget(key_label, row, 0)
            grid.addWidget(plain_label(action), row, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_XL, SPACE_XL, SPACE_XL, SPACE_L)
        layout.setSpacing(SPACE_XL)
        layout.addLayout(grid)
        layout.addWidget(_close_button(self))


class AboutDialog(QDialog):
    """Versions and licences."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("About Rooftop")
        logo = QLabel()
        logo.setPixmap(app_icon().pixmap(LOGO_PX, LOGO_PX))
        logo.setAccessibleName("Rooftop")
        words = QVBoxLayout()
        words.setSpacing(SPACE_S)
        words.addWidget(plain_label("Rooftop", "title"))
        words.addWidget(plain_label(version_text(), "dim"))
        words.addWidget(
            plain_label("Runs Mixture-of-Experts models larger than your graphics card, by the Fiddler method.")
        )
        notice = plain_label(LICENCE_NOTICE, "dim")
        notice.setMinimumWidth(380)
        words.addWidget(notice)
        row = QHBoxLayout()
        row.setSpacing(SPACE_L)
        row.addWidget(logo, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_XL, SPACE_XL, SPACE_XL, SPACE_L)
        layout.setSpacing(SPACE_XL)
        layout.addLayout(row)
        layout.addWidget(_close_button(self))


def version_text() -> str:
    """The versions that a report of a problem needs."""
    return (
        f"Version {metadata.version('rooftop')}  ·  Qt {qVersion()}  ·  Python {platform.python_version()}  ·  "
        f"{platform.system()} {platform.machine()}"
    )


def plain_label(text: str, name: str = "") -> QLabel:
    """A label that shows its text verbatim."""
    label = QLabel(text)
    label.setObjectName(name)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(name not in {"figure", "title"})
    return label


def _close_button(dialog: QDialog) -> QDialogButtonBox:
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
    buttons.rejected.connect(dialog.reject)
    return buttons
