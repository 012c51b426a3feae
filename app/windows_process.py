"""What Windows, and the installer there, are told of this process."""

from __future__ import annotations

import sys

APP_ID = "Rooftop.Rooftop"
RUNNING = "RooftopIsRunning"  # packaging/windows/installer.nsi asks for it


def introduce_this_process() -> None:
    """Tell Windows that this process is Rooftop, and leave a sign for the installer as long as it runs.

    Without the name the window would be grouped, and pinned, as Python's. Elsewhere nothing is to be done: the desktop
    file names the window, and a package manager asks nobody.
    """
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.shell32.SetCurrentProcessExplicitAppUserModelID(APP_ID)
        ctypes.windll.kernel32.CreateMutexW(None, 0, RUNNING)  # closed by Windows when the process ends
