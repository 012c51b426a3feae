"""Can a window be opened here? Asked before Qt is, because Qt ends the process when it cannot.

Loads the libraries that Qt's platform plugin needs, and connects to the display as the plugin will. Only Linux needs
this; elsewhere there is always a display.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

WITHOUT_DISPLAY = ("offscreen", "minimal", "minimalegl", "vnc", "eglfs", "linuxfb", "vkkhrdisplay")
CONNECT_TIMEOUT_S = 2.0
LINE_CHARS = 76

# What desktops have to show a sentence with; the first that is there does it.
DIALOGS = (
    ("zenity", "--error", "--no-markup", "--text"),
    ("kdialog", "--error"),
    ("xmessage",),
    ("notify-send", "Rooftop"),
)

# What Qt's wheels need of the system, and the packages of Debian and Ubuntu that have it.
SYSTEM_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxcb.so.1": "libxcb1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libwayland-cursor.so.0": "libwayland-cursor0",
}


def display_problem(environment: Mapping[str, str]) -> str:
    """Why no window can be opened, in one sentence without a full stop; "" when one can.

    Args:
        environment: The process's environment variables.
    """
    if not sys.platform.startswith("linux"):
        return ""
    wanted = environment.get("QT_QPA_PLATFORM", "").split(";")[0].split(":")[0]
    if wanted in WITHOUT_DISPLAY:
        return ""
    problems = []
    if environment.get("WAYLAND_DISPLAY") and wanted != "xcb":
        problems.append(_wayland_problem(environment) or _library_problem("libqwayland*.so"))
    if environment.get("DISPLAY") and not wanted.startswith("wayland"):
        problems.append(_x11_problem(environment["DISPLAY"]) or _library_problem("libqxcb.so"))
    if not problems:
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    return "" if "" in problems else problems[-1]


def tell_without_qt(sentence: str) -> None:
    """Show a sentence by a program of the desktop, if it has one, and wait until it is closed."""
    for program, *arguments in DIALOGS:
        if path := shutil.which(program):
            subprocess.run(
                [path, *arguments, textwrap.fill(sentence, LINE_CHARS, break_on_hyphens=False)],  # not all of them wrap
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            return


def _x11_problem(display: str) -> str:
    """Connect through libxcb, which knows about sockets, hosts and access rights."""
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError as error:
        return missing_library(error)
    xcb.xcb_connect.restype = ctypes.c_void_p
    connection = ctypes.c_void_p(xcb.xcb_connect(display.encode(errors="replace"), None))
    failed = xcb.xcb_connection_has_error(connection) != 0
    xcb.xcb_disconnect(connection)
    return f"the display {display} cannot be reached" if failed else ""


def _wayland_problem(environment: Mapping[str, str]) -> str:
    name = environment["WAYLAND_DISPLAY"]
    path = Path(environment.get("XDG_RUNTIME_DIR", "/nonexistent")) / name
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except OSError:
            return f"the display {name} cannot be reached"
    return ""


def _library_problem(pattern: str) -> str:
    """Load one of Qt's platform plugins; a library that is missing on this system is named."""
    package = importlib.util.find_spec("PySide6")
    if package is None or package.origin is None:
        return "PySide6 is not installed"
    plugins = sorted((Path(package.origin).parent / "Qt" / "plugins" / "platforms").glob(pattern))
    problem = ""
    for plugin in plugins:
        try:
            ctypes.CDLL(str(plugin))
        except OSError as error:
            problem = missing_library(error)
        else:
            return ""
    return problem


def missing_library(error: Exception) -> str:
    """What a loader's error means: the library, and how all that are missing come onto a Debian or Ubuntu.

    Args:
        error: As it came, "libxcb-cursor.so.0: cannot open shared object file".
    """
    name = str(error).split(":")[0]
    packages = sorted(package for library, package in SYSTEM_LIBRARIES.items() if not _loads(library))
    if name not in SYSTEM_LIBRARIES or not packages:
        return f"a system library is missing ({name})"
    return f"a system library is missing ({name}; on Debian or Ubuntu: sudo apt install {' '.join(packages)})"


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
