"""One message of the transcript: the user's in a bubble, a reply as Markdown with a line of numbers below it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from PySide6.QtCore import QRect, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QHBoxLayout, QVBoxLayout, QWidget

from app.language import tr
from app.text_search import Needle, searchable, thought_blocks
from app.theme import SPACE_L, SPACE_XL, SPACE_XS
from app.thoughts import split_thoughts
from app.widgets.attachment_chips import TextDialog
from app.widgets.markdown_view import MarkdownView
from app.widgets.marks import HiddenText, Markable
from app.widgets.message_actions import MessageActions
from app.widgets.message_editor import MessageEditor
from app.widgets.message_footer import MessageFooter
from app.widgets.text_block import TextBlock
from app.widgets.thoughts_view import ThoughtsView
from app.widgets.user_bubble import ShowAllButton, UserBubble

if TYPE_CHECKING:
    from PySide6.QtCore import QEvent
    from PySide6.QtGui import QEnterEvent, QResizeEvent
    from PySide6.QtWidgets import QLayoutItem

    from app.conversation import Message

BUBBLE_SHARE = 0.82
ANY_WIDTH_PX = 1  # a bubble takes the width that the message gets, and must not keep a narrower window from giving less
QWIDGETSIZE_MAX = (1 << 24) - 1
ESTIMATED_LINE_PX = 22
ESTIMATED_CHARS_PER_LINE = 85
MAX_ESTIMATED_LINES = 2000
MAX_SHOWN_CHARS = 300_000


class MessageView(QWidget):
    """Shows one `Message`; builds its text when asked, so that a long chat opens at once.

    Signals:
        link_clicked(str): The user wants to open an address; nothing has been opened.
        retry_requested(): Write this reply anew.
        acted(str, str): The user wants to "continue", "delete", "edit" (to this text), "leave" the editor, show the
            "previous" or "next" version, to "compare" them all, or the "remedy" of the error that ended it.
    """

    link_clicked = Signal(str)
    retry_requested = Signal()
    acted = Signal(str, str)

    def __init__(self, message: Message, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.message = message
        self._bubble: UserBubble | None = None
        self._body: TextBlock | MarkdownView | None = None
        self._footer: MessageFooter | None = None
        self._actions: MessageActions | None = None
        self._editor: MessageEditor | None = None
        self._versions = (1, 1)
        self._changeable = True
        self._thoughts: ThoughtsView | None = None
        self._more: ShowAllButton | None = None
        self._needle = Needle("")
        self._current_match: int | None = None
        self._progress = ""
        self._retry_allowed = True
        self.setMinimumSize(ANY_WIDTH_PX, _estimated_height(message.text))
        self.setAccessibleName(tr("Your message") if message.role == "user" else tr("Reply"))

    @cached_property
    def _layout(self) -> QVBoxLayout:
        """Made with the first widget: a thousand messages that are not built need none."""
        layout = QVBoxLayout(self)
        own = self.message.role == "user"
        layout.setContentsMargins(0, SPACE_XL if own else 0, 0, 0)  # below a question, its buttons' row is the gap
        layout.setSpacing(0 if own else SPACE_XS)
        return layout

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
        self._body = self._bubble = self._footer = self._thoughts = self._more = self._actions = None
        while (item := self._layout.takeAt(0)) is not None:
            _discard(item)
        self.setFixedHeight(height)

    @property
    def has_keyboard(self) -> bool:
        """Whether the focus is on one of the buttons."""
        focus = QApplication.focusWidget()
        return self._actions is not None and focus is not None and self._actions.isAncestorOf(focus)

    def focus_versions(self) -> None:
        """Put the focus on the way to the other versions: the keyboard stays where it chose this one."""
        if self._actions is not None:
            self._actions.focus_versions()

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
        for part in (self._bubble, self._thoughts, self._actions):
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
        self._layout.setContentsMargins(0, SPACE_XL, 0, SPACE_L)  # the buttons' row, which is hidden, was the gap below
        self._bubble.hide()
        self._actions.hide()
        editor.setFocus()

    def end_edit(self) -> None:
        """Back to the message as it is."""
        editor, self._editor = self._editor, None
        if editor is not None and self._bubble is not None and self._actions is not None:
            self._layout.removeWidget(editor)
            self._layout.setContentsMargins(0, SPACE_XL, 0, 0)
            editor.hide()
            editor.deleteLater()
            self._bubble.show()
            self._actions.show()
            self.acted.emit("leave", "")

    def _accept_edit(self, text: str) -> None:
        if text == self.message.text.strip():
            self.end_edit()
        else:
            self.acted.emit("edit", text)

    def _build_user(self) -> None:
        bubble = UserBubble(self.message, self)
        bubble.whole_requested.connect(self._open_whole)
        row = QHBoxLayout()
        row.addStretch()
        row.addWidget(bubble)
        self._layout.addLayout(row)
        self._bubble, self._body = bubble, bubble.body
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
        self._more = ShowAllButton()
        self._more.clicked.connect(self._open_whole)
        self._layout.addWidget(self._more, 0, Qt.AlignmentFlag.AlignLeft)
        self._footer = MessageFooter(self, self._make_actions())
        self._layout.addWidget(self._footer)
        self._show_reply()
        self.refresh_status()

    def _make_actions(self) -> MessageActions:
        actions = self._actions = MessageActions(self.message, self)
        actions.copy_requested.connect(lambda: QGuiApplication.clipboard().setText(self.message.text))
        actions.retry_requested.connect(self.retry_requested)
        actions.edit_requested.connect(self.edit)
        actions.remedy_requested.connect(lambda: self.acted.emit("remedy", ""))
        actions.continue_requested.connect(lambda: self.acted.emit("continue", ""))
        actions.delete_requested.connect(lambda: self.acted.emit("delete", ""))
        actions.compare_requested.connect(lambda: self.acted.emit("compare", ""))
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
            self._more.show_rest(hidden_chars)
            self._more.setVisible(hidden_chars > 0 or cut)

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
            count = len(self._needle.spans(block.search_text()))
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
        if self._bubble is not None:
            self._bubble.fit(int(self.width() * BUBBLE_SHARE))


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
