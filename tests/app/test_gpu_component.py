"""The GPU component as the window has it, waited for by its signals."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app import gpu_component
from app.gpu_component import GpuComponent, look, wheel_address
from app.gpu_files import bytes_there
from app.gpu_look import Gpu
from app.gpu_pins import Pins
from app.gpu_state import ACTIVE, GpuState, Seen
from engine.errors import NotOnHubError
from engine.gpu_packages import find_component, own_build, refuse
from tests.app.gpu_killed import TRIED
from tests.engine.hub.conftest import HASTY
from tests.engine.hub.hub_server import FakeHub, FakeRepository, Fault, fake_hub
from tests.gpu_wheels import CUBLAS_WHEEL, OWN, TORCH_WHEEL, package_index, pins_for, write_installed, write_wheels

CARD = Gpu("GeForce RTX 4070", "580.95.05", (8, 9))


class Window:
    """What a window hears, and a server with the wheels."""

    def __init__(self, hub: FakeHub, wheels: Path, root: Path, qtbot: QtBot) -> None:
        self.hub, self.wheels, self.root, self.qtbot = hub, wheels, root, qtbot
        self.gpu: Gpu | None = CARD
        self.mirror = ""
        self.pins = pins_for(wheels, f"{hub.storage}/wheels/files")
        self.phases: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.ended: list[str] = []
        self.component = self.open()

    def open(self, **more: Any) -> GpuComponent:
        def seen(root: Path) -> Seen:
            return Seen(self.gpu, OWN, self.pins, find_component(root, OWN), bytes_there(root, self.pins))

        component = GpuComponent(
            self.root, mirror=lambda: self.mirror, patience=HASTY, look=seen, command=TRIED, **more
        )
        component.changed.connect(self._hear)
        component.ended.connect(self.ended.append)
        return component

    def _hear(self, state: GpuState) -> None:
        self.threads.add(threading.current_thread())
        if self.phases[-1:] != [state.phase]:
            self.phases.append(state.phase)

    def look(self) -> GpuState:
        self.component.look()
        return self.rest()

    def rest(self) -> GpuState:
        """How it stands once nothing is being done."""
        self.qtbot.waitUntil(lambda: not self.component.is_busy, timeout=15_000)
        return self.component.state

    def install(self) -> GpuState:
        self.look()
        self.component.install()
        return self.rest()


@pytest.fixture
def window(tmp_path: Path, qtbot: QtBot) -> Iterator[Window]:
    with fake_hub() as hub:
        wheels = write_wheels(tmp_path / "served")
        hub.repositories["wheels/files"] = FakeRepository({path.name: path.read_bytes() for path in wheels.iterdir()})
        opened = Window(hub, wheels, tmp_path / "gpu", qtbot)
        yield opened
        opened.component.shutdown()


def test_installing_ends_installed(window: Window) -> None:
    state = window.install()
    assert state.phase == "installed"
    assert window.phases[:3] == ["unknown", "available", "downloading"]
    assert set(window.phases[3:]) <= {"stalled", "verifying", "unpacking", "trying", "installed", "downloading"}
    assert window.ended == ["installed"], "to look is nothing that the user asked for"
    assert window.threads == {threading.main_thread()}
    assert state.gpu_name == "GeForce RTX 4070"
    assert (state.download_bytes, state.unpacked_bytes) == (window.pins.download_bytes, window.pins.unpacked_bytes)


def test_a_pause_keeps_what_came_also_across_a_restart(window: Window) -> None:
    window.look()
    window.hub.bytes_per_s = 1e6
    window.component.install()
    window.component.install()  # while one runs, another is not begun
    window.hub.wait_until_sent(CUBLAS_WHEEL, 150_000)
    window.component.pause()
    state = window.rest()
    assert state.phase == "paused"
    assert 0 < state.progress.done_bytes < window.pins.download_bytes
    window.component.shutdown()
    window.component = window.open()
    assert window.look().phase == "paused"
    window.hub.bytes_per_s = None
    window.component.install()
    assert window.rest().phase == "installed"


def test_cancelling_leaves_nothing(window: Window) -> None:
    window.look()
    window.hub.bytes_per_s = 1e6
    window.component.install()
    window.hub.wait_until_sent(CUBLAS_WHEEL, 150_000)
    window.component.cancel()
    assert window.rest().phase == "available"
    assert bytes_there(window.root, window.pins) == 0


def test_what_is_paused_can_be_given_up_too(window: Window) -> None:
    window.hub.always[TORCH_WHEEL] = Fault(status=404)
    assert window.install().phase == "failed"
    window.component.cancel()
    assert window.rest().phase == "available"
    assert not list((window.root / ".downloads").glob("*/*"))


def test_what_went_wrong_is_a_sentence_and_trying_again_works(window: Window) -> None:
    window.hub.always[TORCH_WHEEL] = Fault(flip=True)
    state = window.install()
    assert state.phase == "failed"
    assert state.error is not None
    assert state.error.message == "127.0.0.1 sends other files than those that are meant."
    del window.hub.always[TORCH_WHEEL]
    window.component.install()
    assert window.rest() == window.component.state
    assert window.component.state.phase == "installed"
    assert window.component.state.error is None


def test_damage_repair_and_removal(window: Window) -> None:
    window.install()
    library = window.root / "2.13.0+cu130" / "torch" / "lib" / "libtorch_cuda.so"
    library.write_bytes(b"")
    state = window.look()
    assert state.phase == "damaged"
    assert state.sentence == "GPU support is damaged: torch/lib/libtorch_cuda.so is missing or changed."
    window.component.repair()
    assert window.rest().phase == "installed"
    window.component.remove()
    assert window.rest().phase == "available"
    assert window.phases[-2:] == ["removing", "available"]
    assert not library.exists()


def test_a_repair_that_fails_stays_damaged_with_its_reason(window: Window) -> None:
    window.install()
    (window.root / "2.13.0+cu130" / "torch" / "version.py").unlink()
    window.look()
    window.hub.always[TORCH_WHEEL] = Fault(status=404)
    window.component.repair()
    state = window.rest()
    assert state.phase == "damaged"
    assert state.error is not None


def test_from_a_folder(window: Window) -> None:
    window.look()
    window.component.install(window.wheels)
    assert window.rest().phase == "installed"
    assert sum(window.hub.sent.values()) == 0


def test_from_a_mirror(window: Window) -> None:
    with package_index() as index:
        index.add(window.wheels, f"{window.hub.storage}/wheels/files")
        window.pins = pins_for(window.wheels, "http://127.0.0.1:9/gone")
        window.mirror = f"{index.address}/simple"
        assert window.install().phase == "installed"
        assert sorted(set(index.asked)) == ["/simple/nvidia-cublas/", "/simple/torch/"]
        del index.projects["torch"][TORCH_WHEEL]
        wheel = next(wheel for wheel in window.pins.wheels if wheel.project == "torch")
        with pytest.raises(NotOnHubError, match=f"does not have {TORCH_WHEEL}"):
            wheel_address(window.mirror, wheel)
    assert wheel_address("", wheel) == wheel.url


def test_an_older_component_is_no_obstacle(window: Window) -> None:
    write_installed(window.root, build=window.pins.build.__class__("2.12.0", "13.0", OWN.python))
    state = window.look()
    assert state.phase == "available"
    assert "GPU support is there for torch 2.12.0+cu130" in state.sentence
    window.component.install()
    assert window.rest().phase == "installed"
    assert [path.name for path in window.root.glob("*+cu*")] == ["2.13.0+cu130"], "the old one goes"


def test_shutting_down_is_quick_and_silent(window: Window) -> None:
    window.look()
    window.hub.always[CUBLAS_WHEEL] = Fault(after_bytes=1000, silent=True)
    window.component.install()
    window.hub.wait_until_sent(CUBLAS_WHEEL, 500)
    window.component.shutdown()
    heard = len(window.phases)
    window.component.look()
    window.qtbot.wait(1)
    assert len(window.phases) == heard


# ---- what is possible here ------------------------------------------------------------------------------------------


def test_this_very_computer_can_be_looked_at(tmp_path: Path) -> None:
    seen = look(tmp_path)
    assert seen.own == own_build()
    assert seen.found.state == "absent"


@pytest.mark.parametrize(
    ("gpu", "phase", "words"),
    [
        (None, "no-gpu", ""),
        (Gpu("GTX 1080", "580.1", (6, 1)), "unsuitable", "too old"),
        (Gpu("RTX 4070", "550.54", (8, 9)), "old-driver", "580 or newer"),
        (Gpu("RTX 4070", "", None), "available", ""),
    ],
)
def test_what_is_possible_is_said_before_anything_is_fetched(
    window: Window, gpu: Gpu | None, phase: str, words: str
) -> None:
    window.gpu = gpu
    state = window.look()
    assert state.phase == phase
    assert words in state.sentence
    assert window.hub.requests == []


def test_no_list_for_this_platform_is_one_sentence(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_component, "read_pins", lambda: None)
    monkeypatch.setattr(gpu_component, "look_for_gpu", lambda: CARD)
    monkeypatch.setattr("app.gpu_state.platform_name", lambda: "windows-amd64")
    window.component._look = look
    state = window.look()
    assert state.phase == ("own" if own_build().cuda else "unavailable")
    if not own_build().cuda:
        assert state.sentence == (
            "This Rooftop has no list of GPU files for this system (windows-amd64), so the CPU computes alone."
        )
    window.component.install()
    assert not window.component.is_busy


def test_a_component_without_a_gpu_can_still_be_removed(window: Window) -> None:
    window.install()
    window.gpu = None
    assert window.look().phase == "installed"
    window.component.remove()
    assert window.rest().phase == "no-gpu"


def test_a_refused_component_is_damaged(window: Window) -> None:
    window.install()
    refuse(window.root / "2.13.0+cu130", "The engine ended.")
    assert window.look().sentence == "GPU support did not start. The engine ended."
    window.component.repair()
    assert window.rest().phase == "installed"


def test_no_phase_is_both_active_and_at_rest(window: Window) -> None:
    window.install()
    assert window.component.state.phase not in ACTIVE
    assert isinstance(window.pins, Pins)
