"""What Windows' taskbar takes the window for."""

from __future__ import annotations

import sys

APP_ID = "Rooftop.Rooftop"


def name_this_process() -> None:
    """Tell Windows that this process is Rooftop: else its window would be grouped, and pinned, as Python's.

    Elsewhere nothing is to be done: the desktop file names the window.
    """
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.shell32.SetCurrentProcessExplicitAppUserModelID(APP_ID)
