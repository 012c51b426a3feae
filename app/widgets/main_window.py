"""The window: menu, top bar, the chats on the left, one in the middle and the live panel on its right.

Holds no chat or engine logic: it announces what the user wants, and the application wires it.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, QEvent, QRect, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QFileDialog, QMainWindow, QSplitter, QVBoxLayout, QWidget

from app.engine_words import is_gguf, model_label
from app.icons import app_icon
from app.language import tr
from app.widgets.composer import local_files
from app.widgets.focus_order import move_focus
from app.widgets.sidebar import MAX_WIDTH as SIDEBAR_MAX_WIDTH
from app.widgets.sidebar import MIN_WIDTH as SIDEBAR_MIN_WIDTH
from app.widgets.sidebar import WIDTH as SIDEBAR_WIDTH
from app.widgets.sidebar import Sidebar
from app.widgets.top_bar import TopBar
from app.widgets.window_menus import WindowMenus

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QResizeEvent

    from app.settings import Settings
    from app.theme import ThemeManager
    from app.widgets.chat_pane import ChatPane

DEFAULT_SIZE = (1240, 800)
MINIMUM_SIZE = (440, 400)
CHAT_MIN_WIDTH = 380
GRIP_PX = 40
PANEL_WIDTH = 400


class MainWindow(QMainWindow):
    """The one window.

    Args:
        chat: The middle.
        themes: For the View menu.
        settings: Where and how the window was left.

    Signals:
        new_chat_requested(): Begin anew.
        model_chosen(str): A model folder or file.
        models_requested(): Show the model page.
        settings_requested(): Open the settings.
        about_requested(): Tell versions and licences.
        logs_requested(): Show the folder of the log files.
        diagnostics_requested(): Show what a report of a problem needs.
        export_requested(bool): Write the shown chat to a file, or all of them.
        import_requested(): Take chats in from files.
        undo_delete_requested(): Bring the chat back that was deleted last.
        step_requested(int): Show the chat above (-1) or below (1).
        activated(): The user came back to the window.
        chat_options_requested(): Open the options of the chat.
        panel_shown(bool): The live panel was shown or hidden.
        panel_save_requested(str): Save the live panel as "png" or "json".
        loss_feared(): The window stays for now: what is not saved would go with it.
        closing(): The window goes away now, and the program with it.
        kept_in_tray(): The window was closed and the program goes on.
        tray_wanted(bool): The tray icon was switched on or off.
    """

    new_chat_requested = Signal()
    model_chosen = Signal(str)
    models_requested = Signal()
    settings_requested = Signal()
    about_requested = Signal()
    logs_requested = Signal()
    diagnostics_requested = Signal()
    export_requested = Signal(bool)
    import_requested = Signal()
    undo_delete_requested = Signal()
    step_requested = Signal(int)
    activated = Signal()
    chat_options_requested = Signal()
    panel_shown = Signal(bool)
    panel_save_requested = Signal(str)
    loss_feared = Signal()
    closing = Signal()
    kept_in_tray = Signal()
    tray_wanted = Signal(bool)

    def __init__(self, chat: ChatPane, themes: ThemeManager, settings: Settings) -> None:
        super().__init__()
        self._panel: QWidget | None = None
        self._panel_visible = settings.panel_visible
        self._splitter_state = settings.splitter_state
        self.keeps_running = self._quitting = self._ends_unasked = False
        self.loses_something: Callable[[], bool] = lambda: False
        self._sidebar_visible = settings.sidebar_visible
        self._overlaid = False
        self.sidebar = Sidebar()
        self.chat = chat
        self.top_bar = TopBar()
        self.setWindowTitle("Rooftop")
        self.setWindowIcon(app_icon())
        self.setMinimumSize(*MINIMUM_SIZE)
        self.setAcceptDrops(True)
        self._splitter = QSplitter(Qt.Orientation.Horizontal)
        self._splitter.setChildrenCollapsible(False)
        self._splitter.setHandleWidth(1)
        self._arrange()
        self.menus = WindowMenus(self, themes)
        self.top_bar.panel_toggled.connect(self.show_panel)
        self.top_bar.sidebar_toggled.connect(self.toggle_sidebar)
        self.sidebar.new_requested.connect(self.new_chat_requested)
        self.sidebar.left.connect(self.close_overlay)
        self.sidebar.left.connect(chat.composer.setFocus)
        self.top_bar.new_chat_requested.connect(self.new_chat_requested)
        self.top_bar.options_requested.connect(self.chat_options_requested)
        self.top_bar.models_requested.connect(self.models_requested)
        chat.open_model_requested.connect(self.models_requested)
        chat.settings_requested.connect(self.settings_requested)
        themes.changed.connect(self._restyle)
        self.resize(*DEFAULT_SIZE)
        if settings.window_geometry:
            self.restoreGeometry(_decode(settings.window_geometry))
            bring_into_view(self)
        self._place_panel()
        chat.composer.setFocus()

    @property
    def panel(self) -> QWidget | None:
        """The live panel, once it is there."""
        return self._panel

    @property
    def panel_visible(self) -> bool:
        """Whether the live panel is to be seen."""
        return self._panel_visible

    @property
    def sidebar_visible(self) -> bool:
        """Whether the list of chats is to be seen where there is room."""
        return self._sidebar_visible

    def geometry_text(self) -> str:
        """Place and size, for the settings."""
        return _encode(self.saveGeometry())

    def splitter_text(self) -> str:
        """The splitter's place, for the settings."""
        self.close_overlay()
        return _encode(self._splitter.saveState()) if self._panel is not None else self._splitter_state

    def set_panel(self, panel: QWidget) -> None:
        """Put the live panel on the right."""
        self._panel = panel
        self._splitter.addWidget(panel)
        for index, stretch in enumerate((0, 1, 0)):
            self._splitter.setStretchFactor(index, stretch)
        self._place_panel()
        restored = self._splitter_state and self._splitter.restoreState(_decode(self._splitter_state))
        if not restored or self._splitter.sizes()[0] > SIDEBAR_MAX_WIDTH:  # left by a window without a sidebar
            width = self._splitter.width() - SIDEBAR_WIDTH
            self._splitter.setSizes([SIDEBAR_WIDTH, max(CHAT_MIN_WIDTH, width - PANEL_WIDTH), PANEL_WIDTH])

    def show_panel(self, visible: bool) -> None:
        """Show or hide the live panel."""
        self._panel_visible = visible
        if visible and self.width() < self._width_with_panel():
            self.resize(self._width_with_panel(), self.height())
        self._place_panel()
        self.panel_shown.emit(visible)

    def show_tray_state(self, *, on: bool, problem: str) -> None:
        """Whether closing keeps the window in the tray; where there is no tray, why it cannot."""
        self.keeps_running = on and not problem
        self.menus.tray.setChecked(self.keeps_running)
        self.menus.tray.setEnabled(not problem)
        self.menus.tray.setToolTip(problem)

    def toggle_sidebar(self) -> None:
        """Show or hide the list of chats: beside the chat, or over it in a narrow window."""
        if self._sidebar_fits():
            self._sidebar_visible = not self._sidebar_visible
        else:
            self._overlaid = not self._overlaid
        self._place_panel()
        if self._overlaid:
            self.sidebar.list.setFocus()

    def close_overlay(self) -> None:
        """Uncover the chat."""
        if self._overlaid:
            self._overlaid = False
            self._place_panel()

    def search_chats(self) -> None:
        """Let the user look for a chat."""
        if not self.sidebar.isVisible():
            self.toggle_sidebar()
        self.sidebar.focus_search()

    def choose_file(self) -> None:
        """Ask for a model's file; any safetensors file stands for its folder."""
        title = tr("Open a model: a .gguf file, or any .safetensors file of its folder")
        kinds = tr("Models ({patterns})").format(patterns="*.gguf *.safetensors")
        name, _ = QFileDialog.getOpenFileName(self, title, filter=kinds)
        if name:
            self.model_chosen.emit(_model_at(Path(name)) or name)

    def choose_folder(self) -> None:
        """Ask for a model's folder."""
        folder = QFileDialog.getExistingDirectory(self, tr("Open model folder"))
        if folder:
            self.model_chosen.emit(folder)

    def show_dialog(self, make: Callable[[QWidget], QDialog]) -> QDialog:
        """Open a dialog without stopping the chat."""
        dialog = make(self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()
        return dialog

    def bring_forward(self) -> None:
        """Come to the front because the user asked for it: out of the tray, out of the task bar."""
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized)
        self.show()
        self.raise_()
        self.activateWindow()

    def quit(self, *, asks: bool = True) -> None:
        """Close, also where closing would keep the window in the tray; without a question where nobody may answer."""
        self._quitting = True
        self._ends_unasked |= not asks
        self.close()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """A window too narrow for both keeps the chat."""
        super().resizeEvent(event)
        self._place_panel()

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Tab goes through the window as it is to be seen."""
        return move_focus(self, forward=forward)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Disappear at once; the engine is ended behind, or works on where the window is kept in the tray."""
        stays = self.keeps_running and not self._quitting
        if not stays and not self._ends_unasked and self.loses_something():
            self._quitting = False
            event.ignore()
            self.loss_feared.emit()
            return
        self.hide()
        if stays:
            self.kept_in_tray.emit()
            event.ignore()
            return
        self.closing.emit()
        event.accept()

    def changeEvent(self, event: QEvent) -> None:
        """Back to the message field when the window becomes active again."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ActivationChange and self.isActiveWindow():
            self.activated.emit()
            if self.focusWidget() is None:
                self.chat.composer.setFocus()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """A model may be dropped on the window, or files for the next message."""
        if _dropped_model(event) is not None or local_files(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open the model that was dropped; other files are attached."""
        model, files = _dropped_model(event), local_files(event.mimeData())
        if model is not None:
            event.acceptProposedAction()
            self.model_chosen.emit(model)
        elif files:
            event.acceptProposedAction()
            self.chat.attach(files)

    def escape(self) -> None:
        """Esc closes the find bar first, then concerns the composer."""
        if self.chat.find_bar.isVisible():
            self.chat.find_bar.close_bar()
        else:
            self.chat.composer.escape()

    def show_shortcuts(self) -> None:
        """List the keys."""
        from app.widgets.shortcuts_dialog import ShortcutsDialog, shortcuts_of

        shortcuts = shortcuts_of(self, self.chat.composer.send_key)
        self.show_dialog(lambda parent: ShortcutsDialog(shortcuts, parent))

    # ---- building -----------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        left = QWidget()
        left.setMinimumWidth(CHAT_MIN_WIDTH)
        layout = QVBoxLayout(left)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.chat)
        self._splitter.addWidget(self.sidebar)
        self._splitter.addWidget(left)
        centre = QWidget()
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.top_bar)
        column.addWidget(self._splitter, 1)
        self.setCentralWidget(centre)

    def _width_with_panel(self) -> int:
        return CHAT_MIN_WIDTH + (self._panel.minimumWidth() if self._panel is not None else 0) + 2

    def _sidebar_fits(self) -> bool:
        shown = self._panel_visible and self.width() >= self._width_with_panel()
        return self.width() >= SIDEBAR_MIN_WIDTH + (self._width_with_panel() if shown else CHAT_MIN_WIDTH + 2)

    def _place_sidebar(self) -> None:
        """Beside the chat where there is room, else over it when it is asked for."""
        fits = self._sidebar_fits()
        self._overlaid = self._overlaid and not fits
        centre = self.centralWidget()
        if self._overlaid:
            self.sidebar.setParent(centre)
            top = self.top_bar.height()
            self.sidebar.setGeometry(0, top, min(SIDEBAR_WIDTH, self.width() - 80), self._splitter.height())
            self.sidebar.raise_()
        elif self._splitter.indexOf(self.sidebar) < 0:
            self._splitter.insertWidget(0, self.sidebar)
        self.sidebar.setProperty("overlaid", self._overlaid)
        self.sidebar.style().unpolish(self.sidebar)
        self.sidebar.style().polish(self.sidebar)
        shown = self._overlaid or (fits and self._sidebar_visible)
        self.sidebar.setVisible(shown)
        self.menus.sidebar.setChecked(shown)
        self.top_bar.show_sidebar_state(visible=shown)

    def _place_panel(self) -> None:
        """Show the panel where it is wanted and fits, and say so on its buttons."""
        self._place_sidebar()
        shown = self._panel_visible and self.width() >= self._width_with_panel()
        if self._panel is not None:
            self._panel.setVisible(shown)
        self.menus.panel.setChecked(shown)
        self.top_bar.show_panel_state(visible=shown)

    def _restyle(self) -> None:
        self.top_bar.restyle()
        self.chat.restyle()
        self.sidebar.restyle()
        self.menus.show_theme()


