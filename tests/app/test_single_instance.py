"""Two starts with the same settings folder: the second reaches the first, whatever state it is in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QLockFile, QTimer
from PySide6.QtNetwork import QLocalServer, QLocalSocket
from pytestqt.qtbot import QtBot

from app.single_instance import MAX_LINE, NotAnsweringError, SingleInstance, socket_name

Make = Callable[..., SingleInstance]
SECOND = (
    "import sys; from pathlib import Path; from PySide6.QtCore import QCoreApplication\n"
    "from app.single_instance import SingleInstance\n"
    "app = QCoreApplication([]); instance = SingleInstance(Path(sys.argv[1]))\n"
    "assert not instance.claim(); assert instance.hand_over(sys.argv[2] or None)"
)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[SingleInstance] = []

    def start(folder: Path = tmp_path / "config") -> SingleInstance:
        made.append(SingleInstance(folder))
        return made[-1]

    yield start
    for instance in made:
        instance.release()


def connect(folder: Path) -> QLocalSocket:
    socket = QLocalSocket()
    socket.connectToServer(socket_name(folder))
    assert socket.waitForConnected(3000)
    return socket


@pytest.mark.parametrize("model", ["", "/models/mixtral.gguf"])
def test_a_second_start_hands_over_and_ends(make: Make, qtbot: QtBot, tmp_path: Path, model: str) -> None:
    first = make()
    assert first.claim()
    environment = {**os.environ, "XDG_ACTIVATION_TOKEN": "leave"}
    command = [sys.executable, "-c", SECOND, str(tmp_path / "config"), model]
    with (
        qtbot.waitSignal(first.asked, timeout=20_000) as blocker,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as second,
    ):
        qtbot.waitUntil(lambda: second.poll() is not None, timeout=20_000)
    assert second.returncode == 0
    assert blocker.args == [model]
    assert os.environ.pop("XDG_ACTIVATION_TOKEN") == "leave", "the desktop's leave to come to the front came along"


def test_another_settings_folder_is_another_rooftop(make: Make, tmp_path: Path) -> None:
    assert make().claim()
    assert make(tmp_path / "other").claim()
    assert socket_name(tmp_path / "config") != socket_name(tmp_path / "other")


def test_one_that_ended_makes_room(make: Make) -> None:
    first = make()
    assert first.claim()
    assert not make().claim()
    first.release()
    assert make().claim()


def test_one_that_is_just_ending_makes_room(make: Make, tmp_path: Path) -> None:
    """It holds the lock, takes the connection and hangs up without an answer, as a process does that ends."""
    folder = tmp_path / "config"
    code = (
        "import sys; from pathlib import Path; from PySide6.QtCore import QCoreApplication\n"
        "from app.single_instance import SingleInstance\n"
        "app = QCoreApplication([]); instance = SingleInstance(Path(sys.argv[1])); assert instance.claim()\n"
        "print('claimed', flush=True)\n"
        "instance._server.waitForNewConnection(20000)\n"
        "instance.release()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as ending:
        assert ending.stdout is not None
        assert ending.stdout.readline() == "claimed\n"
        second = make()
        assert not second.claim()
        assert not second.hand_over("/models/a.gguf"), "this one is the first now"
    assert connect(folder).isValid()


def test_a_crash_leaves_nothing_in_the_way(make: Make, tmp_path: Path) -> None:
    code = SECOND.split("assert", maxsplit=1)[0] + "instance.claim(); import os; os._exit(9)"
    folder = tmp_path / "config"
    crashed = subprocess.run([sys.executable, "-c", code, str(folder)], timeout=30, check=False)
    assert crashed.returncode == 9
    assert (folder / "rooftop.lock").exists()
    first = make()
    assert first.claim()
    assert connect(folder).isValid(), "the stale socket was replaced"


def test_one_that_hangs_is_named(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    lock, deaf = QLockFile(str(folder / "rooftop.lock")), QLocalServer()
    lock.setStaleLockTime(0)
    assert lock.tryLock(0)
    assert deaf.listen(socket_name(folder))
    second = make()
    assert not second.claim()
    with pytest.raises(NotAnsweringError, match=rf"already running \(process {os.getpid()}\) but does not answer"):
        second.hand_over(None, timeout_ms=200)
    deaf.close()
    with pytest.raises(NotAnsweringError):
        second.hand_over(None, timeout_ms=200)


def test_one_that_has_the_lock_and_does_not_listen_yet_is_waited_for(make: Make, qtbot: QtBot, tmp_path: Path) -> None:
    first = make()
    assert first.claim()
    first._server.close()
    QTimer.singleShot(1500, lambda: first._server.listen(socket_name(tmp_path / "config")))
    command = [sys.executable, "-c", SECOND, str(tmp_path / "config"), ""]
    with (
        qtbot.waitSignal(first.asked, timeout=20_000),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second,
    ):
        qtbot.waitUntil(lambda: second.poll() is not None, timeout=20_000)
    assert second.returncode == 0


@pytest.mark.parametrize(
    "line",
    [b"nonsense\n", b"[]\n", b'{"model": 3, "tokens": {}}\n', b'{"tokens": {}}\n', b"\xff\n", b"x" * (MAX_LINE + 2),
     b'{"model": "' + b"m" * 5000 + b'", "tokens": {}}\n'],
    ids=["text", "list", "number", "no model", "binary", "endless", "long"],
)  # fmt: skip
def test_nonsense_is_hung_up_on(make: Make, qtbot: QtBot, tmp_path: Path, line: bytes) -> None:
    first = make()
    assert first.claim()
    socket = connect(tmp_path / "config")
    with qtbot.assertNotEmitted(first.asked), qtbot.waitSignal(socket.disconnected):
        socket.write(line)
    assert not socket.readAll().data()


def test_a_long_path_gets_a_short_name(make: Make, tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30)
    assert len(socket_name(deep)) < 50
    assert "deep" in socket_name(tmp_path / "deep") or len(str(tmp_path)) > 70
    assert make(deep).claim()
    assert connect(deep).isValid()


def test_where_no_lock_can_be_made_everyone_is_first(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert make(tmp_path / "file").claim()
