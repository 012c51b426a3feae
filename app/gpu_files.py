"""Where the files of the GPU component lie, and how they come and go.

ROOT/.downloads/...            wheels that are not complete, as `engine.hub.record` describes them
ROOT/wheels/NAME/*.whl         wheels that are complete; removed once they are unpacked
ROOT/.unpacking/               what is being unpacked; worth nothing to another run
ROOT/.removed-*                what is being removed
ROOT/2.13.0+cu130/             the component, renamed to this as the last step
"""

from __future__ import annotations

import hashlib
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from app.removal import REMOVED
from engine.checkpoint.untrusted import quote
from engine.errors import DiskFullError, HubError
from engine.gpu_packages import forgive
from engine.held_files import FOLDER_WAIT_S, rename
from engine.hub.parts import RESERVE_BYTES, storage_error
from engine.hub.places import target_of, unfinished, unfinished_folder
from engine.hub.record import bytes_here
from engine.hub.repository import Choice, RemoteFile
from engine.sentences import say
from engine.sizes import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.gpu_pins import PinnedWheel, Pins

WHEELS = "wheels"
UNPACKING = ".unpacking"


def choice_of(pins: Pins, wheels: Iterable[PinnedWheel] | None = None) -> Choice:
    """The wheels of a component, or some of them, as the transfer takes them."""
    chosen = pins.wheels if wheels is None else tuple(wheels)
    files = tuple(
        RemoteFile(wheel.name, wheel.size_bytes, wheel.sha256, wheel.sha256)
        for wheel in sorted(chosen, key=lambda wheel: wheel.size_bytes)
    )
    name = f"torch-{pins.build.version}-cu{pins.build.cuda.replace('.', '')}"
    version = hashlib.sha1(repr(files).encode(), usedforsecurity=False).hexdigest()
    if len(files) < len(pins.wheels):
        name = f"{name}-part-{version[:8]}"
    return Choice(name, "wheels", files, sum(file.size_bytes for file in files), f"{WHEELS}/{name}", version)


def bytes_there(root: Path, pins: Pins) -> int:
    """About how much of a component earlier runs have fetched."""
    choice = choice_of(pins)
    if target_of(root, choice).exists():
        return choice.total_bytes
    begun = {key: one for key, one in unfinished(root).items() if one == choice}
    return sum(bytes_here(unfinished_folder(root, key), choice) for key in begun)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold that no other process changes anything here.

    Raises:
        RooftopError: One does, or the drive refuses.
    """
    lock = filelock.FileLock(root / ".lock")
    with storage(root):
        root.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise HubError(
                say("Another Rooftop is installing GPU support now."), say("Wait until it is done.")
            ) from error
    try:
        yield
    finally:
        lock.release()


def remove_component(root: Path, folder: Path) -> None:
    """Remove a component: at once from its name, then from the drive.

    Raises:
        RooftopError: The drive refuses.
    """
    with storage(folder):
        forgive(folder)
        remove(root, folder)


def discard(root: Path, *, fetched: bool = False) -> None:
    """Remove what runs that ended early have left and no other run can use.

    Args:
        root: The folder of components.
        fetched: Also what was fetched, complete or not.

    Raises:
        RooftopError: Another process is at work here, or the drive refuses.
    """
    if not root.is_dir():
        return
    with alone(root), storage(root):
        remove(root, root / UNPACKING)
        if fetched:
            remove(root, root / WHEELS)
            for key in unfinished(root):
                remove(root, unfinished_folder(root, key))
        for leftover in root.glob(f"{REMOVED}*"):
            shutil.rmtree(leftover, ignore_errors=True)


def check_room(root: Path, needed_bytes: int) -> None:
    """Hold that there is room for what is to be fetched and for what it becomes, both at once.

    Raises:
        RooftopError: There is not, or the drive does not tell.
    """
    with storage(root):
        free_bytes = shutil.disk_usage(root).free
    if needed_bytes + RESERVE_BYTES > free_bytes:
        raise DiskFullError(
            say(
                "GPU support needs {needed} on the drive of {folder}, which has {free} free.",
                needed=human_bytes(needed_bytes + RESERVE_BYTES, "up"),
                folder=quote(root),
                free=human_bytes(free_bytes, "down"),
            ),
            say("Free some space there, then try again; what has come is kept."),
        )


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """What the drive refuses becomes a sentence."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def remove(root: Path, folder: Path) -> None:
    """Remove a folder: first its name, so that nothing is left of it by half."""
    aside = root / f"{REMOVED}{time.time_ns()}"
    try:
        rename(folder, aside, FOLDER_WAIT_S)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)
