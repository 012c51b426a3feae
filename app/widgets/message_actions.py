"""What can be done with a message: small buttons that show themselves when the pointer or the keyboard is near."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QHBoxLayout, QLabel, QToolButton, QWidget

from app.conversation import can_continue
from app.error_actions import offer_text, reply_offer
from app.icons import icon
from app.language import tr
from app.theme import SPACE_XS, current_theme

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.conversation import Message
    from app.error_actions import Offer

ICON_PX = 16
COPIED_MS = 1500


class MessageActions(QWidget):
    """The row of buttons of one message.

    Args:
        message: Whose buttons these are.
        parent: The message's view.

    Signals:
        copy_requested(): Put the text on the clipboard.
        edit_requested(): Change the user's own message.
        retry_requested(): Write the reply anew.
        remedy_requested(): Do what helps with the error that the reply ended with.
        continue_requested(): Let the reply go on.
        delete_requested(): Take the message out of the chat.
        compare_requested(): Show all versions beside each other.
        version_requested(int): Show the version before (-1) or after (1) this one.
    """

    copy_requested = Signal()
    edit_requested = Signal()
    retry_requested = Signal()
    remedy_requested = Signal()
    continue_requested = Signal()
    delete_requested = Signal()
    compare_requested = Signal()
    version_requested = Signal(int)

    def __init__(self, message: Message, parent: QWidget) -> None:
        super().__init__(parent)
        own = message.role == "user"
        self._icons: dict[QToolButton, str] = {}
        self._shown = self._focused = False
        self._icons_visible: bool | None = None
        self._stays = False
        self._previous = self._make("previous", tr("Previous version"), lambda: self.version_requested.emit(-1))
        self._count = QLabel()
        self._count.setObjectName("dim")
        self._next = self._make("next", tr("Next version"), lambda: self.version_requested.emit(1))
        self._compare = self._make("compare", tr("Show versions side by side"), self.compare_requested.emit)
        self._versions = 1
        self._continue = self._make("continue", tr("Continue this reply"), self.continue_requested.emit)
        self._retry = self._make("retry", tr("Write this reply anew"), self.retry_requested.emit)
        self._remedy = self._make("", tr("What helps"), self.remedy_requested.emit)
        self._remedy.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        self._copy = self._make("copy", tr("Copy this message") if own else tr("Copy this reply"), self._copied)
        self._edit = self._make("edit", tr("Edit this message"), self.edit_requested.emit)
        self._delete = self._make("delete", tr("Delete this message and what follows"), self.delete_requested.emit)
        self._timer = QTimer(self, singleShot=True, interval=COPIED_MS)
        self._timer.timeout.connect(self._not_copied)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE_XS // 2)
        layout.addWidget(self._previous)
        layout.addWidget(self._count)
        layout.addWidget(self._next)
        layout.addWidget(self._compare)
        for button in (self._remedy, self._continue, self._retry, self._edit, self._copy, self._delete):
            layout.addWidget(button)
        self.set_versions(1, 1)
        self.restyle()

    def set_versions(self, number: int, count: int) -> None:
        """This is one of several versions; a single one needs no arrows."""
        for widget in (self._previous, self._count, self._next):
            widget.setVisible(count > 1)
        self._versions = count
        self._count.setText(f"{number} / {count}")
        self._count.setAccessibleName(tr("Version {number} of {count}").format(number=number, count=count))
        self._previous.setEnabled(number > 1)
        self._next.setEnabled(number < count)

    def offer(self, message: Message, *, last: bool, change: bool) -> None:
        """Show the buttons that make sense now.

        Args:
            message: As it stands.
            last: Whether it ends the chat.
            change: Whether the chat may be changed now.
        """
        reply, failed = message.role == "assistant", message.state == "failed"
        self._copy.setVisible(bool(message.text) and message.state != "partial")
        self._retry.setVisible(reply and last and change)
        self._retry.setText(tr("Retry") if failed else "")
        with_text = Qt.ToolButtonStyle.ToolButtonTextBesideIcon
        self._retry.setToolButtonStyle(with_text if failed else Qt.ToolButtonStyle.ToolButtonIconOnly)
        self._offer_remedy(reply_offer(message.error) if failed and last and change else None)
        self._continue.setVisible(last and change and can_continue(message))
        self._compare.setVisible(self._versions > 1 and change)
        self._edit.setVisible(not reply and change)
        self._delete.setVisible(change)
        self._stays = last and reply
        self._show_icons()

    def _offer_remedy(self, offer: Offer | None) -> None:
        """The button that helps with an error, where one does."""
        self._remedy.setVisible(offer is not None)
        if offer is not None:
            self._remedy.setText(offer_text(offer))
            self._remedy.setAccessibleName(offer_text(offer))
            self._remedy.setToolTip("")

    def focus_versions(self) -> None:
        """Put the focus on the way to the version before, or to the one after the first."""
        way = self._previous if self._previous.isEnabled() else self._next
        if way.isVisible():
            way.setFocus(Qt.FocusReason.OtherFocusReason)

    def set_near(self, near: bool) -> None:
        """The pointer came to the message, or left it."""
        self._shown = near
        self._show_icons()

    def restyle(self) -> None:
        """Take the theme's icon colour."""
        self._icons_visible = None
        self._show_icons()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """The keyboard came to a button, or left it."""
        if event.type() in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
            self._focused = event.type() == QEvent.Type.FocusIn
            self._show_icons()
        return super().eventFilter(watched, event)

    def _make(self, drawing: str, text: str, run: Callable[[], object]) -> QToolButton:
        button = QToolButton(self)
        button.setObjectName("action")
        button.setAccessibleName(text)
        button.setToolTip(text)
        button.setIconSize(QSize(ICON_PX, ICON_PX))
        button.setCursor(Qt.CursorShape.PointingHandCursor)
        button.clicked.connect(lambda _checked=False: run())
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        button.installEventFilter(self)
        self._icons[button] = drawing
        return button

    def _copied(self) -> None:
        self.copy_requested.emit()
        self._icons[self._copy] = "check"
        self._copy.setToolTip(tr("Copied"))
        self.restyle()
        self._timer.start()

    def _not_copied(self) -> None:
        self._icons[self._copy] = "copy"
        self._copy.setToolTip(self._copy.accessibleName())
        self.restyle()

    def _show_icons(self) -> None:
        """Buttons that are not shown keep their place and stay within reach of the keyboard."""
        visible = self._shown or self._stays or self._focused
        if visible == self._icons_visible:
            return
        self._icons_visible = visible
        colour = current_theme().text_dim
        for button, drawing in self._icons.items():
            always = button in (self._previous, self._next, self._compare)
            if drawing:
                button.setIcon(icon(drawing, colour) if visible or always else QIcon())
