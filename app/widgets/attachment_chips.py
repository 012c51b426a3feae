"""Files of a message as small chips that open what the model reads; above the composer they can be removed too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.icons import icon
from app.language import tr
from app.theme import SPACE_L, SPACE_S, SPACE_XS, current_theme, mono_font
from app.units import number_text
from app.widgets.flow_layout import FlowLayout

if TYPE_CHECKING:
    from app.conversation import Attachment

MAX_NAME_PX = 200
WRAP_CHARS = 2000
VIEWER_SIZE = (760, 560)


class AttachmentChips(QWidget):
    """A row of chips, hidden while there are none.

    Args:
        removable: Whether each has a button to take it away.
        parent: The owner.

    Signals:
        removed(int): The user takes one away; it stays until `show_attachments`.
    """

    removed = Signal(int)

    def __init__(self, parent: QWidget | None = None, *, removable: bool = False) -> None:
        super().__init__(parent)
        self._removable = removable
        self._chips: list[_Chip] = []
        self._flow = FlowLayout(SPACE_XS, self)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.hide()

    @property
    def texts(self) -> list[str]:
        """What the chips say."""
        return [chip.text for chip in self._chips]

    @property
    def natural_width(self) -> int:
        """Width of all chips in one row."""
        return sum(chip.sizeHint().width() + SPACE_XS for chip in self._chips)

    def show_attachments(self, attachments: tuple[Attachment, ...], tokens: tuple[int, ...] = ()) -> None:
        """Show files, with their tokens where these are known."""
        for chip in self._chips:
            self._flow.removeWidget(chip)
            chip.hide()
            chip.deleteLater()
        self._chips = [self._chip(index, attachment) for index, attachment in enumerate(attachments)]
        self.show_tokens(tokens)
        self.setVisible(bool(attachments))
        self.updateGeometry()

    def show_tokens(self, tokens: tuple[int, ...]) -> None:
        """Say how many tokens each file has."""
        for chip, count in zip(self._chips, tokens, strict=False):
            chip.show_tokens(count)

    def restyle(self) -> None:
        """Take the colours in force."""
        for chip in self._chips:
            chip.restyle()

    def _chip(self, index: int, attachment: Attachment) -> _Chip:
        chip = _Chip(attachment, self, removable=self._removable)
        chip.remove_requested.connect(lambda: self.removed.emit(index))
        self._flow.addWidget(chip)
        chip.show()
        return chip


class _Chip(QFrame):
    """One file."""

    remove_requested = Signal()

    def __init__(self, attachment: Attachment, parent: QWidget, *, removable: bool) -> None:
        super().__init__(parent)
        self.setObjectName("chip")
        self._attachment = attachment
        self._tokens = ""
        self._open = QPushButton()
        self._open.setObjectName("chipName")
        self._open.setCursor(Qt.CursorShape.PointingHandCursor)
        self._open.setIconSize(QSize(14, 14))
        self._open.setToolTip(tr("Show what the model reads of it"))
        self._open.clicked.connect(self._show_text)
        self._remove = QToolButton(self)  # shown without a parent it would be a window of its own for a moment
        self._remove.setObjectName("chipRemove")
        self._remove.setIconSize(QSize(12, 12))
        self._remove.setVisible(removable)
        name = tr("Remove {name}").format(name=attachment.name)
        self._remove.setToolTip(name)
        self._remove.setAccessibleName(name)
        self._remove.clicked.connect(self.remove_requested)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(2, 0, 2, 0)
        layout.setSpacing(0)
        layout.addWidget(self._open)
        layout.addWidget(self._remove)
        self.restyle()

    @property
    def text(self) -> str:
        """Name and tokens."""
        return self._attachment.name + self._tokens

    def show_tokens(self, count: int) -> None:
        """Say how many tokens it has."""
        self._tokens = "  ·  " + tr("{tokens} tokens").format(tokens=number_text(count))
        self.restyle()

    def restyle(self) -> None:
        """Take the colours in force."""
        colour = current_theme().text_dim
        self._open.setIcon(icon("file", colour))
        self._remove.setIcon(icon("close", colour))
        name = self.fontMetrics().elidedText(self._attachment.name, Qt.TextElideMode.ElideMiddle, MAX_NAME_PX)
        self._open.setText((name + self._tokens).replace("&", "&&"))
        self._open.setAccessibleName(tr("Attached: {name}").format(name=self.text))

    def _show_text(self) -> None:
        dialog = TextDialog(self._attachment.name, self._attachment.text, self.window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()


class TextDialog(QDialog):
    """A long text, to be read only.

    Args:
        title: Of the window.
        text: Shown verbatim, but for breaks in lines that no text field could lay out.
        parent: The owner.
    """

    def __init__(self, title: str, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.resize(*VIEWER_SIZE)
        size = tr("{count} characters").format(count=number_text(len(text)))
        label = QLabel(size)
        label.setObjectName("dim")
        self._view = QPlainTextEdit(bounded_lines(text))
        self._view.setReadOnly(True)
        self._view.setFont(mono_font())
        self._view.setAccessibleName(title)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_L)
        layout.setSpacing(SPACE_S)
        layout.addWidget(label)
        layout.addWidget(self._view, 1)
        layout.addWidget(buttons)


def bounded_lines(text: str) -> str:
    """A text whose lines are short enough for Qt to lay out one by one."""
    if len(text) <= WRAP_CHARS:
        return text
    lines = []
    for line in text.split("\n"):
        lines += [line[first : first + WRAP_CHARS] for first in range(0, max(1, len(line)), WRAP_CHARS)]
    return "\n".join(lines)
