"""The bytes of one run, gathered into whole blocks however they come, over however many connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.hub.blocks import Block

if TYPE_CHECKING:
    from engine.hub.answer import Body
    from engine.hub.blocks import Blocks, Run
    from engine.hub.parts import Parts
    from engine.hub.progress import Meter


class Intake:
    """Gathers a run; used by one thread.

    Args:
        parts: Where whole blocks go.
        run: What was asked for.
        blocks: What is missing.
        meter: Counts what comes.

    Attributes:
        position: The byte of the file that has to come next.
    """

    def __init__(self, parts: Parts, run: Run, blocks: Blocks, meter: Meter) -> None:
        """See the class."""
        self.position = run.start_byte
        self._parts = parts
        self._run = run
        self._blocks = blocks
        self._meter = meter
        self._buffer = memoryview(bytearray(blocks.block_bytes))
        self._block = run.first
        self._filled = 0
        self._is_new = self._is_wanted()
        self._is_over = False

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to come."""
        return self._is_over or self.position >= self._run.stop_byte

    def read(self, body: Body) -> None:
        """Take bytes until the run is complete or they end.

        Raises:
            HubError: The drive refuses.
        """
        while not self.is_done:
            start, stop = self._blocks.span(self._run.file, self._block)
            count = body.read_into(self._buffer[self._filled : stop - start])
            if not count:
                return
            self._filled += count
            self.position += count
            self._meter.add(count, new=self._is_new)
            if self.position == stop:
                self._finish(stop - start)

    def rewind(self) -> None:
        """The file comes from its beginning again."""
        self.drop()
        self.position = self._run.start_byte
        self._block = self._run.first
        self._is_new = self._is_wanted()

    def drop(self) -> None:
        """What does not make a whole block is lost."""
        if self._is_new:
            self._meter.lose(self._filled)
        self._filled = 0

    def _finish(self, size: int) -> None:
        if self._is_new and not self._parts.store(self._run, self._block, self._buffer[:size]):
            self._is_over = True
            return
        self._filled = 0
        self._block += 1
        self._is_new = self._block < self._run.stop and self._is_wanted()

    def _is_wanted(self) -> bool:
        return self._blocks.state(self._run.file, self._block) is Block.CLAIMED
