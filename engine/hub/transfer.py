"""A download: several connections fetch blocks, one thread checks what has come, and a pause or a crash loses nothing.

    workers:  Blocks.take() -> Source.open() -> bytes -> Parts.store()        (several threads)
    run():    reads each file in order as it fills, compares its SHA-256, renames it; at last renames the folder

A model is found under its name when its folder was renamed to it, which is the very last step; until then everything
lies in a folder of unfinished downloads, as `record` describes it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from engine.checkpoint.untrusted import quote
from engine.errors import DamagedDownloadError, HubError, HubUnreachableError, OperationCancelledError, RooftopError
from engine.hub.answer import SILENCE_S, Body, TryAgain
from engine.hub.api import Hub
from engine.hub.blocks import CONNECTIONS, MAX_CONNECTIONS, Block, Blocks, Run, block_bytes_for
from engine.hub.intake import Intake
from engine.hub.parts import Parts, checked_room
from engine.hub.places import key_of, model_path, target_of, unfinished_folder
from engine.hub.progress import Meter, TransferProgress
from engine.sentences import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.hub.repository import Choice, RemoteFile
    from engine.hub.source import Source

REPORT_EVERY_S = 0.1
FLUSH_EVERY_S = 0.2
FLUSH_LOOK_S = 0.05
FLUSH_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Patience:
    """How a transfer waits.

    Attributes:
        tries: Failures in a row, without a byte in between, until it gives up.
        first_wait_s: After the first of them; each further one doubles it.
        longest_wait_s: Never longer than this.
        silence_s: A connection without a byte for so long is given up and made anew.
    """

    tries: int = 12
    first_wait_s: float = 0.5
    longest_wait_s: float = 60.0
    silence_s: float = SILENCE_S

    def wait_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row; spread, so that connections do not return together."""
        longest = min(self.first_wait_s * float(2 ** (failures - 1)), self.longest_wait_s)
        return longest * random.uniform(0.5, 1.0)


