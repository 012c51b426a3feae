"""About: what this is, the versions that a report of a problem needs, and every licence in full."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QPlainTextEdit,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from app.icons import app_icon
from app.language import tr
from app.licences import Component, components, qt_folder, versions
from app.theme import SPACE_L, SPACE_S, SPACE_XL, mono_font

LOGO_PX = 64
WORDS_WIDTH = 400
LICENCES_SIZE = (960, 620)
LIST_WIDTH = 240


class AboutDialog(QDialog):
    """Versions, the notice that Qt's licence asks for, and the way to all licences.

    Args:
        engine_facts: How the loaded model is stored and computed; "" where none is loaded.
        parent: The owner.
    """

    def __init__(self, engine_facts: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("About Rooftop"))
        self._facts = engine_facts
        logo = QLabel()
        logo.setPixmap(app_icon().pixmap(LOGO_PX, LOGO_PX))
        logo.setAccessibleName("Rooftop")
        words = QVBoxLayout()
        words.setSpacing(SPACE_S)
        words.addWidget(_label("Rooftop", "title"))
        words.addWidget(
            _label(tr("Runs Mixture-of-Experts models larger than your graphics card, by the Fiddler method."))
        )
        words.addLayout(self._versions())
        words.addSpacing(SPACE_S)
        words.addWidget(_label(licence_notice(), "dim"))
        row = QHBoxLayout()
        row.setSpacing(SPACE_L)
        row.addWidget(logo, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_XL, SPACE_XL, SPACE_XL, SPACE_L)
        layout.setSpacing(SPACE_XL)
        layout.addLayout(row)
        buttons = self._buttons()
        layout.addWidget(buttons)
        buttons.button(QDialogButtonBox.StandardButton.Close).setFocus()
        layout.setSizeConstraint(QVBoxLayout.SizeConstraint.SetFixedSize)  # Qt would squeeze it on a small screen

    @property
    def version_text(self) -> str:
        """The versions, one a line, as Copy takes them."""
        return "\n".join(f"{name}: {version}" for name, version in self._rows())

    def open_licences(self) -> None:
        """Show all licences."""
        dialog = LicencesDialog(components(), self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def _rows(self) -> list[tuple[str, str]]:
        return [*versions(), *([(tr("Model"), self._facts)] if self._facts else [])]

    def _versions(self) -> QFormLayout:
        form = QFormLayout()
        form.setHorizontalSpacing(SPACE_L)
        form.setVerticalSpacing(2)
        for name, version in self._rows():
            form.addRow(_label(name, "dim"), _label(version))
        return form

    def _buttons(self) -> QDialogButtonBox:
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        licences = buttons.addButton(tr("&Licences…"), QDialogButtonBox.ButtonRole.ActionRole)
        licences.setAccessibleName(tr("Licences of everything inside"))
        licences.clicked.connect(self.open_licences)
        copy = buttons.addButton(tr("&Copy versions"), QDialogButtonBox.ButtonRole.ActionRole)
        copy.setAccessibleName(tr("Copy versions"))
        copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.version_text))
        for button in (licences, copy):
            button.setAutoDefault(False)
        buttons.button(QDialogButtonBox.StandardButton.Close).setDefault(True)
        buttons.rejected.connect(self.reject)
        return buttons


class LicencesDialog(QDialog):
    """Every part with its licence: names on the left, the full text on the right."""

    def __init__(self, parts: list[Component], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("Licences"))
        self.resize(*LICENCES_SIZE)
        self._parts = parts
        self.list = QListWidget()
        self.list.setAccessibleName(tr("Parts"))
        self.list.setSpacing(2)
        self.list.addItems([f"{part.name} {part.version}".strip() for part in parts])
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setAccessibleName(tr("Licence text"))
        self.text.setFont(mono_font())
        self.text.setTabChangesFocus(True)
        self.list.currentRowChanged.connect(self._show)
        splitter = QSplitter()
        splitter.addWidget(self.list)
        splitter.addWidget(self.text)
        splitter.setSizes([LIST_WIDTH, LICENCES_SIZE[0] - LIST_WIDTH])
        splitter.setStretchFactor(1, 1)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_L)
        layout.setSpacing(SPACE_L)
        layout.addWidget(splitter, 1)
        layout.addWidget(buttons)
        self.list.setCurrentRow(0)

    def _show(self, row: int) -> None:
        part = self._parts[row]
        licence = part.licence or tr("not named")
        heading = tr("{name}: licence {licence}").format(name=part.name, licence=licence)
        none = tr("The package has no text of its licence with it.")
        self.text.setPlainText("\n\n".join([heading, *(part.texts or (none,))]))


def licence_notice() -> str:
    """What the licences of Rooftop and Qt ask to be said."""
    return "\n\n".join(
        (
            tr("Rooftop is free software under the Apache License 2.0, without any warranty."),
            tr(
                "It uses Qt and PySide6 under the GNU Lesser General Public License, version 3. You may change these "
                "libraries and use your own build of them: they are the shared libraries in {folder}, or another "
                "PySide6 6.11 installed in their place. Their source is at download.qt.io and code.qt.io."
            ).format(folder=qt_folder()),
            tr("The font Inter is under the SIL Open Font License."),
        )
    )


def _label(text: str, name: str = "") -> QLabel:
    """A label that shows its text verbatim and lets it be copied."""
    label = QLabel(text)
    label.setObjectName(name)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    if name != "title" and len(text) > WORDS_WIDTH // 8:
        label.setWordWrap(True)
        label.setMinimumWidth(WORDS_WIDTH)
    return label
