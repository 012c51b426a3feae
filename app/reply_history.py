"""The last reply, token by token: unpacks the engine's records into what the live panel shows. No widgets here.

A record holds who ran where, how long it took and the costs that it was planned with; the plan's own predictions are
worked out again from these. What the machine's memory held at the time is not recorded.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from engine.experts.footprint import pass_group_visits
from engine.experts.planner import plan_layer, staging_slots_of
from engine.messages import LayerTrace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from engine.experts.planner import LayerPlan
    from engine.messages import PassRecord, Place, Ready, Snapshot

MOST_TOKENS = 4096
HALF_LIFE_TOKENS = 4.0  # of a use's brightness, as the engine's own
_FADED_TOKENS = 24
_PLACES: tuple[Place, ...] = ("gpu", "stream", "cpu")
_CONTEXT_CHARS = 48


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token of the reply and what its pass did.

    Attributes:
        record: As the engine sent it.
        snapshot: The engine's inside as of this token; hits, visits and streams are those of its pass alone.
        before: Text before the token.
        after: Text after it.
    """

    record: PassRecord
    snapshot: Snapshot
    before: str
    after: str


class ReplyHistory:
    """The records of one reply, the latest `MOST_TOKENS` of them."""

    def __init__(self) -> None:
        self._records: deque[PassRecord] = deque(maxlen=MOST_TOKENS)

    def __len__(self) -> int:
        """Tokens that can be looked at."""
        return len(self._records)

    def __iter__(self) -> Iterator[PassRecord]:
        """The records, oldest first."""
        return iter(self._records)

    @property
    def first(self) -> int:
        """Index of the oldest token that is kept."""
        return self._records[0].position if self._records else 0

    @property
    def last(self) -> int:
        """Index of the newest token; -1 without any."""
        return self._records[-1].position if self._records else -1

    def clear(self) -> None:
        """Forget the reply."""
        self._records.clear()

    def add(self, records: Sequence[PassRecord]) -> None:
        """Take records as they come; the first token of a reply begins a new history."""
        for record in records:
            if record.position <= self.last:
                self._records.clear()
            if len(self._records) == MOST_TOKENS:
                oldest = self._records.popleft()
                if self._records[0].residents is None:
                    self._records[0] = self._records[0]._replace(residents=oldest.residents)
            self._records.append(record)

    def view(self, index: int, ready: Ready, live: Snapshot) -> TokenView:
        """What the panel shows as of one token.

        Args:
            index: Of the token, `first` to `last`.
            ready: The model that gave the reply.
            live: The latest snapshot, for what is not recorded.
        """
        position = index - self.first
        record = self._records[position]
        residents = self._residents(position, ready)
        traces = unpack_traces(record, ready, residents)
        runs = [(trace.layer, run) for trace in traces for run in trace.runs]
        streamed = [layer for layer, run in runs if run.place == "stream"]
        snapshot = replace(
            live,
            resident_by_layer=residents,
            recent_use=self._recent_use(position, ready),
            layers=traces,
            hits=sum(run.tokens for _, run in runs if run.place == "gpu"),
            visits=sum(run.tokens for _, run in runs),
            streamed=len(streamed),
            streamed_bytes=sum(ready.model.layer_expert_bytes(layer) for layer in streamed),
            tokens_per_s=1.0 / record.seconds if record.seconds > 0 and record.position > 0 else 0.0,
        )
        return TokenView(record, snapshot, *self._context(position))

    def _residents(self, position: int, ready: Ready) -> tuple[tuple[int, ...], ...]:
        """Per layer the experts in VRAM when the token had been drawn."""
        bits = next((self._records[i].residents for i in range(position, -1, -1) if self._records[i].residents), None)
        layers, experts = ready.model.layers, ready.model.experts
        if bits is None:
            return ((),) * layers
        rows = np.frombuffer(bits, np.uint8).reshape(layers, -1)
        mask = np.unpackbits(rows, axis=1, count=experts)
        return tuple(tuple(np.flatnonzero(row).tolist()) for row in mask)

    def _recent_use(self, position: int, ready: Ready) -> tuple[tuple[float, ...], ...]:
        """1 for the token's own experts, halved every few tokens."""
        use = np.zeros((ready.model.layers, ready.model.experts))
        for age in range(min(position, _FADED_TOKENS), -1, -1):
            record = self._records[position - age]
            layers = np.repeat(np.arange(ready.model.layers), _numbers(record.runs))
            use[layers, _numbers(record.experts)] = 2.0 ** (-age / HALF_LIFE_TOKENS)
        return tuple(map(tuple, use.tolist()))

    def _context(self, position: int) -> tuple[str, str]:
        """Some text before and after a token."""
        before, after = "", ""
        for i in range(position - 1, -1, -1):
            if len(before) >= _CONTEXT_CHARS:
                break
            before = self._records[i].text + before
        for i in range(position + 1, len(self._records)):
            if len(after) >= _CONTEXT_CHARS:
                break
            after += self._records[i].text
        return before[-_CONTEXT_CHARS:], after[:_CONTEXT_CHARS]


