"""Ctrl+C and a polite kill close the window, also while Qt waits and no Python code runs.

Python only hears a signal when it next runs; Qt's loop may not let it for hours. So the signal's arrival is written to
a socket that Qt watches (`signal.set_wakeup_fd`), which wakes Python.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

from PySide6.QtCore import QObject, QSocketNotifier

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class QuitSignals(QObject):
    """Calls back on the main thread when the process is asked to end.

    Args:
        quit_app: What to do then.
        parent: Qt parent.
    """

    def __init__(self, quit_app: Callable[[], object], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._read_end, self._write_end = socket.socketpair()
        for end in (self._read_end, self._write_end):
            end.settimeout(0)
        self._notifier = QSocketNotifier(self._read_end.fileno(), QSocketNotifier.Type.Read, self)
        self._notifier.activated.connect(self._drain)
        signal.set_wakeup_fd(self._write_end.fileno())
        for number in SIGNALS:
            signal.signal(number, lambda *_: quit_app())

    def _drain(self) -> None:
        """Empty the socket; Python runs the handler by itself now that it is awake."""
        self._read_end.recv(4096)
