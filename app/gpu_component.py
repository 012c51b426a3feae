"""The GPU component for the window: whether it can be had here, how far it is, and what the user asks for.

    window: install, pause, repair, remove --> a thread --(one queued signal)--> window: changed, ended

The component is the CUDA build of the torch that is installed, and NVIDIA's libraries; `engine.gpu_packages` decides
whether an engine takes it. One thing is done at a time, and the window never waits for the network or the disk.

    available --install--> downloading <-> stalled --> verifying --> unpacking --> trying --> installed
        ^                    |  ^ pause, restart of Rooftop                                    | damage
        '------cancel------ paused, failed                                       damaged --repair--> ...
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.gpu_files import bytes_there, discard, remove_component
from app.gpu_install import Installation
from app.gpu_look import look_for_gpu
from app.gpu_pins import PinnedWheel, read_pins
from app.gpu_state import GpuState, Phase, Progress, Seen, judge
from app.wheel_index import project_files
from app.window_thread import WindowThread
from engine.errors import NotOnHubError, OperationCancelledError, RooftopError
from engine.gpu_packages import default_root, find_component, own_build
from engine.hub.transfer import Patience, broke_off
from engine.messages import ErrorReport
from engine.sentences import say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHANGED_EVERY_S = 0.1
END_TIMEOUT_S = 2.0
PATIENCE = Patience(tries=7, longest_wait_s=15.0)  # without a network it is said after half a minute

log = logging.getLogger(__name__)


def look(root: Path) -> Seen:
    """Look at this computer; takes a moment, and never raises."""
    own, pins = own_build(), read_pins()
    there = bytes_there(root, pins) if pins is not None else 0
    return Seen(look_for_gpu(), own, pins, find_component(root, own), there)


class GpuComponent(QObject):
    """The one GPU component.

    Signals:
        changed(GpuState): At most ten times a second.
        ended(Phase): Something that was asked for is done, or has failed.

    Args:
        root: The folder of components; None for the user's.
        mirror: The package index to fetch from; "" for the places in the list.
        patience: How long to wait for the network.
        parent: The owner.
        look: Looks at this computer.
        command: Tries a component, as `Installation` takes it; None for the usual.
    """

    changed = Signal(object)
    ended = Signal(str)

    def __init__(
        self,
        root: Path | None = None,
        *,
        mirror: Callable[[], str] = lambda: "",
        patience: Patience | None = None,
        parent: QObject | None = None,
        look: Callable[[Path], Seen] = look,
        command: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(parent)
        self.root = root or default_root()
        self._mirror, self._patience, self._look, self._command = mirror, patience or PATIENCE, look, command
        self._state = GpuState()
        self._thread: threading.Thread | None = None
        self._installation: Installation | None = None
        self._given_up = False
        self._window_thread = WindowThread(self)
        self._told_s = 0.0

    @property
    def state(self) -> GpuState:
        """How it stands."""
        return self._state

    @property
    def is_busy(self) -> bool:
        """Whether a thread is at work, as one is for a moment after a pause."""
        return self._thread is not None

    # ---- what the user asks for ------------------------------------------------------------------------------------

    def look(self) -> None:
        """Look at this computer again; `changed` brings what is found."""
        self._run(partial(discard, self.root), "unknown" if self._state.seen is None else self._state.phase)

    def install(self, folder: Path | None = None) -> None:
        """Install, or go on with it where it was paused or has failed.

        Args:
            folder: Has the wheels; None to fetch them.
        """
        self._work_on(lambda installation: installation.run(folder), "verifying" if folder else "downloading")

    def repair(self) -> None:
        """Hold every file against its checksum and fetch what is wrong; no engine may be using it."""
        self._work_on(Installation.repair, "verifying")

    def pause(self) -> None:
        """Stop for now; what is fetched stays."""
        if self._installation is not None:
            self._installation.stop()

    def cancel(self) -> None:
        """Give up, and remove what is fetched."""
        self._given_up = True
        if self._installation is not None:
            self._installation.stop()
        else:
            self._run(partial(discard, self.root, fetched=True), self._state.phase)

    def remove(self) -> None:
        """Remove the component; no engine may be using it."""
        folder = self._state.seen.found.folder if self._state.seen is not None else None
        if folder is not None:
            self._run(partial(remove_component, self.root, folder), "removing")

    def shutdown(self) -> None:
        """Pause; returns quickly, and nothing is told afterwards."""
        self._window_thread.end()
        if self._installation is not None:
            self._installation.stop()
        if self._thread is not None:
            self._thread.join(END_TIMEOUT_S)

    # ---- the thread -------------------------------------------------------------------------------------------------

    def _work_on(self, work: Callable[[Installation], None], phase: Phase) -> None:
        seen = self._state.seen
        if self._thread is not None or seen is None or seen.pins is None:
            return
        more = {} if self._command is None else {"command": self._command}
        self._installation = Installation(
            seen.pins,
            self.root,
            address=partial(wheel_address, self._mirror()),
            told=self._tell,
            stopping=threading.Event(),
            patience=self._patience,
            **more,
        )
        self._given_up = False
        self._run(partial(work, self._installation), phase)

    def _run(self, work: Callable[[], None], phase: Phase) -> None:
        """Do something on a thread, look at this computer again, and tell."""
        if self._thread is not None or self._window_thread.has_ended:
            return

        def run() -> None:
            failure: RooftopError | None = broke_off()
            seen = None
            try:
                failure = _tried(work)
                if self._given_up:
                    failure = _tried(partial(discard, self.root, fetched=True)) or failure
                seen = self._look(self.root)
            finally:
                self._window_thread.do(partial(self._on_ended, failure, seen))

        self._thread = threading.Thread(target=run, name="gpu-component", daemon=True)
        self._set(replace(self._state, phase=phase, error=None))
        self._thread.start()

    def _tell(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._told_s >= CHANGED_EVERY_S or progress.step != self._state.progress.step:
            self._told_s = now
            self._window_thread.do(partial(self._on_progress, progress))

    # ---- its answers ------------------------------------------------------------------------------------------------

    def _on_progress(self, progress: Progress) -> None:
        if self._installation is not None:
            self._set(replace(self._state, phase=progress.step, progress=progress))

    def _on_ended(self, failure: RooftopError | None, seen: Seen | None) -> None:
        asked, self._installation, self._thread = self._state.phase != "unknown", None, None
        state = judge(seen) if seen is not None else self._state
        if failure is not None and not isinstance(failure, OperationCancelledError):
            log.warning("GPU component: %s", failure)
            kept: Phase = "damaged" if state.phase == "damaged" else "failed"
            state = replace(state, phase=kept, error=ErrorReport.of(failure))
        self._set(state)
        if asked:
            self.ended.emit(state.phase)

    def _set(self, state: GpuState) -> None:
        self._state = state
        self.changed.emit(state)


def _tried(work: Callable[[], None]) -> RooftopError | None:
    """Do something; returns what went wrong."""
    try:
        work()
    except RooftopError as error:
        return error
    return None


def wheel_address(mirror: str, wheel: PinnedWheel) -> str:
    """Where a wheel is.

    Args:
        mirror: A package index to look for it in; "" for the place in the list.
        wheel: Which.

    Raises:
        RooftopError: The index does not answer, or does not have it.
    """
    if not mirror:
        return wheel.url
    for file in project_files(mirror, wheel.project):
        if file.name == wheel.name:
            return file.url
    raise NotOnHubError(say("{mirror} does not have {file}.", mirror=mirror, file=wheel.name), say("Take another."))
