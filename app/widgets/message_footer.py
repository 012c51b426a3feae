"""The small line below a reply: how it stands or ended, its numbers, and its buttons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QBoxLayout, QLabel, QWidget

from app.conversation import BROKE_OFF
from app.language import error_text, tr
from app.theme import SPACE_XS
from app.thoughts import split_thoughts
from app.units import number_text, rate_text, seconds_text

if TYPE_CHECKING:
    from app.conversation import Message
    from app.widgets.message_actions import MessageActions
    from engine.messages import ErrorReport

MAX_BESIDE_CHARS = 60


class MessageFooter(QWidget):
    """Shows the line beside the buttons."""

    def __init__(self, parent: QWidget, actions: MessageActions) -> None:
        super().__init__(parent)
        self._label = QLabel()
        self._label.setObjectName("dim")
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setWordWrap(True)
        layout = self._layout = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE_XS)
        layout.addWidget(self._label, 1)
        layout.addWidget(actions, 0, Qt.AlignmentFlag.AlignRight)
        self.setMinimumHeight(actions.sizeHint().height())  # the end of a reply, which shows the buttons, moves nothing

    def show_message(self, message: Message, progress: str) -> None:
        """Say how the reply stands."""
        self._label.setText(progress or status_text(message))
        long = message.state == "failed" and len(self._label.text()) > MAX_BESIDE_CHARS
        direction = QBoxLayout.Direction
        self._layout.setDirection(direction.TopToBottom if long else direction.LeftToRight)  # its buttons have words
        self._label.setProperty("tone", "error" if message.state == "failed" else "")
        self._label.style().unpolish(self._label)
        self._label.style().polish(self._label)


def status_text(message: Message) -> str:
    """The line below a reply: how it ended, and its numbers."""
    if message.state == "partial":
        if split_thoughts(message.text).thinking:
            return ""
        return tr("Writing…") if message.text else tr("Thinking…")
    if message.state == "failed" and message.error is not None:
        return _error_text(message.error)
    return "  ·  ".join([*_ending(message), *_numbers(message)])


def _ending(message: Message) -> list[str]:
    """How a reply ended, and what it was written without."""
    parts = []
    if message.state == "stopped":
        parts.append(tr("Stopped"))
    elif message.reason == "length":
        parts.append(tr("Reached the reply limit"))
    elif message.reason == "context":
        parts.append(tr("The context is full: start a new chat with Ctrl+N"))
    if message.left_out:
        parts.append(tr("Written without %n older messages, which no longer fit", message.left_out))
    return parts


def _numbers(message: Message) -> list[str]:
    """The speed of a reply."""
    parts = []
    if message.timings is not None and message.usage is not None and message.usage.completion_tokens > 0:
        if message.timings.decode_tokens_per_s > 0:
            parts.append(rate_text(message.timings.decode_tokens_per_s))
        parts.append(tr("first token after {time}").format(time=seconds_text(message.timings.ttft_s)))
        if message.usage.cached_tokens:
            cached = number_text(message.usage.cached_tokens)
            parts.append(tr("{number} prompt tokens cached").format(number=cached))
    return parts


def _error_text(error: ErrorReport) -> str:
    if error.code == "engine-stopped":
        return tr("Broke off: the engine stopped")
    return tr("Broke off: Rooftop was closed") if error.code == BROKE_OFF else error_text(error)
