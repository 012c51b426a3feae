"""One message of the transcript: the user's in a bubble, a reply as Markdown with a line of numbers below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.conversation import BROKE_OFF
from app.language import tr
from app.theme import SPACE_M, SPACE_S, SPACE_XS
from app.units import rate_text, seconds_text
from app.widgets.markdown_view import MarkdownView
from app.widgets.message_actions import MessageActions
from app.widgets.message_editor import MessageEditor
from app.widgets.text_block import TextBlock

if TYPE_CHECKING:
    from PySide6.QtCore import QEvent
    from PySide6.QtGui import QEnterEvent, QResizeEvent

    from app.conversation import Message
    from engine.messages import ErrorReport

BUBBLE_SHARE = 0.82
ESTIMATED_LINE_PX = 22
ESTIMATED_CHARS_PER_LINE = 85


class MessageView(QWidget):
    """Shows one `Message`; builds its text when asked, so that a long chat opens at once.

    Signals:
        link_clicked(str): The user wants to open an address; nothing has been opened.
        retry_requested(): Write this reply anew.
        acted(str, str): The user wants to "continue", "delete", "edit" (to this text), "previous" or "next" (version).
    """

    link_clicked = Signal(str)
    retry_requested = Signal()
    acted = Signal(str, str)

    def __init__(self, message: Message, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.message = message
        self._bubble: QFrame | None = None
        self._body: TextBlock | MarkdownView | None = None
        self._footer: _Footer | None = None
        self._actions: MessageActions | None = None
        self._editor: MessageEditor | None = None
        self._versions = (1, 1)
        self._changeable = True
        self._progress = ""
        self._retry_allowed = True
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(SPACE_XS)
        self.setMinimumHeight(_estimated_height(message.text))
        self.setAccessibleName(tr("Your message") if message.role == "user" else tr("Reply"))

    @property
    def built(self) -> bool:
        """Whether the text has its widgets."""
        return self._body is not None

    @property
    def markdown(self) -> MarkdownView | None:
        """The reply's text, once built."""
        return self._body if isinstance(self._body, MarkdownView) else None

    def build(self) -> None:
        """Make the widgets, once."""
        if self.built:
            return
        self.setMinimumHeight(0)
        if self.message.role == "user":
            self._build_user()
        else:
            self._build_reply()

    def append(self, text: str) -> None:
        """Show more text of a reply that is being written, which the message has already."""
        shown = not self.built and self.message.text.endswith(text)  # a view that is built now shows all of it
        self.build()
        self._progress = ""
        if isinstance(self._body, MarkdownView) and not shown:
            self._body.append(text)
        self.refresh_status()

    def show_progress(self, text: str) -> None:
        """Say what happens before the first token."""
        self._progress = text
        self.refresh_status()

    def end(self) -> None:
        """The reply is complete, stopped or failed."""
        self.build()
        self._progress = ""
        if isinstance(self._body, MarkdownView):
            self._body.finish()
        self.refresh_status()

    def set_retry_allowed(self, allowed: bool) -> None:
        """Whether this reply can be written anew."""
        if allowed != self._retry_allowed:
            self._retry_allowed = allowed
            self.refresh_status()

    def set_versions(self, number: int, count: int) -> None:
        """Which of several versions this is."""
        self._versions = (number, count)
        self.refresh_status()

    def set_changeable(self, changeable: bool) -> None:
        """Whether the chat may be changed, which it may not while a reply is being written."""
        if changeable != self._changeable:
            self._changeable = changeable
            self.refresh_status()

    def refresh_status(self) -> None:
        """Show the message's state and numbers."""
        if self._footer is not None:
            self._footer.show_message(self.message, self._progress)
        if self._actions is not None:
            self._actions.set_versions(*self._versions)
            self._actions.offer(self.message, last=self._retry_allowed, change=self._changeable)

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        if self._body is not None:
            self._body.restyle()
            self._fit_bubble()
        if self._actions is not None:
            self._actions.restyle()
            self.refresh_status()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the bubble's width."""
        super().resizeEvent(event)
        self._fit_bubble()

    def enterEvent(self, event: QEnterEvent) -> None:
        """Show the buttons."""
        super().enterEvent(event)
        if self._actions is not None:
            self._actions.set_near(True)

    def leaveEvent(self, event: QEvent) -> None:
        """Hide the buttons."""
        super().leaveEvent(event)
        if self._actions is not None:
            self._actions.set_near(False)

    def edit(self) -> None:
        """Let the user change the message, in its place."""
        if self._bubble is None or self._actions is None or self._editor is not None:
            return
        editor = self._editor = MessageEditor(self.message.text, self)
        editor.accepted.connect(self._accept_edit)
        editor.cancelled.connect(self.end_edit)
        self._layout.insertWidget(0, editor)
        self._bubble.hide()
        self._actions.hide()
        editor.setFocus()

    def end_edit(self) -> None:
        """Back to the message as it is."""
        editor, self._editor = self._editor, None
        if editor is not None and self._bubble is not None and self._actions is not None:
            self._layout.removeWidget(editor)
            editor.hide()
            editor.deleteLater()
            self._bubble.show()
            self._actions.show()

    def _accept_edit(self, text: str) -> None:
        if text == self.message.text.strip():
            self.end_edit()
        else:
            self.acted.emit("edit", text)

    def _build_user(self) -> None:
        bubble = QFrame(self)
        bubble.setObjectName("bubble")
        inner = QVBoxLayout(bubble)
        inner.setContentsMargins(SPACE_M + 2, SPACE_S, SPACE_M + 2, SPACE_S)
        body = TextBlock(bubble)
        body.setAccessibleName(tr("Your message"))
        inner.addWidget(body)
        row = QHBoxLayout()
        row.addStretch()
        row.addWidget(bubble)
        self._layout.addLayout(row)
        self._bubble, self._body = bubble, body
        body.show_plain(self.message.text)
        self._layout.addWidget(self._make_actions(), 0, Qt.AlignmentFlag.AlignRight)
        self.refresh_status()
        self._fit_bubble()

    def _build_reply(self) -> None:
        body = MarkdownView(self)
        body.link_clicked.connect(self.link_clicked)
        self._body = body
        self._layout.addWidget(body)
        self._footer = _Footer(self, self._make_actions())
        self._layout.addWidget(self._footer)
        if self.message.text:
            body.show_source(self.message.text)
        self.refresh_status()

    def _make_actions(self) -> MessageActions:
        actions = self._actions = MessageActions(self.message, self)
        actions.copy_requested.connect(lambda: QGuiApplication.clipboard().setText(self.message.text))
        actions.retry_requested.connect(self.retry_requested)
        actions.edit_requested.connect(self.edit)
        actions.continue_requested.connect(lambda: self.acted.emit("continue", ""))
        actions.delete_requested.connect(lambda: self.acted.emit("delete", ""))
        actions.version_requested.connect(lambda step: self.acted.emit("previous" if step < 0 else "next", ""))
        return actions

    def _fit_bubble(self) -> None:
        if self._bubble is None or not isinstance(self._body, TextBlock):
            return
        margins = 2 * (SPACE_M + 2)
        limit = max(80, int(self.width() * BUBBLE_SHARE) - margins)
        self._bubble.setFixedWidth(self._body.ideal_width(limit) + margins)


