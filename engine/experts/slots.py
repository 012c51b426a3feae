"""VRAM for residents: slots of one size in segments, each of which is allocated and freed as a whole.

An allocation for every slot would take more than the plan counts, as torch rounds them up: 16.3 MB to 16.8, and six of
3.1 MB to 21. Nor would freed slots be of use to anybody as long as one beside them is taken. So slots come by the
segment, and before one is freed, whoever lives there moves to a slot elsewhere: a copy within VRAM, many times as fast
as one over the link.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from engine.devices import Device
from engine.errors import DeviceOutOfMemoryError

MOST_SEGMENT_SLOTS = 16
MOST_SEGMENT_BYTES, LEAST_SEGMENT_BYTES = 64 << 20, 16 << 20
ROUNDED_TO_BYTES = 2 << 20  # by torch's allocator, and the driver's

TERM = "experts"


@dataclass(slots=True)
class _Segment:
    """One allocation.

    Attributes:
        slots: By address.
        free: Addresses of those that nobody lives in.
    """

    slots: dict[int, torch.Tensor]
    free: set[int]


class SlotPool:
    """Slots of one size.

    Args:
        device: Where they are.
        size_bytes: Of a slot.
    """

    def __init__(self, device: Device, size_bytes: int) -> None:
        """No slots yet."""
        self._device, self._size = device, size_bytes
        self._segments: list[_Segment] = []
        self._home: dict[int, _Segment] = {}
        self._filling: _Segment | None = None

    @property
    def slots(self) -> int:
        """All slots."""
        return len(self._home)

    @property
    def spare(self) -> int:
        """Slots that nobody lives in."""
        return sum(len(segment.free) for segment in self._segments)

    def take(self) -> torch.Tensor | None:
        """A spare slot, of the fullest segment that has one, so that others may become empty; None where none is."""
        segment = self._filling
        if segment is None or not segment.free:
            with_room = (one for one in self._segments if one.free)
            segment = self._filling = min(with_room, key=lambda one: len(one.free), default=None)
        return segment.slots[segment.free.pop()] if segment else None

    def give(self, slot: torch.Tensor) -> None:
        """Have a slot be spare."""
        address = slot.data_ptr()
        self._home[address].free.add(address)

    def grow(self, slots: int) -> bool:
        """Have so many more slots, or as many as there is memory for.

        Returns:
            Whether there was memory for all of them.
        """
        most = segment_slots(self._size)
        while slots > 0:
            number = min(most, slots)
            try:
                run = self._device.allocate((number * self._size,), torch.uint8, TERM)
            except DeviceOutOfMemoryError:
                if number == 1:
                    return False
                most = number // 2
                continue
            found = {slot.data_ptr(): slot for slot in run.split(self._size)}
            segment = _Segment(found, set(found))
            self._segments.append(segment)
            self._home |= dict.fromkeys(found, segment)
            slots -= number
        return True

    def free(self, kept: int, move: Callable[[int, torch.Tensor | None], None]) -> None:
        """Free segments until no more slots are spare than are to be kept; perhaps fewer are then.

        Args:
            kept: Spare slots that somebody will take.
            move: Has whoever lives in the slot at an address live in another; None where there is no other.
        """
        while (surplus := self.spare - kept) > 0:
            # One that is no larger than the surplus needs nobody to leave; of those, where fewest live.
            segment = min(
                self._segments,
                key=lambda one: (len(one.slots) > surplus, len(one.slots) - len(one.free), len(one.slots)),
            )
            self._segments.remove(segment)
            self._filling = None
            for address in segment.slots.keys() - segment.free:
                move(address, self.take())
            for address in segment.slots:
                del self._home[address]
            self._device.release(TERM, len(segment.slots) * self._size)


def segment_slots(size_bytes: int) -> int:
    """Slots of a segment: as many as lose least to rounding, within limits.

    Args:
        size_bytes: Of a slot.
    """
    most = max(1, min(MOST_SEGMENT_SLOTS, MOST_SEGMENT_BYTES // size_bytes))
    least = min(most, -(-LEAST_SEGMENT_BYTES // size_bytes))
    return min(range(least, most + 1), key=lambda slots: -slots * size_bytes % ROUNDED_TO_BYTES / slots)