class Transfer:
    """Downloads one choice; one object serves one run.

    Args:
        choice: What to fetch.
        models: The folder of all models.
        endpoint: The hub's address; None takes `HF_ENDPOINT`, else huggingface.co.
        token: Of the user's account, asked for on the thread of `run`; None fetches as a stranger.
        on_progress: Hears how far it is, about ten times a second, on the thread of `run`.
        connections: How many requests at a time.
        patience: How long to wait, and how often.
        address: Where a file is, for what lies on no hub; None asks the hub.
    """

    def __init__(
        self,
        choice: Choice,
        models: Path,
        *,
        endpoint: str | None = None,
        token: Callable[[], str | None] = lambda: None,
        on_progress: Callable[[TransferProgress], None] = lambda _progress: None,
        connections: int = CONNECTIONS,
        patience: Patience | None = None,
        address: Callable[[RemoteFile], str] | None = None,
    ) -> None:
        """See the class."""
        self.choice = choice
        self.meter = Meter(choice.total_bytes)
        self._models = models
        self._folder = unfinished_folder(models, key_of(choice))
        self._on_progress = on_progress
        self._patience = patience or Patience()
        self._connections = min(connections, MAX_CONNECTIONS)
        self._blocks = Blocks([file.size_bytes for file in choice.files], block_bytes_for(choice.total_bytes))
        self._endpoint = endpoint
        self._token = token
        self._address = address
        self._lock = threading.Lock()
        self._source: Source | None = None
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._error: RooftopError | None = None

    def run(self) -> Path:
        """Fetch what is missing, check it, and put the model in its place.

        Returns:
            What to load: a folder, or the first file of a GGUF model.

        Raises:
            OperationCancelledError: `stop` was called; what is here stays for the next run.
            RooftopError: It cannot go on; what is here stays as well.
        """
        target = target_of(self._models, self.choice)
        with self._alone():
            parts = Parts(self.choice, self._folder, self._blocks, self.meter)
            if not parts.is_in_place(target):
                try:
                    parts.open()
                    checked_room(self._models, self._blocks.missing_bytes())
                    self._fetch_and_check(parts, self._connect())
                finally:
                    self._disconnect()
                    parts.close()
                parts.put_in_place(target)
        return model_path(target, self.choice)

    def stop(self) -> None:
        """Ask `run` to end soon; what is here stays. From any thread."""
        self._stopping.set()
        self._disconnect()

    # ---- the thread of `run` ----------------------------------------------------------------------------------------

    def _fetch_and_check(self, parts: Parts, source: Source) -> None:
        threading.Thread(target=self._flush, name="download-flush", args=(parts,), daemon=True).start()
        for number in range(self._connections):
            threading.Thread(target=self._work, name=f"download-{number}", args=(parts, source), daemon=True).start()
        for index in range(len(self.choice.files)):
            if not parts.is_complete(index):
                self._complete(parts, index)
            parts.check_index(index)

    def _complete(self, parts: Parts, index: int) -> None:
        """Give a file its name once all of it has come and is right; what is wrong is fetched once more."""
        if not self._is_right(parts, index):
            parts.start_over(index)
            if not self._is_right(parts, index):
                parts.start_over(index)
                raise DamagedDownloadError(
                    say(
                        "{file} came twice with bytes that are not the hub's.",
                        file=quote(self.choice.files[index].path),
                    ),
                    say("Retry later, or from another network."),
                )
        parts.complete(index)

    def _is_right(self, parts: Parts, index: int) -> bool:
        """Whether a file's bytes are those that the hub promises; follows the file as it fills."""
        digest = parts.new_digest(index)
        for block in range(self._blocks.count(index)):
            data = None
            while data is None:
                self._await(index, block)
                data = parts.read(index, block)
            digest.update(data)
            self._report()
        return parts.is_expected(index, digest.hexdigest())

    def _await(self, index: int, block: int) -> None:
        """Wait until a block is on the disk."""
        while True:
            if self._error is not None:
                raise self._error
            if self._stopping.is_set():
                raise OperationCancelledError(say("The download is paused."), say("Resume it when you like."))
            with self._blocks.changed:
                if self._blocks.state(index, block) in (Block.KEPT, Block.STORED):
                    return
                self._blocks.changed.wait(REPORT_EVERY_S)
            self._report()

    def _report(self) -> None:
        self._on_progress(self.meter.progress())

    def _connect(self) -> Source:
        from engine.hub.source import Source

        endpoint = Hub(endpoint=self._endpoint).endpoint
        source = Source(
            self.choice, endpoint, self._token(), self._patience.silence_s, self._connections, self._address
        )
        with self._lock:
            self._source = source
        if self._stopping.is_set():
            self._disconnect()
        return source

    def _disconnect(self) -> None:
        """Send the workers away, also those that wait for bytes."""
        self._ended.set()
        self._blocks.close()
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            source.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold that no other process works in the same folder."""
        lock = filelock.FileLock(self._folder.with_name(self._folder.name + ".lock"))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise HubError(
                say("Another Rooftop is downloading this model now."), say("Wait until it is done.")
            ) from error
        except OSError as error:
            raise HubError(
                say("The models folder cannot be used: {reason}.", reason=error.strerror or str(error)),
                say("Choose another one."),
            ) from error
        try:
            yield
        finally:
            if not self._folder.exists():
                with suppress(OSError):
                    Path(lock.lock_file).unlink()
            lock.release()

    # ---- the workers ------------------------------------------------------------------------------------------------

    def _flush(self, parts: Parts) -> None:
        """Sync a little at a time: whoever writes to a file waits for a long sync of it, and so does the end."""
        flushed_s, flushed_bytes = time.monotonic(), 0
        while not self._ended.wait(min(FLUSH_LOOK_S, FLUSH_EVERY_S)):
            fetched_bytes = self.meter.fetched_bytes
            if fetched_bytes - flushed_bytes < FLUSH_BYTES and time.monotonic() - flushed_s < FLUSH_EVERY_S:
                continue
            try:
                parts.flush()
            except RooftopError as error:
                self._fail(error)
            flushed_s, flushed_bytes = time.monotonic(), fetched_bytes

    def _work(self, parts: Parts, source: Source) -> None:
        is_over = False
        try:
            while (run := self._blocks.take()) is not None:
                try:
                    self._fetch(parts, source, run)
                except RooftopError as error:
                    self._fail(error)
                finally:
                    self._blocks.give_back(run)
            is_over = True
        finally:
            if not is_over:  # a mistake of ours: `run` must not wait for ever
                self._fail(broke_off())

    def _fail(self, error: RooftopError) -> None:
        self._error = self._error or error
        self._blocks.close()

    def _fetch(self, parts: Parts, source: Source, run: Run) -> None:
        """Fetch a run, through however many connections it takes."""
        file, failures = self.choice.files[run.file], 0
        intake = Intake(parts, run, self._blocks, self.meter)
        try:
            while not intake.is_done and not self._stopping.is_set():
                before = intake.position
                try:
                    with source.open(file, intake.position, run.stop_byte, parts.etag(run.file)) as body:
                        if not self._is_usable(parts, run, body, intake):
                            return
                        intake.read(body)
                except TryAgain as again:
                    failures = 1 if intake.position != before else failures + 1
                    self._wait(again, failures)
        finally:
            intake.drop()

    def _is_usable(self, parts: Parts, run: Run, body: Body, intake: Intake) -> bool:
        """Whether an answer has the bytes that were asked for, and is of the version that is kept."""
        known = parts.etag(run.file)
        if known and body.etag and body.etag != known:
            parts.start_over(run.file)
            parts.remember(run.file, body.etag)
            return False
        if body.start != intake.position:
            if not run.whole:
                self._blocks.forget_ranges(run.file)
                return False
            intake.rewind()
        if body.etag and not known:
            parts.remember(run.file, body.etag)
        return True

    def _wait(self, again: TryAgain, failures: int) -> None:
        if self._stopping.is_set():
            return
        self.meter.say(again.reason)
        if failures >= self._patience.tries:
            raise HubUnreachableError(
                say(
                    "The download broke off {failures} times in a row: {reason}.",
                    failures=failures,
                    reason=again.reason,
                ),
                say("Check your connection, then resume it; what has come is kept."),
            )
        self._stopping.wait(max(self._patience.wait_s(failures), again.after_s or 0.0))


def broke_off() -> HubError:
    """The error for a download that ended for a reason that nobody foresaw."""
    return HubError(say("The download broke off unexpectedly."), say("Resume it; what has come is kept."))
