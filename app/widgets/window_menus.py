"""The window's menus and shortcuts: what they are called, their keys, and what of the window they reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtGui import QAction, QActionGroup, QKeySequence

from app.language import tr
from app.theme import ZOOM_STEP

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QMenu

    from app.theme import ThemeManager
    from app.widgets.main_window import MainWindow


class WindowMenus:
    """Fills the menu bar.

    Args:
        window: What the entries reach; owns them.
        themes: For the View menu.

    Attributes:
        undo_delete: Brings a deleted chat back; disabled while there is none.
        sidebar: Shows the list of chats.
        panel: Shows the live panel.
        tray: Keeps the window in the tray.
    """

    undo_delete: QAction
    sidebar: QAction
    panel: QAction
    tray: QAction

    def __init__(self, window: MainWindow, themes: ThemeManager) -> None:
        self._window, self._themes = window, themes
        self._fill()

    def show_theme(self) -> None:
        """Mark the theme in force."""
        for action in self._theme_group.actions():
            action.setChecked(action.data() == self._themes.mode)

    def _fill(self) -> None:
        window, chat = self._window, self._window.chat
        bar = window.menuBar()
        bar.setAccessibleName(tr("Menu"))
        self._fill_file_menu(bar.addMenu(tr("&File")))
        self._fill_view_menu(bar.addMenu(tr("&View")))
        self._fill_help_menu(bar.addMenu(tr("&Help")))
        for keys, text, run in (
            ("Esc", tr("Stop the reply, or take a waiting message back"), window.escape),
            ("F3", tr("Next match in this chat"), lambda: chat.find_bar.step(1)),
            ("Shift+F3", tr("Previous match in this chat"), lambda: chat.find_bar.step(-1)),
            ("Ctrl+L", tr("Go to the message field"), chat.composer.setFocus),
            ("Ctrl+K", tr("Search chats"), window.search_chats),
            ("Ctrl+PgUp", tr("The chat above"), lambda: window.step_requested.emit(-1)),
            ("Ctrl+PgDown", tr("The chat below"), lambda: window.step_requested.emit(1)),
        ):
            action = QAction(text, window)
            action.setShortcut(keys)
            action.triggered.connect(run)
            window.addAction(action)

    def _fill_file_menu(self, menu: QMenu) -> None:
        window = self._window
        self._add(menu, tr("&New chat"), "Ctrl+N", window.new_chat_requested.emit)
        self._add(menu, tr("Fin&d in chat…"), "Ctrl+F", window.chat.find_bar.open_bar)
        self._add(menu, tr("A&ttach files…"), "Ctrl+U", window.chat.choose_files)
        menu.addSeparator()
        self._add(menu, tr("&Models…"), "Ctrl+M", window.models_requested.emit)
        self._add(menu, tr("&Open model file (.gguf)…"), "Ctrl+O", window.choose_file)
        self._add(menu, tr("Open model &folder…"), "Ctrl+Shift+O", window.choose_folder)
        menu.addSeparator()
        self._add(menu, tr("&Import chats…"), "", window.import_requested.emit)
        self._add(menu, tr("&Export this chat…"), "Ctrl+Shift+E", lambda: window.export_requested.emit(False))  # noqa: FBT003
        self._add(menu, tr("Export &all chats…"), "", lambda: window.export_requested.emit(True))  # noqa: FBT003
        self.undo_delete = self._add(menu, tr("&Undo delete"), "", window.undo_delete_requested.emit)
        self.undo_delete.setEnabled(False)
        menu.addSeparator()
        self._add(menu, tr("Save live panel as &picture…"), "", lambda: window.panel_save_requested.emit("png"))
        self._add(menu, tr("Save live panel's &values…"), "", lambda: window.panel_save_requested.emit("json"))
        menu.addSeparator()
        self._add(menu, tr("&Chat options…"), "Ctrl+Shift+P", window.chat_options_requested.emit)
        self._add(menu, tr("&Settings…"), "Ctrl+,", window.settings_requested.emit)
        menu.addSeparator()
        self._add(menu, tr("&Quit"), "Ctrl+Q", window.quit)

    def _fill_view_menu(self, menu: QMenu) -> None:
        window = self._window
        self.sidebar = self._add(menu, tr("&Chats"), "Ctrl+B", None)
        self.sidebar.setCheckable(True)
        self.sidebar.triggered.connect(lambda _checked=False: window.toggle_sidebar())
        self.panel = self._add(menu, tr("&Live panel"), "Ctrl+Shift+B", None)
        self.panel.setCheckable(True)
        self.panel.triggered.connect(window.show_panel)
        themes = menu.addMenu(tr("&Theme"))
        self._theme_group = QActionGroup(window)
        for mode, text in (("system", tr("As the &system")), ("light", tr("&Light")), ("dark", tr("&Dark"))):
            action = themes.addAction(text)
            action.setCheckable(True)
            action.setData(mode)
            action.setChecked(mode == self._themes.mode)
            self._theme_group.addAction(action)
        self._theme_group.triggered.connect(lambda action: self._themes.set_mode(action.data()))
        self.tray = self._add(menu, tr("&Keep in the tray when closed"), "", None)
        self.tray.setCheckable(True)
        self.tray.triggered.connect(window.tray_wanted)
        menu.setToolTipsVisible(True)
        menu.addSeparator()
        self._add(menu, tr("L&arger text"), "Ctrl++", lambda: self._themes.set_zoom(self._themes.zoom + ZOOM_STEP))
        self._add(menu, tr("S&maller text"), "Ctrl+-", lambda: self._themes.set_zoom(self._themes.zoom - ZOOM_STEP))
        self._add(menu, tr("N&ormal text"), "Ctrl+0", lambda: self._themes.set_zoom(1.0))

    def _fill_help_menu(self, menu: QMenu) -> None:
        window = self._window
        self._add(menu, tr("&Keyboard shortcuts"), "F1", window.show_shortcuts)
        self._add(menu, tr("Open &logs folder"), "", window.logs_requested.emit)
        self._add(menu, tr("Copy &diagnostics…"), "", window.diagnostics_requested.emit)
        self._add(menu, tr("&About Rooftop"), "", window.about_requested.emit)

    def _add(self, menu: QMenu, text: str, keys: str, run: Callable[[], object] | None) -> QAction:
        action = menu.addAction(text)
        shortcuts = [QKeySequence(keys)] if keys else []
        if keys == "Ctrl++":
            shortcuts.append(QKeySequence("Ctrl+="))
        action.setShortcuts(shortcuts)
        if run is not None:
            action.triggered.connect(lambda _checked=False: run())
        return action
