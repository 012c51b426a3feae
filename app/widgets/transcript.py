"""The chat's messages in a scrolling column, or an invitation while there are none.

Follows new text only while the user is at the bottom. Messages of a long chat are built when they come near the
screen; until then they hold their place with an estimate. Nothing in a message is ever loaded or opened from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QEvent, QObject, Qt, QTimer, Signal
from PySide6.QtWidgets import QPushButton, QScrollArea, QStackedLayout, QVBoxLayout, QWidget

from app.icons import icon
from app.language import tr
from app.text_search import Needle
from app.theme import SPACE_M, SPACE_S, SPACE_XL, current_theme
from app.widgets.empty_state import EmptyState
from app.widgets.message_view import MessageView

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtGui import QResizeEvent

    from app.conversation import Message
    from app.widgets.find_bar import Match

COLUMN_WIDTH = 760
BOTTOM_SLACK_PX = 8
KEEP_BUILT_SCREENS = 1.5
UNBUILD_SCREENS = 6
AHEAD_MS = 30  # what is on screen is painted by then
PAGE_SHARE = 0.9


class Transcript(QWidget):
    """Shows the messages of one chat.

    Signals:
        question_chosen(str): One of the example questions.
        link_clicked(str): The user wants to open an address; nothing has been opened.
        retry_requested(): Write the last reply anew.
        acted(Message, str, str): What the user wants with a message, as `MessageView.acted`.
        contents_changed(): Messages came, went, or one is complete.
    """

    contents_changed = Signal()
    question_chosen = Signal(str)
    link_clicked = Signal(str)
    retry_requested = Signal()
    acted = Signal(object, str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._views: list[MessageView] = []
        self._version_of: Callable[[Message], tuple[int, int]] = lambda _message: (1, 1)
        self._changeable = True
        self._following = True
        self._needle = Needle("")
        self._match: Match | None = None
        self._takes_keyboard: MessageView | None = None
        self._stack = QStackedLayout(self)
        self._welcome: QWidget | None = None
        self._empty = EmptyState(self)
        self._empty.question_chosen.connect(self.question_chosen)
        self._scroll = self._make_scroll_area()
        self._stack.addWidget(self._empty)
        self._stack.addWidget(self._scroll)
        self._jump = QPushButton(tr("Jump to latest"), self)
        self._jump.setObjectName("jump")
        self._jump.setAccessibleName(tr("Jump to the latest message"))
        self._jump.setCursor(Qt.CursorShape.PointingHandCursor)
        self._jump.clicked.connect(self.jump_to_latest)
        self._jump.hide()
        self._build_timer = QTimer(self, singleShot=True, interval=0)
        self._build_timer.timeout.connect(self._build_visible)
        self._ahead_timer = QTimer(self, singleShot=True, interval=AHEAD_MS)
        self._ahead_timer.timeout.connect(self._build_near_view)
        self.restyle()

    @property
    def views(self) -> list[MessageView]:
        """The messages' widgets, oldest first."""
        return list(self._views)

    @property
    def messages(self) -> list[Message]:
        """The messages, oldest first."""
        return [view.message for view in self._views]

    @property
    def first_visible(self) -> int:
        """Index of the message at the top of the view."""
        top = self._scroll.verticalScrollBar().value()
        return next((n for n, view in enumerate(self._views) if view.y() + view.height() > top), 0)

    def mark(self, needle: Needle, match: Match | None) -> None:
        """Mark what was found, and scroll to one match; an empty needle takes the marks away."""
        self._needle, self._match = needle, match
        for number, view in enumerate(self._views):
            view.mark(needle, match.ordinal if match is not None and match.message == number else None)
        if match is not None and match.message < len(self._views):
            self._reveal(self._views[match.message])

    @property
    def empty_state(self) -> EmptyState:
        """What is shown while there are no messages."""
        return self._empty

    def welcome(self, page: QWidget | None) -> None:
        """Show a page instead of the invitation while there are no messages; None takes it away for good."""
        old, self._welcome = self._welcome, page
        if page is not None:
            self._stack.addWidget(page)
        if not self._views:
            self._stack.setCurrentWidget(self._invitation)
        if old is not None:
            self._stack.removeWidget(old)
            old.hide()
            old.deleteLater()

    @property
    def _invitation(self) -> QWidget:
        return self._welcome or self._empty

    @property
    def following(self) -> bool:
        """Whether new text scrolls into view."""
        return self._following

    def show_messages(self, messages: list[Message]) -> None:
        """Replace all messages."""
        self.show_from(0, messages)
        self._following = True
        self._stack.setCurrentWidget(self._scroll if messages else self._invitation)
        self._build_timer.start()
        self._update_jump()
        self.contents_changed.emit()

    def add_message(self, message: Message) -> MessageView:
        """Append a message and show it."""
        view = self._add_view(message)
        view.build()
        self._stack.setCurrentWidget(self._scroll)
        self._update_retry()
        self.jump_to_latest()
        self.contents_changed.emit()
        return view

    def show_from(self, index: int, messages: list[Message]) -> None:
        """Replace the messages from a place on; what is above stays where it is."""
        gone, self._views = self._views[index:], self._views[:index]
        keyboard_here = bool(gone) and gone[0].has_keyboard
        for view in gone:
            self._column.removeWidget(view)
            view.hide()
            view.deleteLater()
        for message in messages:
            self._add_view(message)
        self._takes_keyboard = self._views[index] if keyboard_here and messages else None
        if self._views:
            self._update_retry()
            self._build_timer.start()
        else:
            self._stack.setCurrentWidget(self._invitation)
        self._update_jump()
        self.contents_changed.emit()

    def set_versions_by(self, version_of: Callable[[Message], tuple[int, int]]) -> None:
        """Ask this which version a message is, and of how many."""
        self._version_of = version_of

    def set_changeable(self, changeable: bool) -> None:
        """Whether messages may be changed now."""
        self._changeable = changeable
        for view in self._views:
            view.set_changeable(changeable)

    def jump_to_latest(self) -> None:
        """Scroll to the end and stay there."""
        self._following = True
        bar = self._scroll.verticalScrollBar()
        bar.setValue(bar.maximum())
        self._update_jump()

    def scroll_by_page(self, pages: int) -> None:
        """Scroll from the keyboard, keeping a little of the page before in sight."""
        bar = self._scroll.verticalScrollBar()
        bar.setValue(int(bar.value() + PAGE_SHARE * pages * bar.pageStep()))

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        self._jump.setIcon(icon("down", current_theme().text))
        for view in self._views:
            view.restyle()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the column centred."""
        super().resizeEvent(event)
        self._place_column()
        self._build_timer.start()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Scrolling up by wheel ends following even within the slack at the bottom."""
        if event.type() == QEvent.Type.Wheel and event.angleDelta().y() > 0:  # type: ignore[attr-defined]
            bar = self._scroll.verticalScrollBar()
            if bar.maximum() > 0:
                self._following = False
        return super().eventFilter(watched, event)

    def _make_scroll_area(self) -> QScrollArea:
        scroll = QScrollArea(self)
        scroll.setObjectName("transcript")
        scroll.setAccessibleName(tr("Chat"))
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._content = QWidget()
        self._content.setObjectName("transcriptContent")
        self._column = QVBoxLayout(self._content)
        self._column.setSpacing(0)  # each message keeps its own distance from the one above
        self._column.addStretch()
        scroll.setWidget(self._content)
        bar = scroll.verticalScrollBar()
        bar.valueChanged.connect(self._scrolled)
        bar.rangeChanged.connect(self._content_grew)
        scroll.viewport().installEventFilter(self)
        return scroll

    def _add_view(self, message: Message) -> MessageView:
        view = MessageView(message)
        view.link_clicked.connect(self.link_clicked)
        view.retry_requested.connect(self.retry_requested)
        view.acted.connect(lambda what, text: self.acted.emit(message, what, text))
        view.set_changeable(self._changeable)
        view.set_versions(*self._version_of(message))
        self._views.append(view)
        self._column.insertWidget(self._column.count() - 1, view)
        return view

    def _update_retry(self) -> None:
        """Only the last reply can be written anew."""
        for view in self._views:
            view.set_retry_allowed(view is self._views[-1])

    def _scrolled(self, value: int) -> None:
        bar = self._scroll.verticalScrollBar()
        self._following = value >= bar.maximum() - BOTTOM_SLACK_PX
        self._update_jump()
        if not self._build_timer.isActive():
            self._build_timer.start()

    def _content_grew(self, _low: int, high: int) -> None:
        if self._following:
            self._scroll.verticalScrollBar().setValue(high)
        self._update_jump()

    def _update_jump(self) -> None:
        self._jump.setVisible(bool(self._views) and not self._following)
        if not self._following:
            self._place_jump()

    def _place_column(self) -> None:
        side = max(SPACE_XL, (self.width() - COLUMN_WIDTH) // 2)
        self._column.setContentsMargins(side, SPACE_S, side, SPACE_XL)
        self._place_jump()

    def _place_jump(self) -> None:
        self._jump.adjustSize()
        self._jump.move((self.width() - self._jump.width()) // 2, self.height() - self._jump.height() - SPACE_M)
        self._jump.raise_()

    def _build_visible(self) -> None:
        """Build what is on screen; what is nearly so follows when that is painted."""
        self._unbuild_far()
        if self._build_within(0):
            self._build_timer.start()  # what is new has its height in Qt's next round: it may leave room for more
        elif not self._ahead_timer.isActive():
            self._ahead_timer.start()
        heir, self._takes_keyboard = self._takes_keyboard, None
        if heir is not None and heir.built:
            QTimer.singleShot(0, heir, heir.focus_versions)  # Qt shows what is new in its next round

    def _build_near_view(self) -> None:
        """Build what is nearly on screen, so that scrolling finds it ready."""
        self._build_within(KEEP_BUILT_SCREENS)

    def _build_within(self, screens: float) -> bool:
        """Build what is so near, keeping what the user looks at in its place; returns whether there was any."""
        bar, height = self._scroll.verticalScrollBar(), self._scroll.viewport().height()
        margin = int(height * screens)
        top, bottom = bar.value() - margin, bar.value() + height + margin
        near = [view for view in self._views if not view.built and view.y() < bottom and view.y() + view.height() > top]
        if not near:
            return False
        anchor = next((view for view in self._views if view.y() + view.height() > bar.value()), None)
        offset = anchor.y() - bar.value() if anchor is not None else 0
        following = self._following
        for view in near:
            view.build()
            self._mark_built(view)
        self._lay_out()
        if following:
            self.jump_to_latest()
        elif anchor is not None:
            bar.setValue(anchor.y() - offset)
        return True

    def _lay_out(self) -> None:
        """Give the messages their places now; the scroll area gives the column the room that it asks for."""
        QCoreApplication.sendEvent(self._content, QEvent(QEvent.Type.LayoutRequest))

    def _unbuild_far(self) -> None:
        """Give up the widgets of messages far from the screen, so that memory stays bounded in any chat."""
        bar, screen = self._scroll.verticalScrollBar(), self._scroll.viewport().height()
        top, bottom = bar.value() - UNBUILD_SCREENS * screen, bar.value() + (UNBUILD_SCREENS + 1) * screen
        for view in self._views[:-2]:
            if view.built and (view.y() > bottom or view.y() + view.height() < top):
                view.unbuild()

    def _mark_built(self, view: MessageView) -> None:
        if not self._needle.empty:
            current = self._match is not None and self._views[self._match.message : self._match.message + 1] == [view]
            view.mark(self._needle, self._match.ordinal if current and self._match is not None else None)

    def _reveal(self, view: MessageView) -> None:
        """Bring a view's current match into sight."""
        self._following = False
        bar = self._scroll.verticalScrollBar()
        if not view.built:
            bar.setValue(view.y())
            view.build()
            self._mark_built(view)
        for _ in range(2):  # what is built above moves it once
            self._lay_out()
            place = view.reveal()
            if place is None:
                return
            y, screen = view.y() + place.y(), self._scroll.viewport().height()
            if not bar.value() + SPACE_XL <= y <= bar.value() + screen - 2 * SPACE_XL:
                bar.setValue(max(0, y - screen // 3))
            self._build_near_view()
