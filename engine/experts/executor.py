"""Runs the experts of one layer where the planner says, both sides at the same time, and keeps the trace.

The order of one call, with a single hand-off between the two sides:

    hidden states and routing start for the host
    all residents are launched, without waiting to know who visits them
    the host waits for the routing, and for nothing else
    it plans; copies of streamed experts start, and the experts follow them; the CPU computes its own
    in a prompt, copies for the next layer follow those of this one, of experts that it will stream in all likelihood
    the CPU's sum goes back and is added
    uploads of experts that shall live in VRAM begin, and are met again as residents when they are done

A pass of many tokens, or a device that cannot launch all residents at once, runs them after the plan. What
the GPU took is read when it is known: in the next layer, which cannot begin before. All policies and devices share
everything but the plan.

`run` is all of it. Whoever brings launches and a hand-off of its own, as decode steps do, calls its two halves: `begin`
launches the residents, `finish` does the rest. One layer may begin before the one before it is finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from engine.config import ModelConfig, PolicyName
from engine.devices import Device
from engine.devices.pending import Handed, Span
from engine.experts.cost_model import with_correction
from engine.experts.cpu_experts import Check, CpuExperts, Routing
from engine.experts.footprint import LAUNCHED_TOKENS, pass_group_visits
from engine.experts.forecast import dense_chunk_seconds
from engine.experts.planner import LayerPlan, plan_layer, residents_run
from engine.experts.popularity import Popularity
from engine.experts.record import ExecutionRecord
from engine.experts.replacement import Replacement
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.experts.streamer import Ahead, LayerInput, Streamer, visits_of
from engine.kernels.gpu_plans import LayerTable
from engine.messages import CostModel, LayerTrace
from engine.sentences import Sentence, say


@dataclass(frozen=True, slots=True)
class _Ran:
    """A layer that ran, or still runs on the GPU."""

    layer: int
    tokens: int
    plan: LayerPlan
    cpu_s: float
    span: Span
    disturbed: bool  # an upload held up what was streamed, which says nothing about what streaming costs


@dataclass(frozen=True, slots=True)
class Begun:
    """A layer whose residents were launched.

    Attributes:
        layer: Its index.
        residents: Those experts, if `launched`; the others' visits are planned.
        launched: Whether they run whoever visits them.
        span: Their time.
        unread: The layer before, if its time was not read when this one began.
    """

    layer: int
    residents: frozenset[int]
    launched: bool
    span: Span
    unread: _Ran | None


class Exchange(Protocol):
    """The two ways between the device and the host in one layer."""

    def receive(self) -> tuple[torch.Tensor, ...]:
        """Hidden states, router weights and chosen experts on the host, once they are there."""

    def launched(self, *, cpu_computes: bool) -> None:
        """All of the layer's work for the device is launched.

        Args:
            cpu_computes: Whether `add` follows; until then the host only computes.
        """

    def add(self, cpu_out: torch.Tensor) -> None:
        """Add what the CPU's experts gave [T, H] to the layer's sum."""


class _DeviceExchange:
    """Both ways by the device's own streams."""

    def __init__(self, device: Device, handed: Handed, out: torch.Tensor) -> None:
        """Nothing waits."""
        self._device, self._handed, self._out = device, handed, out

    def receive(self) -> tuple[torch.Tensor, ...]:
        """See `Exchange`."""
        return self._handed.wait()

    def launched(self, *, cpu_computes: bool) -> None:
        """See `Exchange`."""

    def add(self, cpu_out: torch.Tensor) -> None:
        """See `Exchange`."""
        self._out += self._device.send("experts", cpu_out)


