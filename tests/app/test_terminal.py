"""The chat in a terminal, with a fake engine in a real child process."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import app.terminal
from app.presets import Preset
from engine.config import EngineConfig, SamplingParams
from engine.host import EngineHost, ProcessHost
from engine.messages import Generate, Request
from tests.engine.test_worker import FAKE_COMMAND
from tests.gpu_wheels import BROKEN, write_installed

PATIENCE_S = 20.0
AS_PROCESS = (  # with Ctrl+C at work, which a shell that runs the tests in the background takes away
    "import app.terminal, signal, sys\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from engine.config import EngineConfig\n"
    "from tests.app.test_terminal import start_fake\n"
    "app.terminal.start_host = start_fake\n"
    "from app.presets import Preset\n"
    "sys.exit(app.terminal.main('fake', False, EngineConfig(), Preset('balanced', 'Balanced')))\n"
)

Chat = Callable[..., int]
PLAIN = Preset("balanced", "Balanced")


def start_fake(*, in_process: bool, log_path: Path) -> EngineHost:
    host = ProcessHost(FAKE_COMMAND)
    host.start()
    return host


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    monkeypatch.setattr(app.terminal, "start_host", start_fake)

    def run(*lines: str, model: str = "fake", preset: Preset = PLAIN) -> int:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return app.terminal.main(model, in_process=False, config=EngineConfig(), preset=preset)

    yield run
    assert not psutil.Process().children()


def test_every_line_of_a_pipe_is_answered(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat("one two", "", "three") == 0
    captured = capsys.readouterr()
    assert captured.out == "one two \nthree \n"
    assert captured.err.splitlines() == [
        "fake on Test processor: 3 of 8 experts in VRAM. /help lists the commands.",
        "[3 tokens, 20.0 tokens/s]",
        "[3 tokens, 20.0 tokens/s]",
    ]


def test_replies_follow_the_preset(
    chat: Chat, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Generate] = []
    send = ProcessHost.send

    def spy(host: ProcessHost, request: Request) -> None:
        if isinstance(request, Generate):
            sent.append(request)
        send(host, request)

    monkeypatch.setattr(ProcessHost, "send", spy)
    preset = Preset("code", "Code", "Be brief.\n", SamplingParams(temperature=0.1))
    assert chat("one", "/new", "two", preset=preset) == 0
    assert "Replies follow the preset Code." in capsys.readouterr().err
    assert [[(m.role, m.content) for m in request.messages] for request in sent] == [
        [("system", "Be brief."), ("user", "one")],
        [("system", "Be brief."), ("user", "two")],
    ]
    assert [request.sampling.temperature for request in sent] == [0.1, 0.1]


def test_map_why_and_the_other_commands(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat("/map", "/why", "/why 0", "/why 9", "/help", "/new", "/nothing", "/quit", "never read") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    for words in (
        "  0 GG..",
        "  1 ..G.",
        "  0 0G 3C",
        "Expert 0 ",
        "no layer 9",
        "/quit",
        "starts anew",
        "There is no /nothing",
    ):
        assert words in captured.err


def test_control_characters_never_reach_the_terminal(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat("a\x1b[31mred\x07 \x9b0m") == 0
    assert capsys.readouterr().out == "a[31mred 0m \n"


def test_failed_reply_is_told_and_the_chat_goes_on(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat("fail", "again") == 1
    captured = capsys.readouterr()
    assert captured.out == "a\nagain \n"
    assert "rooftop: The GPU is full. Lower the budget." in captured.err


def test_dead_engine_ends_the_chat(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat("die", "never answered") == 1
    captured = capsys.readouterr()
    assert "never" not in captured.out
    assert "killed" in captured.err


def test_model_that_cannot_be_used_is_bad_input(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat("hello", model="missing") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "rooftop: There is no such model. Choose another.\n"


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupt_stops_the_reply_and_the_next_line_is_answered() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AS_PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"busy\n")
    process.stdin.flush()
    assert process.stdout.read(7) == b"working"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(b"hello\n", timeout=PATIENCE_S)
    assert out == b"\nhello \n"
    assert b"stopped]" in err
    assert b"Traceback" not in err
    assert process.returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize(("prompt", "code"), [("stuck", 1), ("", 0)])
def test_interrupts_leave_a_stuck_reply_and_the_prompt(prompt: str, code: int) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", AS_PROCESS], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        seen = _read_until(ours, b"> ", 1)
        if prompt:
            os.write(ours, f"{prompt}\n".encode())
            seen += _read_until(ours, b"stuck", 2)  # its echo, and the reply
            process.send_signal(signal.SIGINT)
            seen += _read_until(ours, b"again leaves", 1)
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None:
            assert time.monotonic() < deadline, seen
            process.send_signal(signal.SIGINT)  # readline misses one that comes just before it waits
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3.0)
            seen += _read(ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert process.returncode == code
    assert b"Loading the experts 100%" in seen
    assert b"Traceback" not in seen


def _read_until(terminal: int, words: bytes, times: int) -> bytes:
    seen, deadline = b"", time.monotonic() + PATIENCE_S
    while seen.count(words) < times:
        assert time.monotonic() < deadline, seen
        seen += _read(terminal)
    return seen


def _read(terminal: int) -> bytes:
    """What a pseudo-terminal shows within a moment; empty once its program has ended."""
    try:
        return os.read(terminal, 1000) if select.select([terminal], [], [], 1.0)[0] else b""
    except OSError:
        return b""


def test_closed_stdout_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-c", AS_PROCESS], input=b"hello\n" * 3, stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr


def test_terminal_imports_no_torch_and_no_qt() -> None:
    source = "import sys, app.terminal; sys.exit(any(name in sys.modules for name in ('torch', 'PySide6')))"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


def test_a_component_that_cannot_be_used_is_said_and_the_chat_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], chat: Chat, tmp_path: Path
) -> None:
    folder = write_installed(tmp_path, BROKEN)

    def start(*, in_process: bool, log_path: Path) -> EngineHost:
        host = ProcessHost(FAKE_COMMAND, packages=lambda: folder)
        host.start()
        return host

    monkeypatch.setattr(app.terminal, "start_host", start)
    assert chat("one two") == 0
    captured = capsys.readouterr()
    assert "rooftop: GPU support could not be used, so the CPU computes alone." in captured.err
    assert captured.out.startswith("one two")
