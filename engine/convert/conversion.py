"""Converting a model: pieces are read and encoded by some threads, written in order by one.

At most a few pieces are in memory. Some times a second what was written is brought to the drive and told to the
journal: what is not told yet is what a crash can cost. What an earlier run has left is read back first.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint.stacked import read_part
from engine.checkpoint.tensor_reader import TensorEntry, TensorReader
from engine.checkpoint.untrusted import DOWNLOAD_AGAIN, quote
from engine.convert.buffers import Buffers
from engine.convert.journal import Identity, Journal, PieceRecord, read_journal
from engine.convert.recipe import ConversionFormat
from engine.convert.report import Conversion, losses
from engine.convert.source import PIECE_BYTES, Describe, Piece, Source, leave_to_folder, open_source
from engine.convert.workplace import WEIGHTS, Workplace, check_free, unfinished_folder, writing
from engine.errors import CheckpointError, ConfigurationError, OperationCancelledError
from engine.kernels.encoder import as_bfloat16, as_float32, encode_weights, is_finite
from engine.quant.encoding import ENCODERS, Encoded
from engine.sentences import say

COMMIT_S = 0.25
TELL_LEFT_AFTER_S = 1.0
SAMPLE = 32  # of so many rows one is rounded plainly too, to compare
MAX_THREADS = 16

OnProgress = Callable[["Progress"], None]
Cancelled = Callable[[], bool]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is.

    Attributes:
        phase: "verifying", while what earlier runs have left is read back, then "converting".
        done_bytes: Of the weights that are converted; while verifying, of those that are and were read back.
        total_bytes: Of all weights.
        seconds_left: At this run's speed; None at its beginning.
    """

    phase: str
    done_bytes: int
    total_bytes: int
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A conversion that can go on.

    Attributes:
        folder: Where it lies.
        source: The model that it is made from.
        format: What it makes.
    """

    folder: Path
    source: Path
    format: str


def find_unfinished(target: Path) -> Unfinished | None:
    """The unfinished conversion into a folder, None where there is none; it goes on if its model is still the same."""
    folder = unfinished_folder(target)
    found = read_journal(folder)
    return None if found is None else Unfinished(folder, Path(str(found.get("source"))), str(found.get("format")))


def convert(
    source: Path,
    target: Path,
    conversion: ConversionFormat,
    on_progress: OnProgress = lambda _: None,
    cancelled: Cancelled = lambda: False,
    threads: int | None = None,
    describe: Describe = leave_to_folder,
) -> Conversion:
    """Convert a model into a new folder, or go on with that.

    Args:
        source: A folder with safetensors, or a GGUF file, in floats.
        target: The new folder; `DIR.unfinished` beside it until all is done.
        conversion: What it becomes.
        on_progress: Called in this thread, some times a second.
        cancelled: Asked as often; what is done is kept.
        threads: That read and encode; None for the processor's.
        describe: What the new file says of the model by itself; `engine.convert.description.describe` for all it can.

    Raises:
        CheckpointError: The source is missing, damaged or unsafe.
        UnsupportedModelError: This engine does not run it, or it is quantised already.
        ConfigurationError: The target is in use for something else.
        DoesNotFitError: The drive is full, or will be.
        EngineFailure: The drive fails.
        OperationCancelledError: `cancelled` said so.
    """
    target = _absolute(target)
    _check_apart(source, target)
    opened = open_source(source, conversion, describe)
    identity = _identity(opened, conversion)
    done = _finished(opened, target, identity)
    if done is not None:
        return done
    started = time.monotonic()
    with writing(target, 0, opened.source_bytes):
        check_free(target)
    place = Workplace.open(opened, target, identity)
    try:
        run = _Run(opened, target, place, on_progress, cancelled)
        run.verify()
        run.convert(threads or min(os.cpu_count() or 1, MAX_THREADS))
        if _identity(opened, conversion) != identity:
            raise CheckpointError(
                say("{path} changed while it was converted.", path=quote(source)),
                say("Delete {folder}, then convert again.", folder=quote(unfinished_folder(target))),
            )
        with writing(target, opened.source_bytes, opened.source_bytes):
            place.finish()
    finally:
        place.close()
    tensors, kinds = losses(opened, place.journal.records)
    seconds = time.monotonic() - started
    sizes = (opened.source_bytes, opened.target_bytes)
    return Conversion(target, conversion, *sizes, seconds, tensors, kinds, opened.notes)


class _Run:
    """One run of a conversion: its clock, and who is told."""

    def __init__(
        self, source: Source, target: Path, place: Workplace, on_progress: OnProgress, cancelled: Cancelled
    ) -> None:
        self._source, self._target, self._place = source, target, place
        self._on_progress, self._cancelled = on_progress, cancelled
        self._total = source.source_bytes
        self._done = 0
        self._started, self._first = time.monotonic(), 0
        self._buffers = Buffers(PIECE_BYTES)

    def verify(self) -> None:
        """Read back what earlier runs have left; what is not what was written will be made again."""
        sizes = {piece.number: piece.source.nbytes for piece in self._source.pieces()}
        bad = []
        with writing(self._target, 0, self._source.source_bytes):
            for record, is_good in self._place.read_back():
                self._check()
                if not is_good:
                    bad.append(record.piece)
                self._advance("verifying", sizes[record.piece])
            if bad:
                self._place.drop(bad)

    def convert(self, threads: int) -> None:
        """Do every piece that is not done yet."""
        left = [piece for piece in self._source.pieces() if piece.number not in self._place.journal.records]
        self._done = self._source.source_bytes - sum(piece.source.nbytes for piece in left)
        self._started, self._first = time.monotonic(), self._done
        reader = TensorReader()
        pool = ThreadPoolExecutor(threads, "convert")
        try:
            self._write_all(left, pool, reader, 2 * threads)
        finally:
            pool.shutdown(cancel_futures=True)
            reader.close()
            with suppress(OSError):  # whatever went wrong, keep what is whole
                self._place.commit()

    def _write_all(self, left: list[Piece], pool: ThreadPoolExecutor, reader: TensorReader, ahead: int) -> None:
        """Write pieces in order as they come, with some more on their way."""
        waiting: deque[tuple[Piece, Future[_Made]]] = deque()
        pieces = iter(left)
        committed = time.monotonic()
        while True:
            for piece in islice(pieces, ahead - len(waiting)):
                waiting.append((piece, pool.submit(_make, piece, reader, self._buffers)))
            if not waiting:
                break
            self._check()
            piece, future = waiting.popleft()
            made = future.result()
            with writing(self._target, self._done, self._source.source_bytes):
                self._place.write(piece, made.blocks.data, made.record)
                if time.monotonic() - committed > COMMIT_S:
                    self._place.commit()
                    committed = time.monotonic()
            for buffer in made.buffers:
                self._buffers.give_back(buffer)
            self._advance("converting", piece.source.nbytes)
        with writing(self._target, self._done, self._source.source_bytes):
            self._place.commit()

    def _advance(self, phase: str, count: int) -> None:
        self._done += count
        passed, made = time.monotonic() - self._started, self._done - self._first
        left = (self._total - self._done) * passed / made if made and passed > TELL_LEFT_AFTER_S else None
        self._on_progress(Progress(phase, self._done, self._total, left))

    def _check(self) -> None:
        if self._cancelled():
            raise OperationCancelledError(
                say("The conversion was stopped at {share}.", share=f"{self._done / self._total:.0%}"),
                say("Convert again to go on where it stopped."),
            )


@dataclass(frozen=True, slots=True)
class _Made:
    """A piece in its new format.

    Attributes:
        blocks: Its bytes, in one of `buffers` or in memory of their own.
        record: What the journal keeps.
        buffers: To be given back once the bytes are written.
    """

    blocks: Bytes
    record: PieceRecord
    buffers: tuple[Bytes, ...]


def _make(piece: Piece, reader: TensorReader, buffers: Buffers) -> _Made:
    """Read and encode a piece."""
    raw = read = _read(piece.source, reader, buffers)
    rows, _ = piece.source.shape
    if piece.target.heads is not None:
        raw = raw.reshape(piece.target.heads, 2, -1, raw.size // rows).swapaxes(1, 2).reshape(-1)
    try:
        if piece.target.format in ENCODERS:
            out = buffers.take(piece.nbytes)
            return _Made(out, _encode(piece, raw, out), (read, out))
        encoded = _as_floats(piece.target.format, piece.source.format, raw)
        return _Made(encoded.blocks, _record(piece, encoded.blocks, [encoded], 0.0), (read,))
    except ValueError as error:
        raise CheckpointError(
            say(
                "Tensor {tensor} in {file} cannot be converted: {reason}.",
                tensor=quote(piece.source.name),
                file=quote(piece.source.file.name),
                reason=str(error),
            ),
            DOWNLOAD_AGAIN,
        ) from error


def _read(entry: TensorEntry, reader: TensorReader, buffers: Buffers) -> Bytes:
    """The raw bytes of some rows."""
    if entry.part is not None:
        return read_part(reader, entry.part).reshape(-1).view(np.uint8)
    raw = buffers.take(entry.nbytes)
    reader.read(entry, raw.data)
    return raw


def _encode(piece: Piece, raw: Bytes, out: Bytes) -> PieceRecord:
    """The rows of a piece in their new format, the first few of them rounded plainly too."""
    name, source_format = piece.target.format, piece.source.format
    rows, columns = piece.source.shape
    sample = max(1, rows // SAMPLE)
    cut, cut_out = sample * (raw.size // rows), sample * (out.size // rows)
    plain = encode_weights(name, source_format, raw[:cut], columns, search=False, out=out[:cut_out])
    rounded = plain.squared_error
    parts = [encode_weights(name, source_format, raw[:cut], columns, out=out[:cut_out])]
    if sample < rows:
        parts.append(encode_weights(name, source_format, raw[cut:], columns, out=out[cut_out:]))
    return _record(piece, out, parts, rounded)


def _record(piece: Piece, blocks: Bytes, parts: Sequence[Encoded], rounded: float) -> PieceRecord:
    """What the journal keeps of a piece, the sample being its first part."""
    return PieceRecord(
        piece.number,
        piece.offset,
        piece.nbytes,
        zlib.crc32(blocks.data),
        sum(part.squared_error for part in parts),
        sum(part.squared_weights for part in parts),
        parts[0].squared_error,
        rounded or parts[0].squared_error,
    )


def _as_floats(name: str, source_format: str, raw: Bytes) -> Encoded:
    """Weights in a format that each fits alone; squares are counted where rounding loses any."""
    if not is_finite(source_format, raw):
        raise ValueError("a weight is not finite")
    if name in ("F32", source_format):
        return Encoded(raw if name == source_format else as_float32(source_format, raw).view(np.uint8), 0.0, 0.0)
    blocks, weights = as_bfloat16(source_format, raw), as_float32(source_format, raw)
    error = np.square(weights - as_float32(name, blocks)).sum(dtype=np.float64)
    return Encoded(blocks, float(error), float(np.square(weights).sum(dtype=np.float64)))


def _identity(source: Source, conversion: ConversionFormat) -> Identity:
    try:
        files = source.fingerprint()
    except OSError as error:
        raise CheckpointError(
            say("{name} cannot be looked up: {reason}.", name=quote(source.path), reason=quote(str(error))),
            say("Check the drive and the file's permissions, then retry."),
        ) from error
    return Identity(conversion, hashlib.sha256(source.header).hexdigest(), files, str(source.path.absolute()))


def _finished(source: Source, target: Path, identity: Identity) -> Conversion | None:
    """The same conversion, if it is in the target already: a crash may have come right after the last rename."""
    if read_journal(target) is None:
        return None
    with writing(target, 0, 1):
        try:
            journal = Journal.open(target, identity)
        except ConfigurationError:
            return None
    journal.close()
    if journal.total is None or not _is_as_long(target / WEIGHTS, source.target_bytes):
        return None
    tensors, kinds = losses(source, journal.records)
    sizes = (source.source_bytes, source.target_bytes)
    return Conversion(target, identity.format, *sizes, 0.0, tensors, kinds, source.notes)


def _is_as_long(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _absolute(path: Path) -> Path:
    """The target with its parents resolved; errors of the system are the user's."""
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigurationError(
            say("{path} cannot be used as a folder: {reason}.", path=quote(path), reason=quote(str(error))),
            say("Choose another folder."),
        ) from error


def _check_apart(source: Path, target: Path) -> None:
    """Hold that the new folder is neither the model's own nor inside it."""
    try:
        home = source.resolve()
    except (OSError, RuntimeError, ValueError):
        return  # opening it tells why
    if target == home or home in target.parents or (home.is_file() and target == home.parent):
        raise ConfigurationError(
            say("{target} is the model's own folder, or inside it.", target=quote(target)),
            say("Choose another folder for the new model."),
        )