class _Footer(QWidget):
    """The small line below a reply."""

    def __init__(self, parent: QWidget, actions: MessageActions) -> None:
        super().__init__(parent)
        self._label = QLabel()
        self._label.setObjectName("dim")
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setWordWrap(True)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE_XS)
        layout.addWidget(self._label, 1)
        layout.addWidget(actions)

    def show_message(self, message: Message, progress: str) -> None:
        """Say how the reply stands."""
        self._label.setText(progress or status_text(message))
        self._label.setProperty("tone", "error" if message.state == "failed" else "")
        self._label.style().unpolish(self._label)
        self._label.style().polish(self._label)


def status_text(message: Message) -> str:
    """The line below a reply: how it ended, and its numbers."""
    parts = []
    if message.state == "partial":
        return "Writing…" if message.text else "Thinking…"
    if message.state == "failed" and message.error is not None:
        return _error_text(message.error)
    if message.state == "stopped":
        parts.append("Stopped")
    elif message.reason == "length":
        parts.append("Reached the reply limit")
    elif message.reason == "context":
        parts.append("The context is full: start a new chat with Ctrl+N")
    if message.timings is not None and message.usage is not None and message.usage.completion_tokens > 0:
        if message.timings.decode_tokens_per_s > 0:
            parts.append(rate_text(message.timings.decode_tokens_per_s))
        parts.append(f"first token after {seconds_text(message.timings.ttft_s)}")
        if message.usage.cached_tokens:
            parts.append(f"{message.usage.cached_tokens:,} prompt tokens cached")
    return "  ·  ".join(parts)


def _error_text(error: ErrorReport) -> str:
    if error.code == "engine-stopped":
        return "Broke off: the engine stopped"
    return tr("Broke off: Rooftop was closed") if error.code == BROKE_OFF else f"{error.message} {error.remedy}"


def _estimated_height(text: str) -> int:
    lines = sum(1 + len(line) // ESTIMATED_CHARS_PER_LINE for line in text.split("\n"))
    return ESTIMATED_LINE_PX * (lines + 1)