def _dropped_model(event: QDropEvent) -> str | None:
    """The one local model that is being dropped; of a split one, all files may come together."""
    urls = event.mimeData().urls()
    models = [_model_at(Path(url.toLocalFile())) for url in urls if url.isLocalFile()]
    sound = [model for model in models if model is not None]
    names = {(Path(model).parent, model_label(model)) for model in sound}
    return min(sound) if len(sound) == len(urls) and len(names) == 1 else None


def _model_at(path: Path) -> str | None:
    """The model that a folder or file belongs to; None for other files."""
    if path.is_dir() or is_gguf(path):
        return str(path)
    return str(path.parent) if path.suffix.lower() == ".safetensors" else None


def bring_into_view(window: QWidget) -> None:
    """Move a window whose title bar lies on no screen, perhaps because its screen is gone, onto the first one."""
    grip = QRect(window.x(), window.y(), window.width(), GRIP_PX)
    screens = [screen.availableGeometry() for screen in QGuiApplication.screens()]
    if not any(screen.intersected(grip).width() >= GRIP_PX for screen in screens):
        room = QGuiApplication.primaryScreen().availableGeometry()
        frame = window.frameGeometry().size() - window.size()
        window.resize(window.size().boundedTo(room.size() - frame))
        outside = window.frameGeometry()
        outside.moveCenter(room.center())
        window.move(outside.topLeft())


def _encode(data: QByteArray) -> str:
    return base64.b64encode(data.data()).decode("ascii")


def _decode(text: str) -> QByteArray:
    """Bytes from the settings; unusable text gives none."""
    return QByteArray.fromBase64(text.encode("ascii", errors="replace"))
