import socket
from pathlib import Path

import pytest

from app.display import SYSTEM_LIBRARIES, display_problem, missing_library, tell_without_qt

UNUSED_DISPLAY = ":4711"


@pytest.fixture(autouse=True)
def _on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")


def test_no_display_at_all() -> None:
    assert "neither DISPLAY nor WAYLAND_DISPLAY" in display_problem({})


@pytest.mark.parametrize("platform", ["offscreen", "minimal", "vnc:size=800x600", "offscreen;xcb"])
def test_platforms_without_a_display_need_none(platform: str) -> None:
    assert display_problem({"QT_QPA_PLATFORM": platform}) == ""


def test_an_unreachable_x11_display() -> None:
    assert f"the display {UNUSED_DISPLAY} cannot be reached" in display_problem({"DISPLAY": UNUSED_DISPLAY})


def test_an_unreachable_wayland_display(tmp_path: Path) -> None:
    environment = {"WAYLAND_DISPLAY": "wayland-9", "XDG_RUNTIME_DIR": str(tmp_path)}
    assert "the display wayland-9 cannot be reached" in display_problem(environment)


def test_a_wayland_display_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.display._library_problem", lambda _pattern: "")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "wayland-0"))
        server.listen()
        environment = {"WAYLAND_DISPLAY": "wayland-0", "XDG_RUNTIME_DIR": str(tmp_path), "DISPLAY": UNUSED_DISPLAY}
        assert display_problem(environment) == ""


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", refuse)
    problem = display_problem({"DISPLAY": ":0"})
    assert problem.startswith(
        "a system library is missing (libxcb.so.1; on Debian or Ubuntu: sudo apt install libdbus-1-3"
    )
    for package in SYSTEM_LIBRARIES.values():
        assert f" {package}" in problem
    assert missing_library(OSError("libodd.so.3: cannot open shared object file")) == (
        "a system library is missing (libodd.so.3)"
    )


def test_only_what_is_missing_is_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        if name.endswith(("libqxcb.so", "libxcb-cursor.so.0")):
            raise OSError("libxcb-cursor.so.0: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", refuse)
    monkeypatch.setattr("app.display._x11_problem", lambda _display: "")
    assert display_problem({"DISPLAY": ":0"}) == (
        "a system library is missing (libxcb-cursor.so.0; on Debian or Ubuntu: sudo apt install libxcb-cursor0)"
    )


def test_other_systems_always_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert display_problem({}) == ""


def test_without_qt_the_desktop_shows_the_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tell_without_qt("Nobody shows this.")
    program = tmp_path / "kdialog"
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" > "{tmp_path}/shown"\n')
    program.chmod(0o755)
    tell_without_qt("It needs $(this) library.")
    assert (tmp_path / "shown").read_text() == "--error|It needs $(this) library.|"
