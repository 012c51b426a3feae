"""The bubble of the user's own message: its text, as far as it is shown here, and the files that went along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QPushButton, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_M, SPACE_S
from app.units import number_text
from app.widgets.attachment_chips import AttachmentChips
from app.widgets.text_block import TextBlock

if TYPE_CHECKING:
    from app.conversation import Message

MARGIN_PX = SPACE_M + 2
MIN_WIDTH_PX = 80
MAX_BUBBLE_CHARS = 20_000


class ShowAllButton(QPushButton):
    """Opens the whole of a message that is too long to be laid out in its place."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("quiet")
        self.setAccessibleName(tr("Show the whole message"))
        self.setToolTip(tr("Show the whole message"))
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.hide()

    def show_rest(self, hidden_chars: int) -> None:
        """Say how much more there is; 0 where that is not a matter of characters."""
        more = tr("Show all: {count} more characters").format(count=number_text(hidden_chars))
        self.setText(more if hidden_chars > 0 else tr("Show all"))


class UserBubble(QFrame):
    """Shows one message of the user.

    Args:
        message: The message.
        parent: The owner.

    Signals:
        whole_requested(): Show the whole message.
    """

    whole_requested = Signal()

    def __init__(self, message: Message, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("bubble")
        inner = QVBoxLayout(self)
        inner.setContentsMargins(MARGIN_PX, SPACE_S, MARGIN_PX, SPACE_S)
        self.body = TextBlock(self)
        self.body.setAccessibleName(tr("Your message"))
        self.body.setVisible(bool(message.text))
        inner.addWidget(self.body)
        self._more: ShowAllButton | None = None
        self._chips: AttachmentChips | None = None
        if len(message.text) > MAX_BUBBLE_CHARS:
            self._more = ShowAllButton(self)
            self._more.show_rest(len(message.text) - MAX_BUBBLE_CHARS)
            self._more.clicked.connect(self.whole_requested)
            self._more.show()
            inner.addWidget(self._more)
        if message.attachments:
            self._chips = AttachmentChips(self)
            self._chips.show_attachments(message.attachments)
            inner.addWidget(self._chips)
        self.body.show_plain(message.text[:MAX_BUBBLE_CHARS])

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        if self._chips is not None:
            self._chips.restyle()

    def fit(self, most: int) -> None:
        """Be as wide as the content, and no wider than `most` pixels."""
        limit = max(MIN_WIDTH_PX, most - 2 * MARGIN_PX)
        others = [self._chips.natural_width] if self._chips is not None else []
        others += [self._more.sizeHint().width()] if self._more is not None else []
        wanted = max([self.body.ideal_width(limit), *others])
        self.setFixedWidth(min(limit, wanted) + 2 * MARGIN_PX)
