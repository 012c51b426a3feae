"""Which blocks of which files are still missing, and who fetches them.

A transfer's files are cut into blocks of one size, so that at most about a hundredth of the whole is in flight and
lost when the process dies. A worker takes a `Run` of neighbouring blocks, which is one request. Safe from any thread;
knows neither the network nor the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

MIN_BLOCK_BYTES = 16 << 10
MAX_BLOCK_BYTES = 4 << 20
BLOCKS_PER_TRANSFER = 1000
RUN_BYTES = 128 << 20
LAST_RUN_BYTES = 8 << 20
RUNS_AHEAD = 16
CONNECTIONS = 4
MAX_CONNECTIONS = 8


def block_bytes_for(total_bytes: int) -> int:
    """How large the blocks of a transfer are."""
    return min(max(total_bytes // BLOCKS_PER_TRANSFER, MIN_BLOCK_BYTES), MAX_BLOCK_BYTES)


class Block(IntEnum):
    """What is known of a block; `KEPT` is one from an earlier run whose bytes nobody has looked at yet."""

    MISSING = 0
    CLAIMED = 1
    KEPT = 2
    STORED = 3


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring blocks for one request.

    Attributes:
        file: Index of the file.
        first: The first block.
        stop: One past the last.
        start_byte: Where the first begins.
        stop_byte: Where the last ends.
        version: Of the file when the run was claimed; grows whenever the file is begun anew.
        whole: The file comes from its beginning, as its server knows no ranges; blocks that are there are passed over.
    """

    file: int
    first: int
    stop: int
    start_byte: int
    stop_byte: int
    version: int = 0
    whole: bool = False


class Blocks:
    """The blocks of all files of a transfer.

    Args:
        sizes: Of the files, in bytes.
        block_bytes: Of a block; a file's last one is shorter.
    """

    def __init__(self, sizes: Sequence[int], block_bytes: int) -> None:
        """See the class."""
        self.block_bytes = block_bytes
        self.changed = threading.Condition()
        self._sizes = tuple(sizes)
        self._states = [bytearray(-(-size // block_bytes)) for size in sizes]
        self._versions = [0] * len(sizes)
        self._without_ranges: set[int] = set()
        self._closed = False

    def count(self, file: int) -> int:
        """How many blocks a file has."""
        return len(self._states[file])

    def span(self, file: int, block: int) -> tuple[int, int]:
        """Where a block begins and ends in its file, in bytes."""
        start = block * self.block_bytes
        return start, min(start + self.block_bytes, self._sizes[file])

    def state(self, file: int, block: int) -> Block:
        """What is known of a block."""
        return Block(self._states[file][block])

    def missing_bytes(self) -> int:
        """Bytes that neither lie on the disk nor in a finished file."""
        with self.changed:
            absent = (
                (file, block)
                for file, states in enumerate(self._states)
                for block, state in enumerate(states)
                if state in (Block.MISSING, Block.CLAIMED)
            )
            return sum(stop - start for start, stop in (self.span(*key) for key in absent))

    def set(self, file: int, block: int, state: Block) -> None:
        """Say what has become of a block."""
        with self.changed:
            self._states[file][block] = state
            self.changed.notify_all()

    def set_all(self, file: int, state: Block) -> None:
        """Say the same of every block of a file."""
        with self.changed:
            self._states[file] = bytearray([state]) * len(self._states[file])
            self.changed.notify_all()

    def forget(self, file: int) -> int:
        """Begin a file anew: no block of it counts, and runs that were taken before are void.

        Returns:
            How many bytes of it were there.
        """
        with self.changed:
            here = [block for block, state in enumerate(self._states[file]) if state in (Block.KEPT, Block.STORED)]
            self._versions[file] += 1
            self.set_all(file, Block.MISSING)
            return sum(stop - start for start, stop in (self.span(file, block) for block in here))

    def is_valid(self, run: Run) -> bool:
        """Whether a run's file has not been begun anew since it was taken."""
        return run.version == self._versions[run.file]

    def give_back(self, run: Run) -> None:
        """What a worker has claimed and not stored is missing again."""
        with self.changed:
            states = self._states[run.file]
            for block in range(run.first, run.stop):
                if states[block] == Block.CLAIMED and self.is_valid(run):
                    states[block] = Block.MISSING
            self.changed.notify_all()

    def forget_ranges(self, file: int) -> None:
        """This file's server sends only the whole of it: from now on one worker takes all that is missing."""
        with self.changed:
            self._without_ranges.add(file)
            self.changed.notify_all()

    def close(self) -> None:
        """No more runs; whoever waits for one is sent away."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def take(self) -> Run | None:
        """The next run; waits while all is claimed, since some of it may come back.

        Returns:
            None once `close` was called.
        """
        with self.changed:
            while not self._closed:
                run = next((run for file in range(len(self._sizes)) if (run := self._claim(file))), None)
                if run is not None:
                    return run
                self.changed.wait()
            return None

    def _claim(self, file: int) -> Run | None:
        states = self._states[file]
        whole = file in self._without_ranges
        first = states.find(Block.MISSING)
        if first < 0 or (whole and Block.CLAIMED in states):
            return None
        stop = first
        if whole:
            first, stop = 0, len(states)
        else:
            most = first + max(1, self._run_bytes() // self.block_bytes)
            while stop < min(len(states), most) and states[stop] == Block.MISSING:
                stop += 1
        for block in range(first, stop):
            if states[block] == Block.MISSING:
                states[block] = Block.CLAIMED
        start_byte, stop_byte = self.span(file, first)[0], self.span(file, stop - 1)[1]
        return Run(file, first, stop, start_byte, stop_byte, self._versions[file], whole)

    def _run_bytes(self) -> int:
        """How long a run may be: shorter towards the end, so that all connections, and the checksum, end together."""
        missing = sum(states.count(Block.MISSING) for states in self._states) * self.block_bytes
        return min(RUN_BYTES, max(LAST_RUN_BYTES, missing // RUNS_AHEAD))
