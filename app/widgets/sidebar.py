"""The chats on the left: a new one, a search, and the list, which is drawn row by row by a delegate."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, QPoint, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QLineEdit,
    QListView,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.chat_list import ENTRY_ROLE, ChatListModel
from app.icons import icon
from app.language import tr
from app.theme import SPACE_S, SPACE_XS, current_theme
from app.widgets.chat_row import ChatRowDelegate

if TYPE_CHECKING:
    from PySide6.QtGui import QKeyEvent

    from app.history import ChatEntry
    from app.history_search import Found

Index = QModelIndex | QPersistentModelIndex
SEARCH_DELAY_MS = 150
MIN_WIDTH, WIDTH, MAX_WIDTH = 180, 248, 420


class Sidebar(QFrame):
    """All chats.

    Signals:
        new_requested(): Begin a chat.
        open_requested(str): Show this chat.
        search_requested(str): Look for words.
        rename_requested(str, str): Name a chat.
        pin_requested(str, bool): Keep a chat at the top, or no longer.
        move_requested(str, str): Put a chat into a folder, "" for none.
        export_requested(str): Write a chat to a file.
        delete_requested(str): Delete a chat.
        delete_all_requested(): Delete every chat, once the user has agreed.
        left(): The user is done here; the keyboard goes back to the message field.
    """

    new_requested = Signal()
    open_requested = Signal(str)
    search_requested = Signal(str)
    rename_requested = Signal(str, str)
    pin_requested = Signal(str, bool)
    move_requested = Signal(str, str)
    export_requested = Signal(str)
    delete_requested = Signal(str)
    delete_all_requested = Signal()
    left = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sidebar")
        self.setAccessibleName(tr("Chats"))
        self.setMinimumWidth(MIN_WIDTH)
        self.setMaximumWidth(MAX_WIDTH)
        self._shown = ""
        self.model = ChatListModel()
        self.model.renamed.connect(self.rename_requested)
        self.model.modelReset.connect(self._mark_shown)
        self._new = QPushButton(tr("New chat"))
        self._new.setAccessibleName(tr("New chat"))
        self._new.setToolTip(tr("New chat (Ctrl+N)"))
        self._new.clicked.connect(self.new_requested)
        self.search_field = _SearchField()
        self.search_field.textChanged.connect(self._search_changed)
        self.search_field.stepped.connect(self._into_list)
        self.search_field.escaped.connect(self._escape)
        self.list = _ChatList(self.model)
        self.list.chosen.connect(self.open_requested)
        self.list.delete_pressed.connect(self.delete_requested)
        self.list.escaped.connect(self.left)
        self.list.customContextMenuRequested.connect(self._show_menu)
        self._nothing = QLabel()
        self._nothing.setObjectName("dim")
        self._nothing.setWordWrap(True)
        self._nothing.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignHCenter)
        self._folders: list[str] = []
        self._timer = QTimer(self, singleShot=True, interval=SEARCH_DELAY_MS)
        self._timer.timeout.connect(lambda: self.search_requested.emit(self.query))
        self._arrange()
        self.restyle()
        self._tell_nothing()

    @property
    def query(self) -> str:
        """What is being looked for."""
        return self.search_field.text().strip()

    def sizeHint(self) -> QSize:
        """The width at first."""
        return QSize(WIDTH, super().sizeHint().height())

    def show_entries(self, entries: list[ChatEntry], folders: list[str]) -> None:
        """Take the chats, the one written in last first."""
        self._folders = folders
        self.model.show_entries(entries)
        self._tell_nothing()

    def show_found(self, query: str, found: list[Found]) -> None:
        """Show what a search found, if it is still wanted."""
        if query == self.query:
            self.model.show_found(found if query else None)
            self._tell_nothing()

    def show_current(self, key: str) -> None:
        """Mark the chat that is shown."""
        self._shown = key
        self._mark_shown()

    def set_busy(self, key: str) -> None:
        """Mark the chat that a reply is being written in, "" for none."""
        self.model.set_busy(key)

    def focus_search(self) -> None:
        """Let the user type what to look for."""
        self.search_field.setFocus()
        self.search_field.selectAll()

    def menu_for(self, entry: ChatEntry) -> QMenu:
        """What can be done with a chat."""
        menu = QMenu(self)
        menu.addAction(tr("Open"), lambda: self.open_requested.emit(entry.key))
        rename = menu.addAction(tr("Rename"), lambda: self._rename(entry.key))
        rename.setShortcut(QKeySequence("F2"))
        text = tr("Unpin") if entry.pinned else tr("Pin to the top")
        menu.addAction(text, lambda: self.pin_requested.emit(entry.key, not entry.pinned))
        folders = menu.addMenu(tr("Move to folder"))
        for folder in self._folders:
            action = folders.addAction(folder.replace("&", "&&"))
            action.triggered.connect(partial(self._move, entry.key, folder))
            action.setCheckable(True)
            action.setChecked(folder == entry.folder)
        if self._folders:
            folders.addSeparator()
        folders.addAction(tr("New folder…"), lambda: self._ask_folder(entry.key))
        if entry.folder:
            folders.addAction(tr("Out of its folder"), lambda: self.move_requested.emit(entry.key, ""))
        menu.addAction(tr("Export…"), lambda: self.export_requested.emit(entry.key))
        menu.addSeparator()
        delete = menu.addAction(tr("Delete"), lambda: self.delete_requested.emit(entry.key))
        delete.setShortcut(QKeySequence("Del"))
        menu.addAction(tr("Delete all chats…"), self.delete_all_requested.emit)
        return menu

    def restyle(self) -> None:
        """Take the theme in force."""
        self._new.setIcon(icon("new-chat", current_theme().text))
        self.search_field.restyle()
        self.list.viewport().update()

    def _arrange(self) -> None:
        top = QHBoxLayout()
        top.addWidget(self._new, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_S, SPACE_S, SPACE_S, SPACE_XS)
        layout.setSpacing(SPACE_S)
        layout.addLayout(top)
        layout.addWidget(self.search_field)
        layout.addWidget(self._nothing)
        layout.addWidget(self.list, 1)

    def _search_changed(self) -> None:
        if self.query:
            self._timer.start()
        else:
            self._timer.stop()
            self.model.show_found(None)
            self._tell_nothing()

    def _tell_nothing(self) -> None:
        empty = self.model.rowCount() <= (1 if self.query else 0)
        self._nothing.setText(tr("No chat has these words.") if self.query else tr("Your chats will be listed here."))
        self._nothing.setVisible(empty)
        self.list.setVisible(not empty)

    def _mark_shown(self) -> None:
        row = self.model.row_of(self._shown)
        selection = self.list.selectionModel()
        if row < 0:
            selection.clear()
        else:
            self.list.setCurrentIndex(self.model.index(row))

    def _into_list(self, opens: bool) -> None:
        """From the search field to the first chat, or straight into it."""
        first = next((r for r in range(self.model.rowCount()) if self.model.index(r).data(ENTRY_ROLE) is not None), -1)
        if first < 0:
            return
        self.list.setCurrentIndex(self.model.index(first))
        self.list.setFocus()
        if opens:
            self.open_requested.emit(self.model.index(first).data(ENTRY_ROLE).key)

    def _escape(self) -> None:
        """Esc ends the search, then leaves."""
        if self.query:
            self.search_field.clear()
        else:
            self.left.emit()

    def _rename(self, key: str) -> None:
        row = self.model.row_of(key)
        if row >= 0:
            self.list.setCurrentIndex(self.model.index(row))
            self.list.edit(self.model.index(row))

    def _move(self, key: str, folder: str, _checked: bool = False) -> None:
        self.move_requested.emit(key, folder)

    def _ask_folder(self, key: str) -> None:
        dialog = QInputDialog(self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setWindowTitle(tr("New folder"))
        dialog.setLabelText(tr("Name of the folder"))
        dialog.textValueSelected.connect(lambda name: self.move_requested.emit(key, name))
        dialog.open()

    def _show_menu(self, place: QPoint) -> None:
        index = self.list.indexAt(place) if not place.isNull() else self.list.currentIndex()
        entry = index.data(ENTRY_ROLE) if index.isValid() else None
        if entry is not None:
            menu = self.menu_for(entry)
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.popup(self.list.viewport().mapToGlobal(place))


class _SearchField(QLineEdit):
    """Where to type what to look for."""

    stepped = Signal(bool)
    escaped = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setPlaceholderText(tr("Search chats"))
        self.setAccessibleName(tr("Search chats (Ctrl+K)"))
        self.setToolTip(tr("Search chats (Ctrl+K)"))
        self.setClearButtonEnabled(True)
        self._action = self.addAction(
            icon("search", current_theme().text_dim), QLineEdit.ActionPosition.LeadingPosition
        )

    def restyle(self) -> None:
        """Take the theme's icon colour."""
        self._action.setIcon(icon("search", current_theme().text_dim))

    def event(self, event: QEvent) -> bool:
        """Escape belongs to this field, not to the window."""
        if event.type() == QEvent.Type.ShortcutOverride and event.key() == Qt.Key.Key_Escape:  # type: ignore[attr-defined]
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Down goes to the list, Enter opens the first, Escape leaves."""
        if event.key() == Qt.Key.Key_Down:
            self.stepped.emit(False)  # noqa: FBT003 - a signal takes no names
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.stepped.emit(True)  # noqa: FBT003
        elif event.key() == Qt.Key.Key_Escape:
            self.escaped.emit()
        else:
            super().keyPressEvent(event)


class _ChatList(QListView):
    """The rows; a click or Enter opens a chat."""

    chosen = Signal(str)
    delete_pressed = Signal(str)
    escaped = Signal()

    def __init__(self, model: ChatListModel) -> None:
        super().__init__()
        self.setObjectName("chats")
        self.setAccessibleName(tr("List of chats"))
        self.setModel(model)
        self.setItemDelegate(ChatRowDelegate(self))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setMouseTracking(True)
        self.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.clicked.connect(self._open)

    def event(self, event: QEvent) -> bool:
        """Escape belongs to the list, not to the window."""
        if event.type() == QEvent.Type.ShortcutOverride and event.key() == Qt.Key.Key_Escape:  # type: ignore[attr-defined]
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter opens, Delete deletes, Escape leaves; Backspace does nothing."""
        key, index = event.key(), self.currentIndex()
        if self.state() == QAbstractItemView.State.EditingState:
            super().keyPressEvent(event)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._open(index)
        elif key == Qt.Key.Key_Delete and index.isValid() and index.data(ENTRY_ROLE) is not None:
            self.delete_pressed.emit(index.data(ENTRY_ROLE).key)
        elif key == Qt.Key.Key_Escape:
            self.escaped.emit()
        else:
            super().keyPressEvent(event)

    def _open(self, index: Index) -> None:
        entry = index.data(ENTRY_ROLE) if index.isValid() else None
        if entry is not None:
            self.chosen.emit(entry.key)
