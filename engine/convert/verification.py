"""Whether a finished conversion is still what was written, asked for by the user: `python -m engine verify`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.checkpoint.untrusted import quote
from engine.convert.journal import read_records
from engine.convert.reading_back import read_back
from engine.convert.workplace import WEIGHTS
from engine.errors import CheckpointError, ConfigurationError
from engine.sentences import say

_CONVERT_AGAIN = say("Delete the folder, then convert the model again.")


@dataclass(frozen=True, slots=True)
class Verified:
    """A finished conversion whose weights are what was written.

    Attributes:
        path: The folder.
        pieces: How many were held against their checksums.
        bytes: Of them all.
    """

    path: Path
    pieces: int
    bytes: int


def verify(folder: Path, on_read: Callable[[int, int], None] = lambda _done, _total: None) -> Verified:
    """Hold a finished conversion against its journal; the model that it was made from is not needed.

    Args:
        folder: The converted model.
        on_read: Told how many bytes were read, of how many.

    Raises:
        ConfigurationError: It was not made by `convert`, or is not finished.
        CheckpointError: It is not what was written, or cannot be read.
    """
    told = read_records(folder)
    if told is None or told.total is None or not told.records:
        raise ConfigurationError(
            say("{folder} is no finished conversion: there are no checksums to hold it against.", folder=quote(folder)),
            say("Give a folder that convert has made."),
        )
    path, records = folder / WEIGHTS, told.records
    total, done, bad = sum(record.nbytes for record in records), 0, 0
    try:
        is_whole = path.stat().st_size == told.total.get("bytes")
        with path.open("rb") as file:
            header = file.read(min(record.offset for record in records))
        is_whole = is_whole and hashlib.sha256(header).hexdigest() == told.layout
        for record, is_good in read_back(path, records):
            bad += not is_good
            done += record.nbytes
            on_read(done, total)
    except OSError as error:
        raise CheckpointError(
            say("{file} cannot be read: {reason}.", file=quote(path), reason=quote(error.strerror or str(error))),
            say("Check the drive, then retry."),
        ) from error
    if bad or not is_whole:
        raise CheckpointError(
            say(
                "{file} is damaged: {bad} of its {number} pieces differ from what was written, or its beginning or "
                "its length does.",
                file=quote(path),
                bad=bad,
                number=len(records),
            ),
            _CONVERT_AGAIN,
        )
    return Verified(folder, len(records), total)
