"""Where a tensor's bytes lie, and reads of them that survive a shrinking file.

Never maps a file: touching a map whose file was cut kills Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from engine.checkpoint.direct_file import DirectFile
from engine.checkpoint.untrusted import fill, open_regular

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_IDLE_FILES = 16


@dataclass(frozen=True, slots=True)
class Int4Parts:
    """The tensors that hold a matrix rounded by GPTQ or AWQ; `engine.checkpoint.int4` makes one of them.

    Attributes:
        codes: qweight.
        zeros: qzeros.
        scales: scales.
        awq: Whether they are AWQ's.
        zero_shift: What is to be added to a zero point.
    """

    codes: TensorEntry
    zeros: TensorEntry
    scales: TensorEntry
    awq: bool
    zero_shift: int


@dataclass(frozen=True, slots=True)
class SlabPart:
    """A matrix or bias of one expert that lies between others; `engine.checkpoint.stacked` takes it out.

    Attributes:
        slab: All of that expert's rows: MXFP4's codes, a bias, or floats with inputs as rows.
        first: Its first row (of floats, column).
        step: Rows from one to the next.
        scales: MXFP4's; None for floats.
    """

    slab: TensorEntry
    first: int
    step: int
    scales: TensorEntry | None = None


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies.

    Attributes:
        name: Its name in the file.
        format: How its weights are stored: a name in `engine.quant.formats`, or one that the engine does not run.
        shape: Its dimensions, the one that lies together in memory last.
        file: The file that holds it.
        offset: Bytes from the start of that file.
        nbytes: Its length.
        permuted_heads: Heads whose rows the file holds in another order (`Checkpoint.read` puts them right); None
            where rows are in order.
        int4: The tensors that it is made from; then `format` and `nbytes` tell what is made, and `TensorReader` does
            not read it. None for a tensor of its own.
        part: What it is taken out of, likewise; None for a tensor of its own.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    nbytes: int
    permuted_heads: int | None = None
    int4: Int4Parts | None = None
    part: SlabPart | None = None


class TensorReader:
    """Reads tensors' bytes into callers' buffers, from any thread.

    A read takes an idle open file of its own or opens one, and hands it back: no two reads share a file position,
    and at most `MAX_IDLE_FILES` wait open between reads.

    Args:
        direct: Read past the system's cache of files, where it can.
    """

    def __init__(self, direct: bool = False) -> None:
        """See the class."""
        self._direct = direct
        self._idle: list[tuple[Path, RawIOBase]] = []
        self._lock = Lock()
        self._closed = False

    def read(self, entry: TensorEntry, into: WriteableBuffer) -> None:
        """Fill a buffer with a tensor's raw bytes.

        Args:
            entry: Which tensor.
            into: Writable, contiguous, exactly `entry.nbytes` long.

        Raises:
            CheckpointError: The file is gone, has become shorter, or the drive fails.
            ValueError: The buffer has another length, or the reader is closed (a mistake of the caller).
        """
        view = memoryview(into)
        if view.nbytes != entry.nbytes:
            raise ValueError(f"{entry.name} is {entry.nbytes} bytes long, the buffer {view.nbytes}")
        if entry.nbytes:
            with self._borrow(entry.file) as file:
                fill(file, entry.file, entry.offset, view.cast("B"))

    def close(self) -> None:
        """Close every idle file; a read in flight closes its own when it ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, file in idle:
            file.close()

    @contextmanager
    def _borrow(self, path: Path) -> Iterator[RawIOBase]:
        """An open file that no one else uses meanwhile."""
        file = self._take_idle(path) or self._open(path)
        try:
            yield file
        except BaseException:
            file.close()
            raise
        self._give_back(path, file)

    def _open(self, path: Path) -> RawIOBase:
        """Open a file, as it is best read."""
        file = open_regular(path)
        if self._direct:
            with suppress(OSError):  # no such reads here
                direct = DirectFile(path)
                file.close()
                return direct
        return file

    def _take_idle(self, path: Path) -> RawIOBase | None:
        """The idle file that was used last for this path, if any."""
        with self._lock:
            if self._closed:
                raise ValueError("the checkpoint is closed")
            for index in reversed(range(len(self._idle))):
                if self._idle[index][0] == path:
                    return self._idle.pop(index)[1]
        return None

    def _give_back(self, path: Path, file: RawIOBase) -> None:
        """Keep a file open for the next read, and close the one that has waited longest if there are too many."""
        with self._lock:
            if not self._closed:
                self._idle.append((path, file))
                if len(self._idle) <= MAX_IDLE_FILES:
                    return
                _, file = self._idle.pop(0)
        file.close()
