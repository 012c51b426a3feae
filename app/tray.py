"""The icon in the system's tray, for those who want the program to go on when its window is closed. Off by default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QMenu, QSystemTrayIcon

from app.icons import app_icon
from app.language import tr

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

CLICKS = (QSystemTrayIcon.ActivationReason.Trigger, QSystemTrayIcon.ActivationReason.DoubleClick)


class Tray(QObject):
    """The icon and its menu.

    Args:
        window: Shown and hidden by a click; owns the icon.

    Signals:
        show_requested(): Bring the window forward.
        new_chat_requested(): Begin anew, with the window in front.
        quit_requested(): End the program.
    """

    show_requested = Signal()
    new_chat_requested = Signal()
    quit_requested = Signal()

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self._window = window
        self._menu = QMenu()
        self._toggle = self._menu.addAction("")
        self._toggle.triggered.connect(self.toggle)
        self._menu.addAction(tr("&New chat")).triggered.connect(self.new_chat_requested)
        self._menu.addSeparator()
        self._menu.addAction(tr("&Quit")).triggered.connect(self.quit_requested)
        self._menu.aboutToShow.connect(self._name_toggle)
        self._name_toggle()
        self._icon = QSystemTrayIcon(app_icon(), self)
        self._icon.setToolTip("Rooftop")
        self._icon.setContextMenu(self._menu)
        self._icon.activated.connect(self._clicked)
        self._icon.show()

    @property
    def menu(self) -> QMenu:
        """What a right click opens."""
        return self._menu

    def toggle(self) -> None:
        """Hide the window if it is to be seen, else bring it forward."""
        if self._window.isVisible() and not self._window.isMinimized():
            self._window.hide()
        else:
            self.show_requested.emit()

    def say_kept(self) -> None:
        """Tell that the program goes on."""
        self._icon.showMessage("Rooftop", tr("Rooftop goes on in the tray. Quit it from the menu of its icon there."))

    def remove(self) -> None:
        """Take the icon away."""
        self._icon.hide()
        self._menu.deleteLater()
        self.deleteLater()

    def _clicked(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason in CLICKS:
            self.toggle()

    def _name_toggle(self) -> None:
        visible = self._window.isVisible() and not self._window.isMinimized()
        self._toggle.setText(tr("&Hide") if visible else tr("&Show"))


def tray_problem() -> str:
    """Why there can be no icon, in one sentence; "" when there can."""
    if QSystemTrayIcon.isSystemTrayAvailable():
        return ""
    return tr("This desktop has no tray, or none that programs can use.")
