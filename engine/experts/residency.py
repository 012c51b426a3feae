"""Which experts live in VRAM: slots of exactly an expert's size, filled from the host arena, changed while running.

Layers whose experts are equally large share a pool of slots; each resident is looked at with the formats of its own
layer. Slots for streaming hold the largest expert, as any layer may use them.

A swap takes three steps and never waits: the leaving expert is resident no more, its slot is filled beside the running
work, and when that is done, which `land` asks for, the new expert is resident. Where the device has less memory than
was promised, what does not fit stays out: fewer residents, then fewer slots for streaming.

Each layer has a table on the device with the addresses of its residents, for kernels that find them by themselves. It
is written where residency changes, in the order of the work: what was launched before sees it as it was.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from engine.config import ExpertFormats, ModelConfig
from engine.devices import Device
from engine.errors import DeviceOutOfMemoryError
from engine.experts.planner import staging_slots_of
from engine.experts.slots import SlotPool
from engine.experts.store import ExpertStore
from engine.kernels.gpu_plans import LayerTable
from engine.kernels.torch_expert import ExpertWeights
from engine.uploads import Upload

GIVEN_UP_PARTS = 16  # of the residents that were placed, each time that memory runs out

Shares = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class _Arrival:
    """An expert on its way into a slot."""

    layer: int
    expert: int
    slot: torch.Tensor
    upload: Upload


class Residency:
    """VRAM copies of experts.

    Attributes:
        resident: Per layer the set of experts in VRAM.
        changes: How often an expert has come or gone.
    """

    def __init__(self, model: ModelConfig, device: Device, store: ExpertStore) -> None:
        """Start with nothing in VRAM."""
        self._model, self._device, self._store = model, device, store
        self._formats = tuple(model.formats(layer) for layer in range(model.layers))
        self._sizes = tuple(model.layer_expert_bytes(layer) for layer in range(model.layers))
        self._slots: list[dict[int, torch.Tensor]] = [{} for _ in range(model.layers)]
        self._weights: list[dict[int, ExpertWeights]] = [{} for _ in range(model.layers)]
        self.resident: list[set[int]] = [set() for _ in range(model.layers)]
        self.changes = self._placed = 0
        addresses = torch.zeros(model.layers, model.experts, dtype=torch.int64, device=device.torch_device)
        self._tables = tuple(
            LayerTable(
                addresses[layer],
                formats,
                model.hidden_size,
                model.intermediate_size,
                model.traits.clamped_gate is not None,
            )
            for layer, formats in enumerate(self._formats)
        )
        self._pools = {size: SlotPool(device, size) for size in self._sizes}
        self._arrivals: deque[_Arrival] = deque()
        self._slots_wanted = staging_slots_of(model)
        self._staging: list[torch.Tensor] = []
        self._staged: list[dict[ExpertFormats, ExpertWeights]] = []

    @property
    def staging_slots(self) -> int:
        """Slots for streaming."""
        return len(self._staging)

    def weights(self, layer: int, expert: int) -> ExpertWeights:
        """Views of one resident in VRAM."""
        return self._weights[layer][expert]

    def table(self, layer: int) -> LayerTable:
        """Where a layer's residents lie, on the device."""
        return self._tables[layer]

    def staged(self, slot: int, layer: int) -> ExpertWeights:
        """Views of a slot for streaming, as an expert of some layer."""
        return self._staged[slot][self._formats[layer]]

    def borrow(self, layer: int) -> tuple[ExpertWeights, ExpertWeights] | None:
        """A slot in VRAM and an expert that may be copied there at any time without harm, for measuring in quiet.

        Args:
            layer: Whose expert; without slots for streaming and residents of its own, another layer's.

        Returns:
            None where VRAM holds no expert at all.
        """
        self._quiet_link()
        if self._staging:
            return self.staged(0, layer), self._store.weights(layer, self.locked_expert(layer) or 0)
        holding = [other for other in (layer, *range(self._model.layers)) if self.resident[other]]
        if not holding:
            return None
        layer, expert = holding[0], min(self.resident[holding[0]])
        return self.weights(layer, expert), self._store.weights(layer, expert)

    def locked_expert(self, layer: int) -> int | None:
        """The first expert of a layer whose host copy is page-locked, or need not be; None where none is."""
        pageable = self._store.pageable[layer]
        return next((expert for expert in range(self._model.experts) if expert not in pageable), None)

    def by_layer(self) -> tuple[tuple[int, ...], ...]:
        """Per layer the experts in VRAM, ascending."""
        return tuple(tuple(sorted(layer)) for layer in self.resident)

    # ---- by plan ------------------------------------------------------------------------------------------------

    def place(self, wanted_by_layer: Sequence[Sequence[int]], *, staging: bool, shares: Shares | None = None) -> None:
        """Make these experts resident, and no others: `vacate`, then `fill`."""
        self.vacate(wanted_by_layer, staging=staging)
        self.fill(wanted_by_layer, staging=staging, shares=shares)

    def vacate(self, wanted_by_layer: Sequence[Sequence[int]], *, staging: bool) -> None:
        """Give up what is not wanted; only slots that what is wanted will take are kept, in whole segments.

        Args:
            wanted_by_layer: Per layer the experts to hold.
            staging: Whether to keep slots for streaming.
        """
        self.finish_uploads()
        for layer, wanted in enumerate(wanted_by_layer):
            for expert in self.resident[layer] - set(wanted):
                self._evict(layer, expert)
        self._free_spares(self._sizes[layer] for layer, _ in self._missing(wanted_by_layer))
        while self._staging and not staging:
            self._unstage()
        self._device.trim()

    def fill(self, wanted_by_layer: Sequence[Sequence[int]], *, staging: bool, shares: Shares | None = None) -> bool:
        """Copy in what is wanted and not there, the most popular first, until the device has no memory left.

        Args:
            wanted_by_layer: Per layer the experts to hold.
            staging: Whether to have slots for streaming, which come first.
            shares: Per layer and expert the share of visits; None takes all alike.

        Returns:
            Whether there was memory for everything.
        """
        if staging:
            self._stage(shares)
        missing = self._missing(wanted_by_layer)
        if shares is not None:
            missing.sort(key=lambda pair: -shares[pair[0]][pair[1]])
        room = self._copy_in(missing)
        self._placed = sum(map(len, self.resident))
        return room and self.staging_slots == (self._slots_wanted if staging else 0)

    def shrink(self, shares: Shares | None = None) -> bool:
        """Give up some memory, because the device ran out of it: the least popular residents, then streaming.

        Args:
            shares: As for `fill`.

        Returns:
            Whether there was anything to give up.
        """
        self.finish_uploads()
        given_up = self._free_spares() or self._give_up_residents(shares)
        if not given_up and self._staging:
            self._unstage()
            given_up = True
        self._device.trim()
        return given_up

    def close(self) -> None:
        """Evict everything."""
        self.vacate([()] * self._model.layers, staging=False)

    def finish_uploads(self) -> None:
        """Wait for what is under way, and have it live in VRAM."""
        self._quiet_link()
        self.land()

    # ---- one at a time, beside the work -------------------------------------------------------------------------

    def can_swap(self, layer: int) -> bool:
        """Whether a layer's experts can be uploaded without keeping the host waiting."""
        return len(self._store.pageable[layer]) < self._model.experts

    def begin_swap(self, layer: int, leaving: int, coming: int) -> int:
        """Start to upload one expert into the place of another; returns its bytes.

        Args:
            layer: Theirs.
            leaving: A resident, which is none from now on.
            coming: An expert that is neither resident nor under way.
        """
        self._begin_upload(layer, coming, self._move_out(layer, leaving))
        return self._sizes[layer]

    def bring_back(self, experts: Sequence[tuple[int, int]]) -> bool:
        """Start to upload experts into more slots.

        Args:
            experts: (layer, expert), none of them resident or under way; the first come first.

        Returns:
            Whether there was memory for all of them.
        """
        room = self._have_slots(experts)
        for layer, expert in experts:
            slot = self._pools[self._sizes[layer]].take()
            if slot is not None:
                self._begin_upload(layer, expert, slot)
        return room

    def land(self) -> list[tuple[int, int]]:
        """(layer, expert) of the uploads that were found done, and are resident now; never waits."""
        landed = []
        while self._arrivals and self._arrivals[0].upload.done():
            arrival = self._arrivals.popleft()
            self._move_in(arrival.layer, arrival.expert, arrival.slot)
            landed.append((arrival.layer, arrival.expert))
        return landed

    @property
    def uploading(self) -> list[tuple[int, int]]:
        """(layer, expert) of the uploads under way."""
        return [(arrival.layer, arrival.expert) for arrival in self._arrivals]

    # ---- parts --------------------------------------------------------------------------------------------------

    def _missing(self, wanted_by_layer: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        """(layer, expert) of what is wanted and not there."""
        wanted = ((layer, expert) for layer, experts in enumerate(wanted_by_layer) for expert in experts)
        return [(layer, expert) for layer, expert in wanted if expert not in self.resident[layer]]

    def _begin_upload(self, layer: int, expert: int, slot: torch.Tensor) -> None:
        """Start to copy an expert into a slot."""
        upload = self._device.begin_upload(slot, self._store.weights(layer, expert).flat)
        self._arrivals.append(_Arrival(layer, expert, slot, upload))

    def _move_in(self, layer: int, expert: int, slot: torch.Tensor) -> None:
        """Have an expert live in a slot that holds its bytes."""
        self._slots[layer][expert] = slot
        self._weights[layer][expert] = self._store.view(layer, slot)
        self._tables[layer].addresses[expert] = slot.data_ptr()
        self.resident[layer].add(expert)
        self.changes += 1

    def _move_out(self, layer: int, expert: int) -> torch.Tensor:
        """Have an expert live in VRAM no more; returns its slot."""
        self.resident[layer].discard(expert)
        self.changes += 1
        self._tables[layer].addresses[expert] = 0
        del self._weights[layer][expert]
        return self._slots[layer].pop(expert)

    def _evict(self, layer: int, expert: int) -> None:
        """Keep the slot as a spare one."""
        self._pools[self._sizes[layer]].give(self._move_out(layer, expert))

    def _copy_in(self, experts: Sequence[tuple[int, int]]) -> bool:
        """Have some more experts live in VRAM; the first come first where there is no memory for all: False then."""
        room = self._have_slots(experts)
        for layer, expert in experts:
            slot = self._pools[self._sizes[layer]].take()
            if slot is not None:
                self._store.view(layer, slot).flat.copy_(self._store.weights(layer, expert).flat)
                self._move_in(layer, expert, slot)
        return room

    def _have_slots(self, experts: Sequence[tuple[int, int]]) -> bool:
        """Have a spare slot for each of some experts; False where there is no memory for all of them."""
        wanted = Counter(self._sizes[layer] for layer, _ in experts)
        rooms = [self._pools[size].grow(number - self._pools[size].spare) for size, number in wanted.items()]
        return all(rooms)

    def _quiet_link(self) -> None:
        """Wait until nothing is under way; uploads still have to be asked for by `land`."""
        self._device.finish_copies()
        for arrival in self._arrivals:
            arrival.upload.wait()

    def _give_up_residents(self, shares: Shares | None) -> bool:
        """Free a part of the residents, the least popular; False where there are none."""
        residents = [(layer, expert) for layer, experts in enumerate(self.by_layer()) for expert in experts]
        if shares is not None:
            residents.sort(key=lambda pair: shares[pair[0]][pair[1]])
        for layer, expert in residents[: -(-self._placed // GIVEN_UP_PARTS)]:
            self._evict(layer, expert)
        return self._free_spares()

    def _free_spares(self, kept: Iterable[int] = ()) -> bool:
        """Free slots until none are spare but those that will be taken; False where none is freed.

        Args:
            kept: The sizes of those, one by one.
        """
        before = sum(pool.slots for pool in self._pools.values())
        living = {slot.data_ptr(): (layer, one) for layer, row in enumerate(self._slots) for one, slot in row.items()}

        homeless: list[tuple[int, int]] = []

        def move(address: int, target: torch.Tensor | None) -> None:
            """Whoever lives there goes elsewhere."""
            layer, expert = living.pop(address)
            slot = self._move_out(layer, expert)
            if target is None:
                homeless.append((layer, expert))
                return
            target.copy_(slot)
            self._move_in(layer, expert, target)
            living[target.data_ptr()] = layer, expert

        taken = Counter(kept)
        for size, pool in self._pools.items():
            pool.free(taken[size], move)
        if homeless:  # in what is freed there is room for them, and more
            self._device.trim()
            self._copy_in(homeless)
        return sum(pool.slots for pool in self._pools.values()) < before

    def _stage(self, shares: Shares | None) -> None:
        """Have all slots for streaming, at the expense of residents where it must be; as many as there is room for."""
        while len(self._staging) < self._slots_wanted:
            try:
                slot = self._new(self._model.expert_bytes, "staging")
            except DeviceOutOfMemoryError:
                if self._free_spares() or self._give_up_residents(shares):
                    self._device.trim()
                    continue
                return
            self._staging.append(slot)
            self._staged.append(
                {formats: self._store.view(self._formats.index(formats), slot) for formats in set(self._formats)}
            )

    def _unstage(self) -> None:
        """Free one slot for streaming; no copy is under way to it."""
        self._staged.pop()
        self._free(self._staging.pop(), "staging")

    def _new(self, size_bytes: int, term: str) -> torch.Tensor:
        """One more slot."""
        return self._device.allocate((size_bytes,), torch.uint8, term)

    def _free(self, slot: torch.Tensor, term: str) -> None:
        """Give one slot's bytes back; its memory goes with the last reference."""
        self._device.release(term, slot.nbytes)