class ExpertExecutor(ExecutionRecord):
    """The hybrid executor of one model."""

    def __init__(
        self,
        model: ModelConfig,
        device: Device,
        store: ExpertStore,
        residency: Residency,
        cpu: CpuExperts,
        popularity: Popularity,
        costs: CostModel,
        policy: PolicyName,
    ) -> None:
        """Wire the parts; nothing is computed."""
        super().__init__(model, popularity, costs, policy)
        self._device, self._store, self._residency, self._cpu = device, store, residency, cpu
        self._expert_bytes = tuple(model.layer_expert_bytes(layer) for layer in range(model.layers))
        self._replacement = Replacement(model)
        places = (torch.device("cpu"), device.torch_device)
        self._row_zero = {
            place: torch.zeros(model.experts_per_token, dtype=torch.long, device=place) for place in places
        }
        self._streamer = Streamer(model, device, store, residency, popularity)
        self._unread: _Ran | None = None

    def reset_counters(self) -> None:
        """Begin a new reply, with what is known of the experts' popularity by now."""
        super().reset_counters()
        self._replacement.expect(self._popularity.shares())

    def placed(self) -> None:
        """See `ExecutionRecord`."""
        self._streamer.forget()
        residents = self._residency.by_layer()
        self._replacement.place(
            (experts if self._residency.can_swap(layer) else () for layer, experts in enumerate(residents)),
            self._store.pageable,
            self._residency.uploading,
        )

    @property
    def not_adapting(self) -> Sentence:
        """See `ExecutionRecord`."""
        return self._replacement.pause_reason if self.adaptive else say("It is switched off in the settings.")

    @property
    def traces(self) -> Sequence[LayerTrace | None]:
        """See `ExecutionRecord`; of a layer that still runs, the trace of the pass before."""
        self._unread = self._read(self._unread)
        return self._traces

    def run(
        self, layer: int, hidden: torch.Tensor, top_weights: torch.Tensor, top_experts: torch.Tensor, check: Check
    ) -> torch.Tensor:
        """All experts of one layer.

        Args:
            layer: Its index.
            hidden: Normed hidden states [T, H], on the device.
            top_weights: Router weights [T, A], fp32.
            top_experts: Chosen experts [T, A], not their parts.
            check: Called before every expert; raises to stop.

        Returns:
            The weighted sum of the experts' outputs [T, H], on the device.
        """
        self.land()
        top_weights, top_experts = _in_parts(top_weights, top_experts, self._model.expert_parts)
        handed = self._device.hand_over(hidden, top_weights, top_experts)
        out = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        table = self.table(layer)
        at_once = self._device.runs_at_once(table, *top_experts.shape)
        launch = partial(self._device.resident_experts, table, hidden, top_experts, top_weights, out)
        begun = self.begin(layer, launch if at_once else None)
        self.finish(begun, LayerInput(hidden, top_weights, out), _DeviceExchange(self._device, handed, out), check)
        return out.to(hidden.dtype)

    def table(self, layer: int) -> LayerTable:
        """Where a layer's residents are; the same for good, with other contents."""
        return self._residency.table(layer)

    def land(self) -> None:
        """Have experts whose uploads are done be residents from now on."""
        for arrival in self._residency.land():
            self._replacement.arrived(*arrival)

    def begin(self, layer: int, launch: Callable[[], object] | None) -> Begun:
        """Start a layer's residents, of which nobody knows yet who visits them.

        Args:
            layer: Its index.
            launch: Launches them all at once; None where that cannot be done.
        """
        unread, self._unread = self._unread, None
        # They may have changed when the layer is planned, but these are the ones that ran.
        residents = frozenset(self._residency.resident[layer])
        self._device.begin_layer()
        launched = launch is not None and residents_run(self.costs, self.policy)
        if launch is not None and launched and residents:
            launch()
        return Begun(layer, residents, launched, self._device.end_layer(), unread)

    def finish(self, begun: Begun, given: LayerInput, exchange: Exchange, check: Check) -> None:
        """Plan and run the rest of a layer.

        Args:
            begun: The layer.
            given: What it works on.
            exchange: Its ways to the host and back.
            check: Called before every expert; raises to stop.
        """
        layer, launched, span, tokens = begun.layer, begun.launched, begun.span, given.hidden.shape[0]
        unread, self._unread = begun.unread or self._unread, None
        host_hidden, host_weights, host_experts = exchange.receive()
        self._read(unread)

        spans, order = _sort(host_experts)
        counts = [(expert, end - first) for expert, (first, end) in spans.items()]
        resident = begun.residents if launched else self._residency.resident[layer]
        ahead = self._streamer.take(layer)
        plan = self._plan(layer, counts, tokens, resident, ahead)
        on_gpu = [run for run in plan.runs if run.place == "stream" or (run.place == "gpu" and not launched)]
        if on_gpu:
            visits = visits_of(self._device, on_gpu, spans, order, given)
            self._streamer.launch(layer, on_gpu, visits, ahead, check)
            span = self._device.end_layer()
        if tokens > LAUNCHED_TOKENS:
            streamed = sum(run.place == "stream" for run in plan.runs)
            self._streamer.copy_ahead(layer + 1, streamed, tokens, self.costs)
        on_cpu = [run.expert for run in plan.runs if run.place == "cpu"]
        exchange.launched(cpu_computes=bool(on_cpu))
        cpu_s = 0.0
        if on_cpu:
            started = time.perf_counter()
            routing = self._routing(spans, order, host_weights)
            cpu_out = self._cpu.run(layer, on_cpu, host_hidden, routing, check)
            cpu_s = time.perf_counter() - started
            exchange.add(cpu_out)
        self._record(layer, tokens, plan, cpu_s, span)
        if self.adaptive:
            self._adapt(layer, tokens, counts)

    def _plan(
        self,
        layer: int,
        counts: Sequence[tuple[int, int]],
        tokens: int,
        resident: Container[int],
        ahead: Ahead,
    ) -> LayerPlan:
        """Decide, and have what will be read from disk read ahead."""
        plan = plan_layer(
            counts, resident, self.costs, self.policy,
            staging_slots=self._residency.staging_slots, pass_tokens=tokens, pageable=self._store.pageable[layer],
            group_visits=pass_group_visits(self._model, tokens), ahead=self._streamer.left(ahead),
        )  # fmt: skip
        if self._store.on_disk:
            self._store.expect(layer, [run.expert for run in plan.runs if run.place != "gpu"])
        return plan

    def _routing(
        self, spans: dict[int, tuple[int, int]], order: torch.Tensor | None, top_weights: torch.Tensor
    ) -> Routing:
        """Visits sorted by expert, on the side where their order and the weights are; one token needs no order."""
        if order is None:
            return Routing(spans, self._row_zero[top_weights.device], top_weights.reshape(-1, 1))
        return Routing(spans, order // top_weights.shape[1], top_weights.reshape(-1)[order, None])

    def _record(self, layer: int, tokens: int, plan: LayerPlan, cpu_s: float, span: Span) -> None:
        """Count what ran, and read its time if that is known already."""
        counters = self.counters
        for run in plan.runs:
            counters.visits += run.tokens
            if run.place == "gpu":
                counters.hits += run.tokens
            elif run.place == "stream":
                counters.streamed += 1
                counters.streamed_bytes += self._expert_bytes[layer]
        self._popularity.observe(layer, [(run.expert, run.tokens) for run in plan.runs])
        self.history.layer_ran(layer, tokens, plan.runs, cpu_s, self.costs)
        disturbed = bool(self._residency.uploading) and any(run.place == "stream" for run in plan.runs)
        self._unread = self._read(_Ran(layer, tokens, plan, cpu_s, span, disturbed))

    def _read(self, ran: _Ran | None) -> _Ran | None:
        """Keep a layer's trace and let the cost model learn from it, if its time is known; else give it back."""
        gpu_s = ran.span.seconds() if ran else None
        if ran is None or gpu_s is None:
            return ran
        plan, cpu_s = ran.plan, ran.cpu_s
        gpu_s = gpu_s if plan.predicted_gpu_s > 0 else 0.0
        self.history.gpu_took(ran.layer, gpu_s)
        dense_s = self.costs.dense_layer_s
        if ran.tokens > 1:
            dense_s = dense_chunk_seconds(self._model, self.costs, ran.tokens, 0)
        self._device.elapse(max(cpu_s, gpu_s) + dense_s)
        self._traces[ran.layer] = LayerTrace(
            ran.layer, ran.tokens, plan.runs, plan.predicted_cpu_s, plan.predicted_gpu_s, cpu_s, gpu_s,
            plan.activation_s, self.costs.cpu_call_s, self.policy, self._model.expert_parts,
        )  # fmt: skip
        predicted_cpu_s = self._cpu_call_seconds(ran)
        self.costs = with_correction(
            self.costs,
            cpu_ratio=cpu_s / predicted_cpu_s if predicted_cpu_s > 0 else None,
            gpu_ratio=gpu_s / plan.predicted_gpu_s if plan.predicted_gpu_s > 0 and not ran.disturbed else None,
        )
        return None

    def _cpu_call_seconds(self, ran: _Ran) -> float:
        """What the CPU's experts were expected to take beside the copies, without those of the activations."""
        runs, dragged = ran.plan.runs, ran.tokens <= LAUNCHED_TOKENS
        alone_s = sum(run.cpu_s for run in runs if run.place == "cpu")
        copies_s = sum(run.copy_s for run in runs if run.place == "stream") if dragged else 0.0
        return alone_s + self.costs.cpu_call_s + self.costs.copy_drag * copies_s if alone_s > 0 else 0.0

    def _adapt(self, layer: int, tokens: int, counts: Sequence[tuple[int, int]]) -> None:
        """Tell the replacement what was used, and begin the swaps that it wants."""
        if tokens > 1:
            self._replacement.observe_prompt(layer, counts, tokens)
            return
        for swap in self._replacement.step(layer, [expert for expert, _ in counts], self.costs, self.policy):
            self.counters.uploads += 1
            self.counters.uploaded_bytes += self._residency.begin_swap(layer, swap.leaving, swap.coming)


def _in_parts(top_weights: torch.Tensor, top_experts: torch.Tensor, parts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A router's choice [T, A] as one of parts [T, A * P]: all of each expert's, with its weight."""
    if parts == 1:
        return top_weights, top_experts
    each = torch.arange(parts, dtype=top_experts.dtype, device=top_experts.device)
    return top_weights.repeat_interleave(parts, dim=1), (top_experts[..., None] * parts + each).flatten(1)


def _sort(top_experts: torch.Tensor) -> tuple[dict[int, tuple[int, int]], torch.Tensor | None]:
    """Group visits by expert, on the host: expert -> (first, end) in the sorted visits, and their order [T * A].

    The visits of a single token are sorted as they are.
    """
    flat = top_experts.reshape(-1)
    if top_experts.shape[0] == 1:
        return {expert: (visit, visit + 1) for visit, expert in enumerate(flat.tolist())}, None
    order = torch.argsort(flat, stable=True)
    experts = flat[order].tolist()
    spans = {}
    first = 0
    for position in range(1, len(experts) + 1):
        if position == len(experts) or experts[position] != experts[first]:
            spans[experts[first]] = (first, position)
            first = position
    return spans, order
