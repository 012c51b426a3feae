import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication, QMessageBox
from pytestqt.qtbot import QtBot

from app import __main__ as command
from app.preset_files import save_presets
from app.presets import Preset, PresetBook
from engine.config import EngineConfig


def run(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        env={**kept, "HOME": str(tmp_path), **environment}, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can lack a display")
@pytest.mark.parametrize("environment", [{}, {"DISPLAY": ":4711"}], ids=["none", "unreachable"])
def test_without_a_display_one_sentence(tmp_path: Path, environment: dict[str, str]) -> None:
    done = run(tmp_path, **environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "The window cannot be opened because" in done.stderr
    assert "`rooftop chat`" in done.stderr


def test_version_and_help(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout.startswith("rooftop 0.")
    words = run(tmp_path, "--help").stdout
    for word in ("--simulate-gpu", ".gguf file", "--experts-on-disk", "rooftop --model mixtral.gguf", "settings.json"):
        assert word in words


def test_a_model_from_the_command_line_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.gguf").touch()
    (tmp_path / "guide").mkdir()
    monkeypatch.chdir(tmp_path)
    assert command._absolute("tiny.gguf") == str(tmp_path / "tiny.gguf")
    assert command._absolute("guide") == "guide"
    assert command._absolute("somebody/a-model") == "somebody/a-model"


@pytest.mark.parametrize("arguments", [[], ["--experts-on-disk"]])
def test_the_terminal_gets_the_model_and_the_settings(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, bool, str]] = []

    def chat(model: str, in_process: bool, config: EngineConfig, preset: Preset) -> int:
        heard.append((model, config.experts_on_disk, preset.key))
        return 0

    model = tmp_path / "x.gguf"
    model.touch()
    monkeypatch.chdir(tmp_path)
    save_presets(PresetBook().with_model(str(model), "precise"), tmp_path / "presets.json")
    monkeypatch.setattr("app.preset_files.default_presets_path", lambda: tmp_path / "presets.json")

    monkeypatch.setattr("app.terminal.main", chat)
    monkeypatch.setattr("app.settings.default_settings_path", lambda: tmp_path / "settings.json")
    monkeypatch.setattr(command, "_start_logging", lambda: None)
    assert command.main(["chat", "--model", "x.gguf", *arguments]) == 0
    assert command.main(["chat"]) == 0
    assert heard == [("x.gguf", bool(arguments), "precise"), ("guide", False, "balanced")]


@pytest.mark.skipif(sys.platform == "win32", reason="ends the first by a signal")
def test_a_second_start_ends_at_once_and_leaves_the_first_alone(tmp_path: Path, qtbot: QtBot) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "QT_QPA_PLATFORM": "offscreen"}
    lock = tmp_path / ".config" / "rooftop" / "rooftop.lock"
    command = [sys.executable, "-m", "app"]
    with subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE) as first:
        try:
            qtbot.waitUntil(lock.exists, timeout=30_000)
            second = run(tmp_path, QT_QPA_PLATFORM="offscreen")
            assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
            assert first.poll() is None
        finally:
            first.terminate()
            first.communicate(timeout=30)
    assert first.returncode == 0, "a polite kill closes the window"


@pytest.mark.skipif(sys.platform == "win32", reason="closes the streams as a shell does")
@pytest.mark.parametrize(("arguments", "code"), [(["--simulate-gpu", "lots"], 2), ([], 2)])
def test_without_a_console_nothing_breaks(tmp_path: Path, arguments: list[str], code: int) -> None:
    """As `pythonw` starts it: no stdin, stdout or stderr; the numbers 0 to 2 must not go to files of ours."""
    words = (
        "import os, sys; assert sys.stdin is sys.stdout is sys.stderr is None; from app.__main__ import main; "
        "code = main(); taken = {os.readlink(f'/proc/self/fd/{n}') for n in range(3)}; "
        "sys.exit(code if taken == {'/dev/null'} else 9)"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$@" <&- >&- 2>&-', sys.executable, words, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, cwd=Path(__file__).parents[2], timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code


def test_bad_usage(tmp_path: Path) -> None:
    assert run(tmp_path, "dance").returncode == 2
    done = run(tmp_path, "--simulate-gpu", "lots")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "lots" in done.stderr


def test_a_missing_qt_library_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    monkeypatch.setitem(sys.modules, "PySide6.QtWidgets", None)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("app.display.display_problem", lambda _environment: "")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("app.display.tell_without_qt", shown.append)
    monkeypatch.setattr(command, "_start_logging", lambda: None)
    assert command.main([]) == 2
    assert "Qt cannot be loaded" in capsys.readouterr().err
    assert len(shown) == 1, "no terminal, so the desktop shows it"
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert command.main([]) == 2
    assert len(shown) == 1


def test_an_unwritable_log_does_not_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("platformdirs.user_log_path", lambda *_, **__: tmp_path / "file")
    assert command._start_logging() is None
    assert "log cannot be written" in capsys.readouterr().err


def test_an_unexpected_error_is_told_once_in_plain_words(qtbot: QtBot, qapp: QApplication) -> None:
    for _ in range(2):
        command._tell_unexpected(ValueError, ValueError("secret detail"), None)
    boxes = [widget for widget in qapp.topLevelWidgets() if isinstance(widget, QMessageBox) and widget.isVisible()]
    assert len(boxes) == 1
    assert "Something went wrong" in boxes[0].text()
    assert "secret" not in boxes[0].text()
    boxes[0].close()
