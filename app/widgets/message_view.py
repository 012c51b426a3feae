"""One message of the transcript: the user's in a bubble, a reply as Markdown with a line of numbers below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QRect, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from app.conversation import BROKE_OFF
from app.language import tr
from app.text_search import Needle, searchable, thought_blocks
from app.theme import SPACE_M, SPACE_S, SPACE_XS
from app.thoughts import split_thoughts
from app.units import number_text, rate_text, seconds_text
from app.widgets.attachment_chips import AttachmentChips, TextDialog
from app.widgets.markdown_view import MarkdownView
from app.widgets.marks import HiddenText, Markable
from app.widgets.message_actions import MessageActions
from app.widgets.message_editor import MessageEditor
from app.widgets.text_block import TextBlock
from app.widgets.thoughts_view import ThoughtsView

if TYPE_CHECKING:
    from PySide6.QtCore import QEvent
    from PySide6.QtGui import QEnterEvent, QResizeEvent
    from PySide6.QtWidgets import QLayoutItem

    from app.conversation import Message
    from engine.messages import ErrorReport

BUBBLE_SHARE = 0.82
QWIDGETSIZE_MAX = (1 << 24) - 1
ESTIMATED_LINE_PX = 22
ESTIMATED_CHARS_PER_LINE = 85
MAX_ESTIMATED_LINES = 2000
MAX_SHOWN_CHARS = 300_000
MAX_BUBBLE_CHARS = 20_000


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
        self._thoughts: ThoughtsView | None = None
        self._chips: AttachmentChips | None = None
        self._more: QPushButton | None = None
        self._needle = Needle("")
        self._current_match: int | None = None
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
        self.setMaximumHeight(QWIDGETSIZE_MAX)
        if self.message.role == "user":
            self._build_user()
        else:
            self._build_reply()

    def unbuild(self) -> None:
        """Give the widgets up and keep their place; what is written or edited now, or has the focus, stays."""
        focus = self.focusWidget()
        busy = self.message.state == "partial" or self._editor is not None
        if not self.built or busy or (focus is not None and focus.hasFocus()):
            return
        height = self.height()
        self._body = self._bubble = self._footer = self._thoughts = self._chips = self._more = self._actions = None
        while (item := self._layout.takeAt(0)) is not None:
            _discard(item)
        self.setFixedHeight(height)

    def append(self, _text: str) -> None:
        """The message got more text while it is being written."""
        self._progress = ""
        if self.built and isinstance(self._body, MarkdownView):
            self._grow()
        else:
            self.build()
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
            self._show_reply()
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
        for part in (self._thoughts, self._chips, self._actions):
            if part is not None:
                part.restyle()
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
        body.setVisible(bool(self.message.text))
        if len(self.message.text) > MAX_BUBBLE_CHARS:
            self._more = self._more_button(len(self.message.text) - MAX_BUBBLE_CHARS)
            inner.addWidget(self._more)
        if self.message.attachments:
            self._chips = AttachmentChips(bubble)
            self._chips.show_attachments(self.message.attachments)
            inner.addWidget(self._chips)
        row = QHBoxLayout()
        row.addStretch()
        row.addWidget(bubble)
        self._layout.addLayout(row)
        self._bubble, self._body = bubble, body
        body.show_plain(self.message.text[:MAX_BUBBLE_CHARS])
        self._layout.addWidget(self._make_actions(), 0, Qt.AlignmentFlag.AlignRight)
        self.refresh_status()
        self._fit_bubble()

    def _build_reply(self) -> None:
        body = MarkdownView(self)
        body.link_clicked.connect(self.link_clicked)
        self._body = body
        self._thoughts = ThoughtsView(self)
        self._thoughts.link_clicked.connect(self.link_clicked)
        self._thoughts.hide()
        self._layout.addWidget(self._thoughts)
        self._layout.addWidget(body)
        self._more = self._more_button(0)
        self._layout.addWidget(self._more, 0, Qt.AlignmentFlag.AlignLeft)
        self._footer = _Footer(self, self._make_actions())
        self._layout.addWidget(self._footer)
        self._show_reply()
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

    def _show_reply(self) -> None:
        """Show all there is of a reply."""
        reply = split_thoughts(self.message.text)
        self._show_thoughts(reply.thoughts, thinking=reply.thinking and self.message.state == "partial")
        assert isinstance(self._body, MarkdownView)
        if self.message.state == "partial":
            self._body.append(reply.answer[len(self._body.source) : MAX_SHOWN_CHARS])
        else:
            self._body.show_source(reply.answer[:MAX_SHOWN_CHARS])
        self._show_rest(len(reply.answer) - MAX_SHOWN_CHARS)
        self._show_marks()

    def _grow(self) -> None:
        """Show what is new of a reply that is being written."""
        reply = split_thoughts(self.message.text)
        assert isinstance(self._body, MarkdownView)
        shown = self._body.source
        if reply.thoughts or (shown and not reply.answer):
            self._show_thoughts(reply.thoughts, thinking=reply.thinking)
        answer = reply.answer.replace("\r", "")
        if not answer.startswith(shown):
            self._body.show_source("")  # what looked like an answer were thoughts
            shown = ""
        self._body.append(answer[len(shown) : MAX_SHOWN_CHARS])
        self._show_rest(len(answer) - MAX_SHOWN_CHARS)

    def _show_thoughts(self, thoughts: str, *, thinking: bool) -> None:
        if self._thoughts is not None and (thoughts or thinking):
            self._thoughts.show()
            self._thoughts.show_thoughts(thoughts[:MAX_SHOWN_CHARS], thinking=thinking)

    def _show_rest(self, hidden_chars: int) -> None:
        cut = isinstance(self._body, MarkdownView) and self._body.cut
        if self._more is not None:
            self._more.setVisible(hidden_chars > 0 or cut)
            more = tr("Show all: {count} more characters").format(count=number_text(hidden_chars))
            self._more.setText(more if hidden_chars > 0 else tr("Show all"))

    def _more_button(self, hidden_chars: int) -> QPushButton:
        """Opens the whole of a message that is too long to be laid out here."""
        button = _quiet_button(
            tr("Show all: {count} more characters").format(count=number_text(hidden_chars)),
            tr("Show the whole message"),
        )
        button.setVisible(hidden_chars > 0)
        button.clicked.connect(self._open_whole)
        return button

    def _open_whole(self) -> None:
        dialog = TextDialog(tr("Message"), self.message.text, self.window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    # ---- finding ------------------------------------------------------------------------------------------------

    def mark(self, needle: Needle, current: int | None) -> None:
        """Mark matches, one of them as the current one; an empty needle takes the marks away."""
        if needle.empty and self._needle.empty:
            return
        self._needle, self._current_match = needle, current
        self._show_marks()

    def reveal(self) -> QRect | None:
        """Where the current match is, in this widget; unfolds what hides it."""
        if self._current_match is None or not self.built:
            return None
        blocks, first = self._marked_blocks(), self._current_match
        for block in blocks:
            count = len(self._needle.spans(block.toPlainText()))
            if first < count:
                assert isinstance(block, QWidget), "what hides a match was unfolded"
                return QRect(block.mapTo(self, block.match_rect(first).topLeft()), block.match_rect(first).size())
            first -= count
        return None

    def _show_marks(self) -> None:
        """Hand each text its share of the marks."""
        if not self.built:
            return
        self._unfold_for_match()
        current = self._current_match
        for block in self._marked_blocks():
            count = block.show_marks(self._needle, current)
            if current is not None:
                current = current - count if current >= count else None

    def _unfold_for_match(self) -> None:
        if self._thoughts is None or self._current_match is None or self._thoughts.unfolded:
            return
        folded = searchable(self.message)[: thought_blocks(self.message)]
        if self._current_match < self._needle.count(folded):
            self._thoughts.unfold()

    def _marked_blocks(self) -> list[Markable]:
        """The texts in the order of `searchable`; those of folded thoughts stand for themselves without widgets."""
        if isinstance(self._body, TextBlock):
            return [self._body]
        assert isinstance(self._body, MarkdownView)
        thoughts: list[Markable] = []
        if self._thoughts is not None and self.message.role == "assistant":
            if self._thoughts.body is not None:
                thoughts = list(self._thoughts.body.markable)
            else:
                thoughts = [HiddenText(text) for text in searchable(self.message)[: thought_blocks(self.message)]]
        return [*thoughts, *self._body.markable]

    def _fit_bubble(self) -> None:
        if self._bubble is None or not isinstance(self._body, TextBlock):
            return
        margins = 2 * (SPACE_M + 2)
        limit = max(80, int(self.width() * BUBBLE_SHARE) - margins)
        others = [self._chips.natural_width] if self._chips is not None else []
        others += [self._more.sizeHint().width()] if self._more is not None else []
        wanted = max([self._body.ideal_width(limit), *others])
        self._bubble.setFixedWidth(min(limit, wanted) + margins)


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
    if message.state == "partial":
        if split_thoughts(message.text).thinking:
            return ""
        return "Writing…" if message.text else "Thinking…"
    if message.state == "failed" and message.error is not None:
        return _error_text(message.error)
    return "  ·  ".join([*_ending(message), *_numbers(message)])


def _ending(message: Message) -> list[str]:
    """How a reply ended, and what it was written without."""
    parts = []
    if message.state == "stopped":
        parts.append("Stopped")
    elif message.reason == "length":
        parts.append("Reached the reply limit")
    elif message.reason == "context":
        parts.append("The context is full: start a new chat with Ctrl+N")
    if message.left_out:
        parts.append(tr("Written without %n older messages, which no longer fit", message.left_out))
    return parts


def _numbers(message: Message) -> list[str]:
    """The speed of a reply."""
    parts = []
    if message.timings is not None and message.usage is not None and message.usage.completion_tokens > 0:
        if message.timings.decode_tokens_per_s > 0:
            parts.append(rate_text(message.timings.decode_tokens_per_s))
        parts.append(f"first token after {seconds_text(message.timings.ttft_s)}")
        if message.usage.cached_tokens:
            parts.append(f"{message.usage.cached_tokens:,} prompt tokens cached")
    return parts


def _error_text(error: ErrorReport) -> str:
    if error.code == "engine-stopped":
        return "Broke off: the engine stopped"
    return tr("Broke off: Rooftop was closed") if error.code == BROKE_OFF else f"{error.message} {error.remedy}"


def _quiet_button(text: str, accessible_name: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName("quiet")
    button.setAccessibleName(accessible_name)
    button.setToolTip(accessible_name)
    button.setCursor(Qt.CursorShape.PointingHandCursor)
    return button


def _estimated_height(text: str) -> int:
    lines = text.count("\n") + 1 + len(text) // ESTIMATED_CHARS_PER_LINE
    return ESTIMATED_LINE_PX * (min(lines, MAX_ESTIMATED_LINES) + 1)


def _discard(item: QLayoutItem) -> None:
    """Delete a widget, or the widgets of a row."""
    inner, widget = item.layout(), item.widget()
    if widget is not None:
        widget.hide()
        widget.deleteLater()
    while inner is not None and (part := inner.takeAt(0)) is not None:
        _discard(part)
