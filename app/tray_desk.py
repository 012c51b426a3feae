"""The icon in the tray comes and goes as the settings and the desktop say, and does what is asked of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.tray import Tray, tray_problem

if TYPE_CHECKING:
    from app.widgets.main_window import MainWindow


class TrayDesk(QObject):
    """Owns the icon.

    Args:
        window: What the icon is for.
    """

    def __init__(self, window: MainWindow) -> None:
        super().__init__(window)
        self._window = window
        self._tray: Tray | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is an icon."""
        return self._tray is not None

    def show(self, wanted: bool) -> None:
        """Put the icon there or take it away; the window's menu tells which, and why where it cannot be.

        Args:
            wanted: What the settings say.
        """
        problem = tray_problem()
        if not wanted or problem:
            self.remove()
        elif self._tray is None:
            self._tray = Tray(self._window)
            self._tray.show_requested.connect(self._window.bring_forward)
            self._tray.new_chat_requested.connect(self._new_chat_in_front)
            self._tray.quit_requested.connect(self._window.quit)
        self._window.show_tray_state(on=wanted, problem=problem)

    def say_kept(self) -> None:
        """Tell that the program goes on, if there is an icon."""
        if self._tray is not None:
            self._tray.say_kept()

    def remove(self) -> None:
        """Take the icon away, if there is one."""
        if self._tray is not None:
            self._tray.remove()
            self._tray = None

    def _new_chat_in_front(self) -> None:
        self._window.bring_forward()
        self._window.new_chat_requested.emit()
