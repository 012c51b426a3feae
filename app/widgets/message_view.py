"""One message of the transcript: the user's in a bubble, a reply as Markdown with a line of numbers below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from app.icons import icon
from app.theme import SPACE_M, SPACE_S, SPACE_XS, current_theme
from app.units import rate_text, seconds_text
from app.widgets.markdown_view import MarkdownView
from app.widgets.text_block import TextBlock

if TYPE_CHECKING:
    from PySide6.QtGui import QResizeEvent

    from app.conversation import Message

BUBBLE_SHARE = 0.82
COPIED_MS = 1500
ESTIMATED_LINE_PX = 22
ESTIMATED_CHARS_PER_LINE = 85


class MessageView(QWidget):
    """Shows one `Message`; builds its text when asked, so that a long chat opens at once.

    Signals:
        link_clicked(str): The user wants to open an address; nothing has been opened.
        retry_requested(): Write this reply anew.
    """

    link_clicked = Signal(str)
    retry_requested = Signal()

    def __init__(self, message: Message, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.message = message
        self._bubble: QFrame | None = None
        self._body: TextBlock | MarkdownView | None = None
        self._footer: _Footer | None = None
        self._progress = ""
        self._retry_allowed = True
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(SPACE_XS)
        self.setMinimumHeight(_estimated_height(message.text))
        self.setAccessibleName("Your message" if message.role == "user" else "Reply")

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
        """Show more text of a reply that is being written."""
        self.build()
        self._progress = ""
        if isinstance(self._body, MarkdownView):
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
        self._retry_allowed = allowed
        self.refresh_status()

    def refresh_status(self) -> None:
        """Show the message's state and numbers."""
        if self._footer is not None:
            self._footer.show_message(self.message, self._progress, retry_allowed=self._retry_allowed)

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        if self._body is not None:
            self._body.restyle()
            self._fit_bubble()
        if self._footer is not None:
            self._footer.restyle()
            self.refresh_status()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the bubble's width."""
        super().resizeEvent(event)
        self._fit_bubble()

    def _build_user(self) -> None:
        bubble = QFrame(self)
        bubble.setObjectName("bubble")
        inner = QVBoxLayout(bubble)
        inner.setContentsMargins(SPACE_M + 2, SPACE_S, SPACE_M + 2, SPACE_S)
        body = TextBlock(bubble)
        body.setAccessibleName("Your message")
        inner.addWidget(body)
        row = QHBoxLayout()
        row.addStretch()
        row.addWidget(bubble)
        self._layout.addLayout(row)
        self._bubble, self._body = bubble, body
        body.show_plain(self.message.text)
        self._fit_bubble()

    def _build_reply(self) -> None:
        body = MarkdownView(self)
        body.link_clicked.connect(self.link_clicked)
        self._body = body
        self._layout.addWidget(body)
        self._footer = _Footer(self)
        self._footer.copy_requested.connect(lambda: QGuiApplication.clipboard().setText(self.message.text))
        self._footer.retry_requested.connect(self.retry_requested)
        self._layout.addWidget(self._footer)
        if self.message.text:
            body.show_source(self.message.text)
        self.refresh_status()

    def _fit_bubble(self) -> None:
        if self._bubble is None or not isinstance(self._body, TextBlock):
            return
        margins = 2 * (SPACE_M + 2)
        limit = max(80, int(self.width() * BUBBLE_SHARE) - margins)
        self._bubble.setFixedWidth(self._body.ideal_width(limit) + margins)


class _Footer(QWidget):
    """The small line below a reply."""

    copy_requested = Signal()
    retry_requested = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._label = QLabel()
        self._label.setObjectName("dim")
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setWordWrap(True)
        self._copy = _quiet_button("Copy", "Copy this reply")
        self._copy.clicked.connect(self._copied)
        self._retry = _quiet_button("Regenerate", "Write this reply anew")
        self._retry.clicked.connect(self.retry_requested)
        self._timer = QTimer(self, singleShot=True, interval=COPIED_MS)
        self._timer.timeout.connect(lambda: self._copy.setText("Copy"))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE_XS)
        layout.addWidget(self._label, 1)
        layout.addWidget(self._retry)
        layout.addWidget(self._copy)
        self.restyle()

    def show_message(self, message: Message, progress: str, *, retry_allowed: bool) -> None:
        """Say how the reply stands."""
        self._label.setText(progress or status_text(message))
        self._label.setProperty("tone", "error" if message.state == "failed" else "")
        self._label.style().unpolish(self._label)
        self._label.style().polish(self._label)
        done = message.state != "partial"
        self._copy.setVisible(done and bool(message.text))
        self._retry.setVisible(done and retry_allowed)
        self._retry.setText("Retry" if message.state == "failed" else "Regenerate")

    def restyle(self) -> None:
        """Take the theme's icon colour."""
        colour = current_theme().text_dim
        self._copy.setIcon(icon("copy", colour))
        self._retry.setIcon(icon("retry", colour))

    def _copied(self) -> None:
        self.copy_requested.emit()
        self._copy.setText("Copied")
        self._timer.start()


def status_text(message: Message) -> str:
    """The line below a reply: how it ended, and its numbers."""
    parts = []
    if message.state == "partial":
        return "Writing…" if message.text else "Thinking…"
    if message.state == "failed" and message.error is not None:
        if message.error.code == "engine-stopped":
            return "Broke off: the engine stopped"
        return f"{message.error.message} {message.error.remedy}"
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


def _quiet_button(text: str, accessible_name: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName("quiet")
    button.setAccessibleName(accessible_name)
    button.setToolTip(accessible_name)
    button.setCursor(Qt.CursorShape.PointingHandCursor)
    return button


def _estimated_height(text: str) -> int:
    lines = sum(1 + len(line) // ESTIMATED_CHARS_PER_LINE for line in text.split("\n"))
    return ESTIMATED_LINE_PX * (lines + 1)
