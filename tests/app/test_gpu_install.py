"""Installing GPU support from a server on this machine, whatever goes wrong on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from app import gpu_files
from app.gpu_files import bytes_there, discard, remove_component
from app.gpu_install import Installation
from app.gpu_pins import Pins
from app.gpu_state import Progress
from engine.errors import (
    DamagedDownloadError,
    DiskFullError,
    HubError,
    HubUnreachableError,
    NotOnHubError,
    OperationCancelledError,
)
from engine.gpu_packages import find_component, read_component, refuse
from engine.hub.parts import RESERVE_BYTES
from tests.app.gpu_killed import TRIED
from tests.engine.hub.conftest import HASTY
from tests.engine.hub.hub_server import FakeHub, FakeRepository, Fault, fake_hub
from tests.gpu_wheels import BROKEN, CUBLAS_WHEEL, DEADLY, OWN, TORCH_WHEEL, pins_for, write_wheels

LIBRARY = "nvidia/cu13/lib/libcublas.so.13"


class Place(NamedTuple):
    """A server with the wheels, and where they are installed."""

    hub: FakeHub
    wheels: Path
    pins: Pins
    root: Path
    told: list[Progress]

    def installation(
        self, stopping: threading.Event | None = None, command: tuple[str, ...] = TRIED, pins: Pins | None = None
    ) -> Installation:
        return Installation(
            pins or self.pins,
            self.root,
            address=lambda wheel: wheel.url,
            told=self.told.append,
            stopping=stopping or threading.Event(),
            patience=HASTY,
            command=command,
        )

    def state(self) -> str:
        return find_component(self.root, OWN).state

    def left(self) -> set[str]:
        return {path.name for path in self.root.iterdir()} - {".lock"}

    def sent(self) -> int:
        return sum(self.hub.sent.values())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with fake_hub() as hub:
        wheels = write_wheels(tmp_path / "served")
        files = {path.name: path.read_bytes() for path in wheels.glob("*.whl")}
        hub.repositories["wheels/files"] = FakeRepository(files)
        pins = pins_for(wheels, f"{hub.storage}/wheels/files")
        yield Place(hub, wheels, pins, tmp_path / "gpu", [])


def test_it_is_fetched_checked_unpacked_tried_and_put_in_its_place(place: Place) -> None:
    installation = place.installation(
        command=(sys.executable, "-c", "import sys; from engine.gpu_packages import main; main()")
    )
    installation.run()
    assert place.state() == "ready"
    assert place.left() == {"2.13.0+cu130", ".downloads", "wheels"}
    assert list((place.root / "wheels").iterdir()) == [], "wheels are not kept"
    steps = list(dict.fromkeys(progress.step for progress in place.told))
    slow = ("downloading", "stalled")  # steps that may be over before anybody looks
    assert [step for step in steps if step not in slow] == ["verifying", "unpacking", "trying"]
    last = [progress for progress in place.told if progress.step == "unpacking"][-1]
    assert last.done_bytes == last.total_bytes == place.pins.unpacked_bytes
    component = read_component(installation.target)
    assert component is not None
    assert component.wheels == {wheel.name: wheel.sha256 for wheel in place.pins.wheels}
    assert sum(component.sizes.values()) == place.pins.unpacked_bytes


def test_what_was_fetched_is_not_fetched_again(place: Place) -> None:
    place.hub.bytes_per_s = 1e6
    stopping = threading.Event()
    installation = place.installation(stopping)

    def stop_half_way() -> None:
        place.hub.wait_until_sent(CUBLAS_WHEEL, 150_000)
        installation.stop()

    watcher = threading.Thread(target=stop_half_way, daemon=True)
    watcher.start()
    with pytest.raises(OperationCancelledError):
        installation.run()
    watcher.join()
    there = bytes_there(place.root, place.pins)
    assert 0 < there < place.pins.download_bytes
    assert place.state() == "absent"
    before = place.sent()
    place.hub.bytes_per_s = None
    place.installation().run()
    assert place.state() == "ready"
    assert place.sent() - before <= place.pins.download_bytes - there + 4 * (16 << 10)


@pytest.mark.parametrize("step", ["verifying", "unpacking", "trying"])
def test_stopped_after_the_download_it_goes_on_without_the_network(place: Place, step: str) -> None:
    stopping = threading.Event()

    class Stopper(list[Progress]):
        def append(self, progress: Progress) -> None:
            fetched = (place.root / "wheels" / "torch-2.13.0-cu130").exists()
            if progress.step == step and fetched:
                stopping.set()

    stopped = place._replace(told=Stopper())
    with pytest.raises(OperationCancelledError, match="paused"):
        stopped.installation(stopping).run()
    assert place.state() == "absent"
    assert ".unpacking" not in place.left()
    assert bytes_there(place.root, place.pins) == place.pins.download_bytes
    before = place.sent()
    place.installation().run()
    assert place.state() == "ready"
    assert place.sent() == before


def test_a_server_with_other_bytes_is_not_believed(place: Place) -> None:
    place.hub.always[TORCH_WHEEL] = Fault(flip=True)
    with pytest.raises(DamagedDownloadError, match=r"127\.0\.0\.1 sends other files than those that are meant"):
        place.installation().run()
    assert place.state() == "absent"
    del place.hub.always[TORCH_WHEEL]
    place.installation().run()
    assert place.state() == "ready"


def test_a_file_that_is_not_there_is_said(place: Place) -> None:
    del place.hub.repositories["wheels/files"].files[TORCH_WHEEL]
    with pytest.raises(NotOnHubError, match=r"127\.0\.0\.1 does not have a file that is needed"):
        place.installation().run()


def test_without_a_network_it_ends_in_a_sentence(place: Place) -> None:
    place.hub.close()
    with pytest.raises(HubUnreachableError, match="Check your connection"):
        place.installation().run()


def test_a_wheel_that_was_spoilt_on_the_drive_is_fetched_anew(place: Place) -> None:
    stopping = threading.Event()
    place.root.mkdir()
    place.installation()._fetch(place.pins.wheels)
    wheel = place.root / "wheels" / "torch-2.13.0-cu130" / CUBLAS_WHEEL
    wheel.write_bytes(bytes(wheel.stat().st_size))
    with pytest.raises(DamagedDownloadError, match="SHA-256 differs"):
        place.installation(stopping).run()
    place.installation().run()
    assert place.state() == "ready"


# ---- room -----------------------------------------------------------------------------------------------------------


def test_room_for_the_download_and_for_what_it_becomes_is_asked_for_first(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = place.pins.download_bytes + place.pins.unpacked_bytes + RESERVE_BYTES
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1 << 40, 0, needed - 1))
    with pytest.raises(DiskFullError, match=r"GPU support needs .* has .* free\. Free some space there"):
        place.installation().run()
    assert place.sent() == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1 << 40, 0, needed))
    place.installation().run()
    assert place.state() == "ready"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_drive_that_fills_up_while_unpacking_keeps_what_was_fetched(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r", *values: object, **named: object) -> object:
        if mode == "xb" and path.name == "libcublas.so.13":
            return opened(Path("/dev/full"), "wb", buffering=0)
        return opened(path, mode, *values, **named)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(DiskFullError, match=r"is full\. Free some space"):
            place.installation().run()
    assert place.state() == "absent"
    assert ".unpacking" not in place.left()
    before = place.sent()
    place.installation().run()
    assert (place.state(), place.sent()) == ("ready", before)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_a_sentence(place: Place) -> None:
    place.root.parent.chmod(0o500)
    try:
        with pytest.raises(HubError, match="cannot be written"):
            place.installation().run()
    finally:
        place.root.parent.chmod(0o700)


def test_a_file_where_the_folder_should_be_is_a_sentence(place: Place) -> None:
    place.root.write_text("in the way")
    with pytest.raises(HubError, match="cannot be written or read"):
        place.installation().run()


# ---- from a folder --------------------------------------------------------------------------------------------------


def test_from_a_folder_nothing_is_fetched_and_nothing_is_taken_away(place: Place) -> None:
    before = {path.name: path.read_bytes() for path in place.wheels.iterdir()}
    place.installation().run(place.wheels)
    assert (place.state(), place.sent()) == ("ready", 0)
    assert {path.name: path.read_bytes() for path in place.wheels.iterdir()} == before


def test_a_folder_without_all_files_or_with_wrong_ones_is_said(place: Place) -> None:
    wheel = place.wheels / CUBLAS_WHEEL
    content = wheel.read_bytes()
    wheel.write_bytes(content[:-1] + b"x")
    with pytest.raises(DamagedDownloadError, match="is not the file that is meant"):
        place.installation().run(place.wheels)
    assert wheel.exists(), "the folder is the user's"
    wheel.unlink()
    with pytest.raises(HubError, match=f"has only 1 of the 2 files that are needed; '{CUBLAS_WHEEL}' is missing"):
        place.installation().run(place.wheels)
    assert place.state() == "absent"


# ---- trying it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("torch", "reason"), [(BROKEN, "ImportError: libcublas"), (DEADLY, "exit code -9")])
def test_what_does_not_start_here_is_not_installed(place: Place, torch: str, reason: str) -> None:
    wheels = write_wheels(place.root.parent / "broken", torch)
    installation = place.installation(
        command=(sys.executable, "-P", "-m", "engine.gpu_packages"), pins=pins_for(wheels)
    )
    with pytest.raises(HubError, match=f"was fetched and does not start here: {reason}"):
        installation.run(wheels)
    assert place.state() == "absent"


def test_a_torch_without_cuda_is_not_what_was_meant(place: Place) -> None:
    answer = json.dumps({"cuda": None, "version": "2.13.0+cpu"})
    with pytest.raises(HubError, match="which knows no GPU"):
        place.installation(command=(sys.executable, "-c", f"print('{answer}')")).run(place.wheels)
    assert place.state() == "absent"


# ---- repair, remove -------------------------------------------------------------------------------------------------


def test_a_repair_fetches_only_the_wheel_that_is_damaged(place: Place) -> None:
    installation = place.installation()
    installation.run()
    library = installation.target / LIBRARY
    sound = library.read_bytes()
    library.write_bytes(b"x" * len(sound))
    assert place.state() == "ready", "a file of the same size is found by its checksum alone"
    before = dict(place.hub.sent)
    place.installation().repair()
    assert library.read_bytes() == sound
    assert place.hub.sent[TORCH_WHEEL] == before[TORCH_WHEEL]
    assert place.hub.sent[CUBLAS_WHEEL] > before[CUBLAS_WHEEL]
    component = read_component(installation.target)
    assert component is not None
    assert sum(component.sizes.values()) == place.pins.unpacked_bytes
    assert place.state() == "ready"
    assert list((place.root / "wheels").iterdir()) == []


@pytest.mark.parametrize("fault", ["missing", "record", "marker", "everything"])
def test_a_repair_makes_it_whole_again(place: Place, fault: str) -> None:
    installation = place.installation()
    installation.run()
    target = installation.target
    if fault == "missing":
        (target / LIBRARY).unlink()
    elif fault == "record":
        (target / "torch-2.13.0.dist-info" / "RECORD").write_text("")
    elif fault == "marker":
        (target / "component.json").write_text("{")
    else:
        shutil.rmtree(target / "torch")
        (target / LIBRARY).unlink()
    assert place.state() == "damaged"
    place.installation().repair()
    assert place.state() == "ready"
    assert (target / "torch" / "lib" / "libtorch_cuda.so").stat().st_size == 96_000


def test_a_repair_of_what_is_whole_forgives_it_if_it_starts_now(place: Place) -> None:
    place.installation().run()
    target = place.installation().target
    refuse(target, "It did not start.")
    assert place.state() == "refused"
    with pytest.raises(HubError, match="does not start here"):
        place.installation(command=(sys.executable, "-c", "raise SystemExit(1)")).repair()
    assert place.state() == "refused"
    before = place.sent()
    place.installation().repair()
    assert (place.state(), place.sent()) == ("ready", before)


def test_what_is_removed_leaves_nothing(place: Place) -> None:
    place.installation().run()
    target = place.installation().target
    refuse(target, "It did not start.")
    remove_component(place.root, target)
    remove_component(place.root, target)
    assert place.state() == "absent"
    assert place.left() == {".downloads", "wheels"}


def test_two_do_not_install_at_a_time(place: Place) -> None:
    with gpu_files.alone(place.root):
        for work in (place.installation().run, place.installation().repair, lambda: discard(place.root)):
            with pytest.raises(HubError, match="Another Rooftop is installing GPU support now"):
                work()


def test_leftovers_go(place: Place) -> None:
    discard(place.root)
    assert not place.root.exists()
    place.root.mkdir()
    place.installation()._fetch(place.pins.wheels)
    for name in (".unpacking", ".removed-1"):
        (place.root / name).mkdir()
        (place.root / name / "file").write_text("x")
    discard(place.root)
    assert place.left() == {".downloads", "wheels"}
    assert bytes_there(place.root, place.pins) == place.pins.download_bytes
    discard(place.root, fetched=True)
    assert bytes_there(place.root, place.pins) == 0


# ---- kill -9 --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_at_every_change_it_is_absent_or_ready_and_goes_on(place: Place, tmp_path: Path) -> None:
    small = write_wheels(tmp_path / "small", cublas_bytes=20_000)
    place.hub.repositories["wheels/files"].files = {path.name: path.read_bytes() for path in small.iterdir()}
    command = [sys.executable, "-m", "tests.app.gpu_killed", f"{place.hub.storage}/wheels/files", str(small)]
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path
    folder = memory / f"rooftop-killed-{os.getpid()}"
    try:
        output = subprocess.run([*command, str(folder)], check=True, capture_output=True, text=True).stdout
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lines = [json.loads(line) for line in output.splitlines()]
    assert len(lines) > 60, "writes of two wheels, their lines, renames and syncs; files that are unpacked"
    assert [line["ended"] for line in lines] == [9] * (len(lines) - 1) + [0]
    assert {line["found"] for line in lines} == {"absent", "ready"}
    for line in lines:
        assert (line["again"], line["complete"]) == (0, "ready"), line
        assert not [name for name in line["left"] if name == ".unpacking"], line
