"""Downloads of models for the window: what runs, what waits, what an earlier run has left; and questions to the hub.

    window: start, pause, look_up --> a thread each --(one queued signal)--> window: changed, finished, looked_up

The window never waits for the network or the disk. What earlier runs have left unfinished is offered as paused.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from PySide6.QtCore import QObject, Signal

from app.removal import remove, remove_leftovers
from app.window_thread import WindowThread
from engine.errors import OperationCancelledError, RooftopError
from engine.hub.api import Hub
from engine.hub.places import UNFINISHED, key_of, unfinished, unfinished_folder
from engine.hub.preview import remote_config
from engine.hub.record import bytes_here
from engine.hub.repository import choices
from engine.hub.transfer import Transfer, broke_off
from engine.messages import ErrorReport

if TYPE_CHECKING:
    from engine.hub.progress import TransferProgress
    from engine.hub.repository import Choice
    from engine.hub.transfer import Patience

Phase = Literal["waiting", "running", "stalled", "paused", "checking", "done", "failed"]

MAX_RUNNING = 2
CHANGED_EVERY_S = 0.1
PAUSE_TIMEOUT_S = 2.0

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class DownloadState:
    """How one download stands.

    Attributes:
        key: What tells it from all others.
        repo_id: "owner/name".
        title: Which of the repository's models.
        phase: What it does now.
        done_bytes: Bytes that are here.
        total_bytes: Of all its files.
        bytes_per_s: What arrives now.
        seconds_left: At this rate; None when nobody can tell.
        error: Why it failed.
        path: What to load, once it is done.
    """

    key: str
    repo_id: str
    title: str
    phase: Phase
    done_bytes: int
    total_bytes: int
    bytes_per_s: float = 0.0
    seconds_left: float | None = None
    error: ErrorReport | None = None
    path: Path | None = None


@dataclass
class _Download:
    """One download and the thread that works on it, if one does."""

    choice: Choice
    state: DownloadState
    transfer: Transfer | None = None
    thread: threading.Thread | None = None
    told_s: float = 0.0


class Downloads(QObject):
    """All downloads of the window.

    Signals:
        changed(str): The key of a download whose state is another one; at most ten times a second each.
        finished(str, object): Its key, and the path of the model.
        searched(str, object, object): The words, the repositories, and the ErrorReport where it failed.
        looked_up(str, object, object): The repository's name, its choices, and the ErrorReport where it failed.
        previewed(str, object, object): A choice's key, its shape, and the ErrorReport where it failed.

    Args:
        models_folder: Where complete models go.
        parent: The owner.
        token: The user's token for gated models; asked for on the threads that need it.
        endpoint: The hub's address; None takes `HF_ENDPOINT`, else huggingface.co.
        patience: How long downloads wait for the network.
    """

    changed = Signal(str)
    finished = Signal(str, object)
    searched = Signal(str, object, object)
    looked_up = Signal(str, object, object)
    previewed = Signal(str, object, object)

    def __init__(
        self,
        models_folder: Path,
        parent: QObject | None = None,
        *,
        token: Callable[[], str | None] = lambda: None,
        endpoint: str | None = None,
        patience: Patience | None = None,
    ) -> None:
        super().__init__(parent)
        self._models = models_folder
        self._token = token
        self._endpoint = endpoint
        self._patience = patience
        self._window_thread = WindowThread(self)
        self._leaving: dict[str, _Download] = {}
        self._downloads = {
            key: _Download(choice, _state(key, choice, bytes_here(unfinished_folder(models_folder, key), choice)))
            for key, choice in unfinished(models_folder).items()
        }
        remove_leftovers(models_folder / UNFINISHED)

    @property
    def models_folder(self) -> Path:
        """Where complete models go."""
        return self._models

    # ---- downloads --------------------------------------------------------------------------------------------------

    def start(self, choice: Choice) -> str:
        """Download a choice, or go on with it where an earlier run stopped.

        Returns:
            Its key.
        """
        key = key_of(choice)
        download = self._downloads.get(key)
        if download is None or download.state.phase == "done":
            self._downloads[key] = _Download(choice, _state(key, choice, 0))
        self.resume(key)
        return key

    def pause(self, key: str) -> None:
        """Stop a download for now; what has come stays."""
        download = self._downloads[key]
        if download.transfer is not None:
            download.transfer.stop()
        if download.state.phase in ("waiting", "running", "stalled", "checking"):
            self._set(download, replace(download.state, phase="paused", bytes_per_s=0.0, seconds_left=None))
        self._start_next()

    def resume(self, key: str) -> None:
        """Go on with a download that is paused or failed."""
        download = self._downloads[key]
        if download.state.phase in ("paused", "failed"):
            self._set(download, replace(download.state, phase="waiting", error=None))
            self._start_next()

    def cancel(self, key: str) -> None:
        """Give up a download and remove what is there of it; one that is done only leaves the list."""
        download = self._downloads.pop(key)
        if download.transfer is not None:
            self._leaving[key] = download
            download.transfer.stop()
        elif download.state.phase != "done":
            remove(unfinished_folder(self._models, download.state.key))
        self.changed.emit(key)
        self._start_next()

    def states(self) -> tuple[DownloadState, ...]:
        """Every download, the oldest first."""
        return tuple(download.state for download in self._downloads.values())

    def is_busy(self, key: str) -> bool:
        """Whether a thread still works on a download, as one does for a moment after a pause."""
        return self._downloads[key].transfer is not None

    def shutdown(self) -> None:
        """Pause everything; returns quickly, and nothing is written afterwards."""
        self._window_thread.end()
        running = [download for download in self._all() if download.transfer is not None]
        for download in running:
            assert download.transfer is not None
            download.transfer.stop()
        until = time.monotonic() + PAUSE_TIMEOUT_S
        for download in running:
            assert download.thread is not None
            download.thread.join(max(0.0, until - time.monotonic()))

    # ---- questions --------------------------------------------------------------------------------------------------

    def search(self, text: str) -> None:
        """Ask the hub for repositories; `searched` brings the answer."""
        self._ask(lambda hub: hub.search(text), partial(self.searched.emit, text))

    def look_up(self, repo_id: str) -> None:
        """Ask what a repository offers; `looked_up` brings the answer."""
        self._ask(lambda hub: choices(hub.look_up(repo_id)), partial(self.looked_up.emit, repo_id))

    def preview(self, choice: Choice) -> None:
        """Ask what shape a model has, which takes some megabytes of it; `previewed` brings the answer."""
        self._start_asking(
            lambda: remote_config(choice, self._token(), self._endpoint),
            None,
            partial(self.previewed.emit, key_of(choice)),
        )

    def _ask(
        self,
        question: Callable[[Hub], tuple[object, ...]],
        answered: Callable[[tuple[object, ...], ErrorReport | None], None],
    ) -> None:
        nothing: tuple[object, ...] = ()
        self._start_asking(lambda: question(Hub(self._token(), self._endpoint)), nothing, answered)

    def _start_asking(
        self, question: Callable[[], _Answer], nothing: _Answer, answered: Callable[[_Answer, ErrorReport | None], None]
    ) -> None:
        def work() -> None:
            answer, report = nothing, None
            try:
                answer = question()
            except RooftopError as error:
                report = ErrorReport.of(error)
            self._window_thread.do(partial(answered, answer, report))

        threading.Thread(target=work, name="hub", daemon=True).start()

    # ---- the threads ------------------------------------------------------------------------------------------------

    def _all(self) -> tuple[_Download, ...]:
        return (*self._downloads.values(), *self._leaving.values())

    def _start_next(self) -> None:
        busy = sum(download.transfer is not None for download in self._all())
        for key, download in list(self._downloads.items()):
            if busy >= MAX_RUNNING or self._window_thread.has_ended:
                return
            if download.state.phase == "waiting" and download.transfer is None and key not in self._leaving:
                busy += 1
                self._run(download)

    def _run(self, download: _Download) -> None:
        def told(progress: TransferProgress) -> None:
            now = time.monotonic()
            if now - download.told_s >= CHANGED_EVERY_S:
                download.told_s = now
                self._window_thread.do(partial(self._on_progress, download, progress))

        transfer = Transfer(
            download.choice,
            self._models,
            endpoint=self._endpoint,
            token=self._token,
            on_progress=told,
            patience=self._patience,
        )

        def work() -> None:
            path: Path | None = None
            failure: RooftopError | None = broke_off()
            try:
                path, failure = transfer.run(), None
            except RooftopError as error:
                failure = error
            finally:
                self._window_thread.do(partial(self._on_ended, download, path, failure))

        download.transfer = transfer
        download.thread = threading.Thread(target=work, name=f"download {download.state.key}", daemon=True)
        self._set(download, replace(download.state, phase="running"))
        download.thread.start()

    # ---- their answers ----------------------------------------------------------------------------------------------

    def _on_progress(self, download: _Download, progress: TransferProgress) -> None:
        if download.transfer is None or download.state.phase not in ("running", "stalled", "checking"):
            return
        self._set(
            download,
            replace(
                download.state,
                phase="stalled" if progress.stalled else progress.phase,
                done_bytes=progress.done_bytes,
                bytes_per_s=progress.bytes_per_s,
                seconds_left=progress.seconds_left,
            ),
        )

    def _on_ended(self, download: _Download, path: Path | None, error: RooftopError | None) -> None:
        download.transfer = download.thread = None
        state = replace(download.state, bytes_per_s=0.0, seconds_left=None)
        if self._leaving.get(state.key) is download:
            del self._leaving[state.key]
            remove(unfinished_folder(self._models, download.state.key))
        elif path is not None:
            self._set(download, replace(state, phase="done", done_bytes=state.total_bytes, path=path))
            self.finished.emit(state.key, path)
        elif isinstance(error, OperationCancelledError):
            if state.phase != "waiting":  # resumed before it had ended
                self._set(download, replace(state, phase="paused"))
        elif error is not None:
            log.warning("download of %s: %s", state.repo_id, error)
            self._set(download, replace(state, phase="failed", error=ErrorReport.of(error)))
        self._start_next()

    def _set(self, download: _Download, state: DownloadState) -> None:
        download.state = state
        self.changed.emit(state.key)


def _state(key: str, choice: Choice, done_bytes: int) -> DownloadState:
    """The state of a download that nobody works on."""
    return DownloadState(key, choice.repo_id, choice.title, "paused", done_bytes, choice.total_bytes)
