"""Downloads against a hub on this machine, waited for by their signals."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.downloads import MAX_RUNNING, Downloads, DownloadState
from app.removal import REMOVED
from engine.hub import progress
from engine.hub.api import Hub
from engine.hub.places import target_of, unfinished, unfinished_folder
from engine.hub.repository import Choice, choices
from tests.engine.hub.conftest import CONTENT, FILE, HASTY, REPO
from tests.engine.hub.hub_server import FakeHub, FakeRepository, Fault, fake_hub


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as server:
        server.repositories[REPO] = FakeRepository({FILE: CONTENT})
        yield server


class Window:
    """What a window hears."""

    def __init__(self, hub: FakeHub, models: Path, qtbot: QtBot) -> None:
        self.qtbot = qtbot
        self.threads: set[threading.Thread] = set()
        self.phases: list[str] = []
        self.finished: list[tuple[str, Path]] = []
        self.downloads = Downloads(models, endpoint=hub.endpoint, token=lambda: "secret", patience=HASTY)
        self.downloads.changed.connect(self.on_changed)
        self.downloads.finished.connect(lambda key, path: self.finished.append((key, path)))

    def on_changed(self, key: str) -> None:
        self.threads.add(threading.current_thread())
        self.phases += [state.phase for state in self.downloads.states() if state.key == key]

    def state(self, key: str) -> DownloadState:
        return next(state for state in self.downloads.states() if state.key == key)

    def wait_for(self, key: str, *phases: str) -> DownloadState:
        self.qtbot.waitUntil(lambda: self.state(key).phase in phases, timeout=10_000)
        return self.state(key)


@pytest.fixture
def window(hub: FakeHub, tmp_path: Path, qtbot: QtBot) -> Iterator[Window]:
    opened = Window(hub, tmp_path, qtbot)
    yield opened
    opened.downloads.shutdown()


def chosen(hub: FakeHub, repo_id: str = REPO) -> Choice:
    return choices(Hub("secret", hub.endpoint).look_up(repo_id))[0]


def test_a_download_ends_with_the_path_of_its_model(hub: FakeHub, window: Window, tmp_path: Path) -> None:
    key = window.downloads.start(chosen(hub))
    state = window.wait_for(key, "done")
    path = tmp_path / "acme" / "Mix-GGUF--Q4_K_M" / FILE
    assert state == DownloadState(key, REPO, "Q4_K_M", "done", len(CONTENT), len(CONTENT), path=path)
    assert window.finished == [(key, path)]
    assert window.threads == {threading.main_thread()}
    assert window.phases[0] == "waiting"
    assert set(window.phases) <= {"waiting", "running", "checking", "done"}
    assert path.read_bytes() == CONTENT


def test_changes_come_ten_times_a_second_at_most(hub: FakeHub, window: Window) -> None:
    hub.bytes_per_s = 4e6
    began_s = time.monotonic()
    window.wait_for(window.downloads.start(chosen(hub)), "done")
    assert len(window.phases) <= 10 * (time.monotonic() - began_s) + 4


def test_pause_and_resume(hub: FakeHub, window: Window) -> None:
    hub.bytes_per_s = 1e6
    key = window.downloads.start(chosen(hub))
    window.qtbot.waitUntil(lambda: window.state(key).done_bytes > 500_000, timeout=10_000)
    assert window.state(key).bytes_per_s > 0
    assert window.state(key).seconds_left is not None
    window.downloads.pause(key)
    state = window.state(key)
    assert (state.phase, state.bytes_per_s, state.seconds_left) == ("paused", 0.0, None)
    hub.bytes_per_s = None
    window.downloads.resume(key)
    window.wait_for(key, "done")
    assert hub.sent[FILE] < len(CONTENT) * 1.3


def test_an_earlier_run_left_it_unfinished(hub: FakeHub, window: Window, tmp_path: Path, qtbot: QtBot) -> None:
    hub.faults[FILE] = [Fault(after_bytes=1_200_000)]
    hub.always[FILE] = Fault(status=500)
    choice = chosen(hub)
    key = window.downloads.start(choice)
    failed = window.wait_for(key, "failed")
    assert failed.error is not None
    assert failed.error.code == "hub-unreachable"
    window.downloads.shutdown()
    hub.always.clear()

    later = Window(hub, tmp_path, qtbot)
    (state,) = later.downloads.states()
    assert (state.key, state.phase, state.title, state.total_bytes) == (key, "paused", "Q4_K_M", len(CONTENT))
    assert 1_100_000 < state.done_bytes <= 1_200_000
    later.downloads.resume(key)
    later.wait_for(key, "done")
    assert hub.sent[FILE] <= len(CONTENT) * 1.01
    later.downloads.shutdown()


def test_a_failure_can_be_resumed(hub: FakeHub, window: Window) -> None:
    choice = chosen(hub)
    hub.repositories[REPO].gone = True
    key = window.downloads.start(choice)
    failed = window.wait_for(key, "failed")
    assert failed.error is not None
    assert failed.error.code == "not-on-hub"
    hub.repositories[REPO].gone = False
    assert window.downloads.start(choice) == key
    assert window.wait_for(key, "done").error is None


def test_a_silent_server_is_shown_as_stalled(hub: FakeHub, window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "STALLED_AFTER_S", 0.12)
    hub.faults[FILE] = [Fault(after_bytes=500_000, silent=True)]
    key = window.downloads.start(chosen(hub))
    window.wait_for(key, "stalled")
    window.wait_for(key, "done")


def test_cancel_removes_what_is_there(hub: FakeHub, window: Window, tmp_path: Path) -> None:
    hub.faults[FILE] = [Fault(after_bytes=500_000, silent=True)]
    choice = chosen(hub)
    key = window.downloads.start(choice)
    window.qtbot.waitUntil(lambda: window.state(key).done_bytes >= 500_000, timeout=10_000)
    window.downloads.cancel(key)
    assert window.downloads.states() == ()
    assert window.downloads.start(choice) == key, "and at once from the beginning"
    window.wait_for(key, "done")
    assert hub.sent[FILE] == 500_000 + len(CONTENT)
    window.downloads.cancel(key)
    assert window.downloads.states() == ()
    assert target_of(tmp_path, choice).exists(), "a complete model is not a download any more"
    assert unfinished(tmp_path) == {}


def test_cancel_while_paused(hub: FakeHub, window: Window, tmp_path: Path) -> None:
    hub.faults[FILE] = [Fault(after_bytes=500_000, silent=True)]
    key = window.downloads.start(chosen(hub))
    window.qtbot.waitUntil(lambda: window.state(key).done_bytes >= 500_000, timeout=10_000)
    window.downloads.pause(key)
    window.qtbot.waitUntil(lambda: not window.downloads.is_busy(key), timeout=10_000)
    window.downloads.cancel(key)
    assert not unfinished_folder(tmp_path, key).exists()


def test_a_mistake_of_ours_is_a_failure_like_others(
    hub: FakeHub, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: object) -> Path:
        raise ZeroDivisionError

    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)
    monkeypatch.setattr("engine.hub.transfer.Transfer.run", fail)
    failed = window.wait_for(window.downloads.start(chosen(hub)), "failed")
    assert failed.error is not None
    assert "broke off unexpectedly" in failed.error.message


def test_what_was_cancelled_before_a_crash_goes_at_the_next_start(tmp_path: Path, hub: FakeHub, qtbot: QtBot) -> None:
    leftover = unfinished_folder(tmp_path, f"{REMOVED}5")
    leftover.mkdir(parents=True)
    opened = Window(hub, tmp_path, qtbot)
    qtbot.waitUntil(lambda: not leftover.exists())
    assert opened.downloads.states() == ()
    opened.downloads.shutdown()


def test_some_wait_for_others(hub: FakeHub, window: Window) -> None:
    keys = []
    hub.bytes_per_s = 2e6
    for number in range(MAX_RUNNING + 1):
        hub.repositories[f"acme/m{number}"] = FakeRepository({"m.Q4_0.gguf": CONTENT[: 200_000 + number]})
        keys.append(window.downloads.start(chosen(hub, f"acme/m{number}")))
    assert [state.phase for state in window.downloads.states()] == ["running"] * MAX_RUNNING + ["waiting"]
    for key in keys:
        window.wait_for(key, "done")


def test_shutdown_is_quick_and_nothing_comes_afterwards(hub: FakeHub, window: Window, tmp_path: Path) -> None:
    hub.faults[FILE] = [Fault(after_bytes=500_000, silent=True)]
    key = window.downloads.start(chosen(hub))
    window.qtbot.waitUntil(lambda: window.state(key).done_bytes >= 500_000, timeout=10_000)
    began_s = time.monotonic()
    window.downloads.shutdown()
    assert time.monotonic() - began_s < 1.5
    assert list(unfinished(tmp_path)) == [key]
    window.phases.clear()
    window.downloads.search("x")
    window.qtbot.wait(50)
    assert window.phases == []


def test_the_hub_answers_later(hub: FakeHub, window: Window) -> None:
    downloads, qtbot = window.downloads, window.qtbot
    with qtbot.waitSignal(downloads.looked_up) as looked:
        downloads.look_up(REPO)
    assert looked.args == [REPO, (chosen(hub),), None]
    with qtbot.waitSignal(downloads.searched) as found:
        downloads.search("mix")
    text, repositories, error = _three(found.args)
    assert (text, [item.repo_id for item in repositories], error) == ("mix", [REPO], None)
    with qtbot.waitSignal(downloads.looked_up) as failed:
        downloads.look_up("acme/none")
    name, nothing, report = _three(failed.args)
    assert (name, nothing, report.code) == ("acme/none", (), "not-on-hub")


def _three(values: list[Any] | None) -> tuple[Any, Any, Any]:
    assert values is not None
    first, second, third = values
    return first, second, third
