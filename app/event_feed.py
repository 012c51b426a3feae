"""The engine's events as the window wants them: asked for at the pace of the work, and gathered in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from PySide6.QtCore import QObject, QTimer

from engine.messages import Event, Passes, PassRecord, Snapshot, Token

BUSY_POLL_MS = 33
IDLE_POLL_MS = 500
IDLE_AFTER_QUIET_POLLS = 30


class PollTimer(QTimer):
    """Ticks at 30 Hz while there is work, and twice a second after a second of silence.

    Args:
        parent: The owner.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._quiet_polls = 0

    def wake(self) -> None:
        """Something was asked or answered."""
        self._quiet_polls = 0
        if self.interval() != BUSY_POLL_MS or not self.isActive():
            self.start(BUSY_POLL_MS)

    def pace(self, *, quiet: bool) -> None:
        """After each tick: whether it found nothing, and nothing is expected."""
        if not quiet:
            self.wake()
            return
        self._quiet_polls += 1
        if self._quiet_polls == IDLE_AFTER_QUIET_POLLS:
            self.start(IDLE_POLL_MS)


@dataclass(slots=True)
class Gathered:
    """What a tick brought of the stream of a reply: all its text, all its records, and the latest snapshot."""

    text: list[str] = field(default_factory=list)
    records: list[PassRecord] = field(default_factory=list)
    snapshot: Snapshot | None = None


def gather(events: Iterable[Event]) -> Iterator[Gathered | Event]:
    """Gather the stream between other events; what came before one of those is told before it."""
    gathered = Gathered()
    for event in events:
        if isinstance(event, Token):
            gathered.text.append(event.text)
        elif isinstance(event, Passes):
            gathered.records += event.records
        elif isinstance(event, Snapshot):
            gathered.snapshot = event
        else:
            yield gathered
            gathered = Gathered()
            yield event
    yield gathered
