"""Runs the GPU's experts of a layer as planned: residents in groups, others through slots that copies fill meanwhile.

What is streamed waits for its copy, a copy for a slot whose expert has run. In a prompt the link would stand still
from the last copy of a layer to the next layer's plan, for all of its attention. So copies for the next layer follow at
once, of those that it will stream in all likelihood: its most popular experts outside VRAM, as many as the dense
part has time for. The plan then finds them there, or nearly. One that nobody visits has cost time of the
link that was idle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from engine.config import ModelConfig
from engine.devices import Device
from engine.experts.cost_model import predict
from engine.experts.cpu_experts import Check
from engine.experts.footprint import pass_group_visits
from engine.experts.forecast import dense_chunk_seconds
from engine.experts.planner import copies_ahead, groups, left_of_copies
from engine.experts.popularity import Popularity
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.kernels.gpu_grouped_plans import Visits
from engine.messages import CostModel, ExpertRun


@dataclass(frozen=True, slots=True)
class LayerInput:
    """What a layer's experts get, and where their sum goes, on the device.

    Attributes:
        hidden: Normed hidden states [T, H].
        weights: Router weights [T, A], fp32.
        out: Sum of those that run there [T, H], fp32, changed in place.
    """

    hidden: torch.Tensor
    weights: torch.Tensor
    out: torch.Tensor


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is copied before its layer is known to need it.

    Attributes:
        layer: The layer; -1 for none.
        slots: Expert -> its slot, in the order of the copies.
        left_s: Expert -> what will be left of its copy when the layer's experts begin.
    """

    layer: int = -1
    slots: dict[int, int] = field(default_factory=dict)
    left_s: dict[int, float] = field(default_factory=dict)


class Streamer:
    """The GPU's experts of one model.

    Args:
        model: Its shape.
        device: Where they run.
        store: Their weights in RAM.
        residency: Their weights in VRAM, and the slots.
        popularity: Whom the next layer will visit.
    """

    def __init__(
        self, model: ModelConfig, device: Device, store: ExpertStore, residency: Residency, popularity: Popularity
    ) -> None:
        """See the class."""
        self._model, self._device, self._store, self._residency = model, device, store, residency
        self._popularity, self._shares = popularity, popularity.shares()
        self._ahead = Ahead()

    def take(self, layer: int) -> Ahead:
        """What was copied ahead for a layer, to be launched or left; what was copied for another is forgotten."""
        ahead, self._ahead = self._ahead, Ahead()
        return ahead if ahead.layer == layer else Ahead()

    def forget(self) -> None:
        """The slots are others now."""
        self._ahead = Ahead()

    def left(self, ahead: Ahead) -> dict[int, float]:
        """Seconds that are left of copies ahead, as expected; nothing of one that is done."""
        return {
            expert: 0.0 if self._device.copied(ahead.slots[expert]) else left for expert, left in ahead.left_s.items()
        }

    def launch(self, layer: int, runs: Sequence[ExpertRun], visits: Visits, ahead: Ahead, check: Check) -> None:
        """Start experts in order; what they say is added on the compute stream.

        Args:
            layer: Theirs.
            runs: Residents and streamed ones.
            visits: Of all of them.
            ahead: What was copied before.
            check: Called before every group; raises to stop.
        """
        device, residency = self._device, self._residency
        streamed = [run.expert for run in runs if run.place == "stream"]
        slots = {expert: slot for expert, slot in ahead.slots.items() if expert in streamed}
        missing = deque(expert for expert in streamed if expert not in slots)
        free = deque(slot for slot in range(residency.staging_slots) if slot not in slots.values())

        def fill() -> None:
            """Have the next ones copied into the slots that are free."""
            while missing and free:
                expert = missing.popleft()
                slot = slots[expert] = free.popleft()
                device.copy_in(slot, residency.staged(slot, layer).flat, self._store.weights(layer, expert).flat)

        fill()
        for group in groups(runs, pass_group_visits(self._model, visits.hidden.shape[0])):
            check()
            expert = group[0].expert
            if group[0].place == "gpu":
                device.run_group(visits, [(run.expert, residency.weights(layer, run.expert)) for run in group])
                continue
            slot = slots[expert]
            device.wait_copy(slot)
            device.run_group(visits, [(expert, residency.staged(slot, layer))], slot)
            free.append(slot)
            fill()

    def copy_ahead(self, layer: int, streamed: int, tokens: int, costs: CostModel) -> None:
        """Begin to copy what a layer will stream, for as long as its dense part computes.

        Args:
            layer: The next one; none behind the last.
            streamed: Experts that the one before has streamed.
            tokens: Of the pass (T).
            costs: What a copy and a dense part take.
        """
        if layer == self._model.layers or self._store.on_disk or not streamed:
            return
        lead_s = dense_chunk_seconds(self._model, costs, tokens, 0)
        copy_s = predict(costs.weight_copy, 1) * costs.gpu_correction if costs.weight_copy else 0.0
        count = copies_ahead(streamed, self._residency.staging_slots, copy_s, lead_s)
        if layer == 1:
            self._shares = self._popularity.shares()
        away, shares = self._residency.resident[layer] | self._store.pageable[layer], self._shares[layer]
        likely = sorted(set(range(self._model.experts)) - away, key=lambda expert: -shares[expert])
        slots = {expert: slot for slot, expert in enumerate(likely[:count])}
        for expert, slot in slots.items():
            target = self._residency.staged(slot, layer).flat
            self._device.copy_ahead(slot, target, self._store.weights(layer, expert).flat)
        self._ahead = Ahead(layer, slots, left_of_copies(list(slots), copy_s, lead_s))


def visits_of(
    device: Device,
    runs: Sequence[ExpertRun],
    spans: dict[int, tuple[int, int]],
    order: torch.Tensor | None,
    given: LayerInput,
) -> Visits:
    """The visits of the GPU's experts in the order in which they run, on the device.

    Args:
        device: It sends them there.
        runs: Those experts.
        spans: Expert -> (first, end) in `order`.
        order: All visits of the layer sorted by expert, on the host; None where they are sorted as they are.
        given: What the layer works on.
    """
    order = torch.arange(given.weights.numel()) if order is None else order
    parts: list[torch.Tensor] = []
    ours: dict[int, tuple[int, int]] = {}
    behind = 0
    for run in runs:
        first, end = spans[run.expert]
        parts.append(order[first:end])
        ours[run.expert] = (behind, behind := behind + end - first)
    sorted_visits = torch.cat(parts)
    places = torch.full((given.weights.numel(),), -1)
    places[sorted_visits] = torch.arange(behind)
    both = device.send("order", torch.cat([sorted_visits, places]))
    return Visits(
        ours, both[:behind], both[behind:].view(given.weights.shape), given.hidden.contiguous(),
        given.weights.contiguous(), given.out,
    )  # fmt: skip