def unpack_traces(record: PassRecord, ready: Ready, residents: Sequence[Sequence[int]]) -> tuple[LayerTrace, ...]:
    """What every layer did in a token's pass.

    Args:
        record: As the engine sent it.
        ready: The model; its costs, corrected as they were then, give the predictions.
        residents: Per layer the experts in VRAM.
    """
    sizes, experts = _numbers(record.runs).tolist(), _numbers(record.experts).tolist()
    counts = _numbers(record.counts).tolist() or [1] * len(experts)
    places = [_PLACES[place] for place in record.places] or ["cpu"] * len(experts)
    layers, tokens = len(sizes), record.pass_tokens
    cpu_s = np.frombuffer(record.cpu_s, np.float32).tolist()
    gpu_s = np.nan_to_num(np.frombuffer(record.gpu_s, np.float32)).tolist() or [0.0] * layers
    corrections = np.broadcast_to(np.frombuffer(record.corrections, np.float32).reshape(-1, 2), (layers, 2)).tolist()
    traces, first = [], 0
    for layer, size in enumerate(sizes):
        end = first + size
        ran = list(zip(experts[first:end], counts[first:end], places[first:end], strict=True))
        plan = _planned(ran, tokens, ready, corrections[layer], residents[layer])
        predicted_s, measured_s = (plan.predicted_cpu_s, plan.predicted_gpu_s), (cpu_s[layer], gpu_s[layer])
        once_s = plan.activation_s, ready.planning.costs.cpu_call_s
        traces.append(
            LayerTrace(
                layer,
                tokens,
                plan.runs,
                *predicted_s,
                *measured_s,
                *once_s,
                ready.effective.policy,
                ready.model.expert_parts,
            )
        )
        first = end
    return tuple(traces)


def _planned(
    ran: list[tuple[int, int, Place]],
    pass_tokens: int,
    ready: Ready,
    corrections: Sequence[float],
    residents: Sequence[int],
) -> LayerPlan:
    """A layer's plan worked out again; where it comes out otherwise, what really ran takes its runs' place."""
    policy = ready.effective.policy
    costs = replace(ready.planning.costs, cpu_correction=corrections[0], gpu_correction=corrections[1])
    there = set(residents) if policy == "cpu_only" else {expert for expert, _, place in ran if place == "gpu"}
    pairs = [(expert, tokens) for expert, tokens, _ in ran]
    places = {expert: place for expert, _, place in ran}
    model = ready.planning.model
    group_visits = pass_group_visits(model, pass_tokens)
    for slots in (0, staging_slots_of(model)):
        plan = plan_layer(
            pairs, there, costs, policy, staging_slots=slots, pass_tokens=pass_tokens, group_visits=group_visits
        )
        if all(places[run.expert] == run.place for run in plan.runs):
            return plan
    return replace(plan, runs=tuple(run._replace(place=places[run.expert]) for run in plan.runs))


def _numbers(data: bytes) -> NDArray[np.uint16]:
    return np.frombuffer(data, np.uint16)
