"""Installing the GPU component: fetch its wheels, check them, unpack them, try the result, give it its name.

`app.gpu_files` tells where everything lies. A process that dies at any moment leaves the old state or the new one; the
next run goes on with the wheels. Knows no Qt; whoever calls `run` does so on a thread.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import engine
from app.gpu_files import UNPACKING, alone, check_room, choice_of, remove, storage
from app.gpu_state import Progress
from app.wheels import Stop, recorded, sha256_of, unpack
from engine.checkpoint.untrusted import quote
from engine.errors import (
    DamagedDownloadError,
    HubError,
    NotOnHubError,
    OperationCancelledError,
    RooftopError,
)
from engine.gpu_packages import MARKER, Component, components, forgive, read_component, write_component
from engine.held_files import FOLDER_WAIT_S, rename
from engine.hub.places import key_of, target_of, unfinished_folder
from engine.hub.record import bytes_here, sync_folder
from engine.hub.repository import RemoteFile
from engine.sentences import say

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from app.gpu_pins import PinnedWheel, Pins
    from app.gpu_state import Step
    from engine.hub.progress import TransferProgress
    from engine.hub.transfer import Patience, Transfer

TRY_TIMEOUT_S = 180.0

log = logging.getLogger(__name__)


class Installation:
    """One run.

    Args:
        pins: What to install.
        root: The folder of components.
        address: Where a wheel is.
        told: Hears how far it is.
        stopping: Set to end it; what is fetched stays.
        patience: How long the transfer waits for the network.
        command: Begins the command line that tries a component; its folder follows.
    """

    def __init__(
        self,
        pins: Pins,
        root: Path,
        *,
        address: Callable[[PinnedWheel], str],
        told: Callable[[Progress], None],
        stopping: threading.Event,
        patience: Patience | None = None,
        command: tuple[str, ...] = (sys.executable, "-P", "-m", "engine.gpu_packages"),
    ) -> None:
        """See the class."""
        self._pins, self._root, self._told = pins, root, told
        self._address, self._stopping, self._patience = address, stopping, patience
        self._command = command
        self._stop = Stop(stopping.is_set)
        self._transfer: Transfer | None = None

    @property
    def target(self) -> Path:
        """The component's folder."""
        return self._root / self._pins.build.folder_name

    def stop(self) -> None:
        """End `run` soon, from any thread."""
        self._stopping.set()
        if self._transfer is not None:
            self._transfer.stop()

    def run(self, folder: Path | None = None) -> None:
        """Install.

        Args:
            folder: Has the wheels; None to fetch them.

        Raises:
            OperationCancelledError: It was stopped; what is fetched stays.
            RooftopError: It cannot be; what is fetched stays as well.
        """
        with alone(self._root):
            if folder is None:
                self._fetch_and_build(self._pins.wheels, None)
            else:
                self._check_all_there(folder)
                check_room(self._root, self._pins.unpacked_bytes)
                self._check(folder, self._pins.wheels, is_ours=False)
                self._build(folder, self._pins.wheels, None)

    def repair(self) -> None:
        """Hold every file against its checksum, and fetch only the wheels anew of which one is wrong.

        Raises:
            OperationCancelledError: It was stopped.
            RooftopError: It cannot be repaired.
        """
        with alone(self._root):
            component = read_component(self.target)
            damaged = self._pins.wheels if component is None else self._damaged(component)
            if component is None or len(damaged) == len(self._pins.wheels):
                self._fetch_and_build(self._pins.wheels, None)
            elif damaged:
                self._fetch_and_build(damaged, component)
            else:
                self._try(self.target)
                forgive(self.target)

    def _fetch_and_build(self, wheels: tuple[PinnedWheel, ...], old: Component | None) -> None:
        """Fetch wheels, and make a component of them and of what is sound of the old one."""
        fetched = self._fetch(wheels)
        self._check(fetched, wheels, is_ours=True)
        self._build(fetched, wheels, old)
        remove(self._root, fetched)

    # ---- fetching and checking ------------------------------------------------------------------------------------

    def _fetch(self, wheels: tuple[PinnedWheel, ...]) -> Path:
        """Have wheels here, whole; returns their folder."""
        from engine.hub.transfer import Transfer

        choice = choice_of(self._pins, wheels)
        missing = 0
        if not target_of(self._root, choice).exists():
            missing = choice.total_bytes - bytes_here(unfinished_folder(self._root, key_of(choice)), choice)
        check_room(self._root, missing + sum(wheel.unpacked_bytes for wheel in wheels))
        by_name = {wheel.name: wheel for wheel in wheels}
        addresses: dict[str, str] = {}

        def address(file: RemoteFile) -> str:
            if file.name not in addresses:
                addresses[file.name] = self._address(by_name[file.name])
            return addresses[file.name]

        first = urlsplit(address(choice.files[0]))
        transfer = self._transfer = Transfer(
            choice,
            self._root,
            endpoint=f"{first.scheme}://{first.netloc}",
            on_progress=self._tell_transfer,
            patience=self._patience,
            address=address,
        )
        self._stop.check()
        try:
            return transfer.run()
        except OperationCancelledError:
            raise
        except RooftopError as error:
            raise _in_our_words(error, first.hostname or "") from error
        finally:
            self._transfer = None

    def _tell_transfer(self, progress: TransferProgress) -> None:
        step: Step = "stalled" if progress.stalled else "downloading" if progress.phase == "running" else "verifying"
        self._told(
            Progress(step, progress.done_bytes, progress.total_bytes, progress.bytes_per_s, progress.seconds_left)
        )

    def _check_all_there(self, folder: Path) -> None:
        absent = [wheel.name for wheel in self._pins.wheels if not (folder / wheel.name).is_file()]
        if absent:
            raise HubError(
                say(
                    "{folder} has only {count} of the {all} files that are needed; {file} is missing.",
                    folder=quote(folder),
                    count=len(self._pins.wheels) - len(absent),
                    all=len(self._pins.wheels),
                    file=quote(absent[0]),
                ),
                say("Copy it there, or choose another folder."),
            )

    def _check(self, folder: Path, wheels: tuple[PinnedWheel, ...], *, is_ours: bool) -> None:
        """Hold that every wheel is the one that is meant; where the folder `is_ours`, else all is fetched anew."""
        tell = self._teller("verifying", sum(wheel.size_bytes for wheel in wheels))
        for wheel in wheels:
            path = folder / wheel.name
            with storage(path):
                right = path.is_file() and path.stat().st_size == wheel.size_bytes
                right = right and sha256_of(path, tell, self._stop) == wheel.sha256
            if not right:
                if is_ours:
                    remove(self._root, folder)
                raise DamagedDownloadError(
                    say("{file} is not the file that is meant: its SHA-256 differs.", file=quote(wheel.name)),
                    say("Install again; if it happens again, report it.")
                    if is_ours
                    else say("Copy it anew, or choose another folder."),
                )

    def _damaged(self, component: Component) -> tuple[PinnedWheel, ...]:
        """The wheels of which a file is missing or wrong, or that are not those that are meant."""
        total = sum(component.sizes.values())
        tell = self._teller("verifying", total)
        return tuple(wheel for wheel in self._pins.wheels if not self._is_right(wheel, component, tell))

    def _is_right(self, wheel: PinnedWheel, component: Component, tell: Callable[[int], None]) -> bool:
        record = next((path for path in component.records if _belongs(path, wheel)), None)
        if record is None or component.wheels.get(wheel.name) != wheel.sha256:
            return False
        try:
            if sha256_of(self.target / record, tell, self._stop) != component.records[record]:
                return False
            return all(
                sha256_of(self.target / path, tell, self._stop) == sha256
                for path, sha256 in recorded(self.target, record)
            )
        except (OSError, ValueError):
            return False

    # ---- unpacking ------------------------------------------------------------------------------------------------

    def _build(self, wheels: Path, pinned: tuple[PinnedWheel, ...], old: Component | None) -> None:
        """Make the component's folder of wheels, and of what is sound of the old one, and put it in its place."""
        building = self._root / UNPACKING
        remove(self._root, building)
        records, sizes, made_of = dict[str, str](), dict[str, int](), dict[str, str]()
        with storage(building):
            if old is not None:
                records, sizes, made_of = self._take_over(old, pinned, building)
            building.mkdir(parents=True, exist_ok=True)
            tell = self._teller("unpacking", sum(wheel.unpacked_bytes for wheel in pinned))
            try:
                for wheel in pinned:
                    done = unpack(wheels / wheel.name, building, tell, self._stop)
                    records[done.record_path] = done.record_sha256
                    sizes |= done.sizes
                    made_of[wheel.name] = wheel.sha256
                write_component(building, Component(self._pins.build, made_of, records, sizes))
                if hasattr(os, "sync"):
                    os.sync()
                self._try(building)
            except (OSError, RooftopError):
                remove(self._root, building)
                raise
            remove(self._root, self.target)
            rename(building, self.target, FOLDER_WAIT_S)
            sync_folder(self._root)
        forgive(self.target)
        for other in components(self._root):
            if other != self.target:
                with suppress(OSError):  # an older Rooftop may be using it
                    remove(self._root, other)
                    forgive(other)

    def _take_over(
        self, old: Component, damaged: tuple[PinnedWheel, ...], building: Path
    ) -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
        """Begin with the old component, less what the damaged wheels have in it."""
        rename(self.target, building, FOLDER_WAIT_S)
        (building / MARKER).unlink(missing_ok=True)
        gone = {record for record in old.records if any(_belongs(record, wheel) for wheel in damaged)}
        kept = {path for record in old.records.keys() - gone for path, _ in recorded(building, record)}
        kept |= old.records.keys() - gone
        for path in old.sizes.keys() - kept:
            (building / path).unlink(missing_ok=True)
        names = {wheel.name for wheel in damaged}
        return (
            {path: sha for path, sha in old.records.items() if path not in gone},
            {path: size for path, size in old.sizes.items() if path in kept},
            {name: sha for name, sha in old.wheels.items() if name not in names},
        )

    def _try(self, folder: Path) -> None:
        """Hold that torch can be imported from a component, in a process of its own."""
        self._told(Progress("trying"))
        self._stop.check()
        try:
            tried = subprocess.run(
                [*self._command, str(folder)],
                capture_output=True,
                timeout=TRY_TIMEOUT_S,
                check=False,
                env={**os.environ, "PYTHONPATH": _python_path()},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except subprocess.TimeoutExpired as error:
            raise _does_not_start(say("it took too long")) from error
        lines = tried.stderr.decode(errors="replace").strip().splitlines()
        if tried.returncode != 0:
            log.warning("trying the GPU component: %s", "\n".join(lines[-20:]))
            raise _does_not_start(lines[-1][:200] if lines else say("exit code {code}", code=tried.returncode))
        told = json.loads(tried.stdout.decode().strip().splitlines()[-1])
        log.info("GPU component: %s", told)
        if told["cuda"] != self._pins.build.cuda:
            raise _does_not_start(say("it is torch {version}, which knows no GPU", version=str(told["version"])))

    # ---- its own --------------------------------------------------------------------------------------------------

    def _teller(self, step: Step, total_bytes: int) -> Callable[[int], None]:
        done = 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            self._told(Progress(step, done, total_bytes))

        tell(0)
        return tell


def _belongs(record_path: str, wheel: PinnedWheel) -> bool:
    """Whether a list of files is a wheel's: both begin with its name and version."""
    folder = record_path.partition(".dist-info/")[0]
    return wheel.name.startswith(f"{folder}-")


def _python_path() -> str:
    assert engine.__file__ is not None
    source = str(Path(engine.__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))


def _does_not_start(reason: str) -> HubError:
    return HubError(
        say("GPU support was fetched and does not start here: {reason}.", reason=reason),
        say("The CPU goes on computing alone; copy the diagnostics to report it."),
    )


def _in_our_words(error: RooftopError, host: str) -> RooftopError:
    """A transfer's error without the words for models."""
    if isinstance(error, DamagedDownloadError):
        return DamagedDownloadError(
            say("{host} sends other files than those that are meant.", host=host),
            say("Retry, or take another mirror."),
        )
    if isinstance(error, NotOnHubError) or error.code == "gated":
        return NotOnHubError(
            say("{host} does not have a file that is needed.", host=host), say("Take another mirror, or none.")
        )
    return error
