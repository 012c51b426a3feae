"""Runs the experts of one layer where the planner says, both sides at the same time, and keeps the trace.

The order of one call, with a single hand-off between the two sides:

    hidden states and routing start for the host
    all residents are launched, without waiting to know who visits them
    the host waits for the routing, and for nothing else
    it plans; copies of streamed experts start, and the experts follow them; the CPU computes its own
    the CPU's sum goes back and is added
    uploads of experts that shall live in VRAM begin, and are met again as residents when they are done

A pass of many tokens, or a device that cannot launch all residents at once, runs them one by one after the plan. What
the GPU took is read when it is known: in the next layer, which cannot begin before. All policies and devices share
everything but the plan.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.config import ModelConfig, PolicyName
from engine.devices import Device
from engine.devices.pending import Span
from engine.experts.cost_model import with_correction
from engine.experts.cpu_experts import Check, CpuExperts, Routing
from engine.experts.planner import LayerPlan, plan_layer, residents_run
from engine.experts.popularity import Popularity
from engine.experts.record import ExecutionRecord
from engine.experts.replacement import Replacement
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.messages import CostModel, ExpertRun, LayerTrace


@dataclass(frozen=True, slots=True)
class _Ran:
    """A layer that ran, or still runs on the GPU."""

    layer: int
    tokens: int
    plan: LayerPlan
    cpu_s: float
    span: Span
    disturbed: bool  # an upload held up what was streamed, which says nothing about what streaming costs


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
        self._unread: _Ran | None = None

    def reset_counters(self) -> None:
        """Begin a new reply, with what is known of the experts' popularity by now."""
        super().reset_counters()
        self._replacement.expect(self._popularity.shares())

    def placed(self) -> None:
        """See `ExecutionRecord`."""
        residents = self._residency.by_layer()
        self._replacement.place(
            experts if self._residency.can_swap(layer) else () for layer, experts in enumerate(residents)
        )

    @property
    def not_adapting(self) -> str:
        """See `ExecutionRecord`."""
        return self._replacement.pause_reason if self.adaptive else "It is switched off in the settings."

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
            top_experts: Chosen experts [T, A].
            check: Called before every expert; raises to stop.

        Returns:
            The weighted sum of the experts' outputs [T, H], on the device.
        """
        device, tokens = self._device, hidden.shape[0]
        unread, self._unread = self._unread, None
        for arrival in self._residency.land():
            self._replacement.arrived(*arrival)
        handed = device.hand_over(hidden, top_weights, top_experts)
        out = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        device.begin_layer()
        launched = self._launch_residents(layer, hidden, top_weights, top_experts, out)
        span = device.end_layer()
        host_hidden, host_weights, host_experts = handed.wait()
        self._read(unread)

        spans, order = _sort(host_experts)
        counts = [(expert, end - first) for expert, (first, end) in spans.items()]
        plan = self._plan(layer, counts, tokens)
        on_gpu = [run for run in plan.runs if run.place == "stream" or (run.place == "gpu" and not launched)]
        if on_gpu:
            order_there = None if order is None else device.send("order", order)
            self._launch(layer, on_gpu, hidden, self._routing(spans, order_there, top_weights), out, check)
            span = device.end_layer()
        cpu_s = self._run_on_cpu(layer, plan, host_hidden, self._routing(spans, order, host_weights), out, check)
        self._record(layer, tokens, plan, cpu_s, span)
        if self.adaptive:
            self._adapt(layer, tokens, counts)
        return out.to(hidden.dtype)

    def _launch_residents(
        self,
        layer: int,
        hidden: torch.Tensor,
        top_weights: torch.Tensor,
        top_experts: torch.Tensor,
        out: torch.Tensor,
    ) -> bool:
        """Start the residents of all visits, where the device can do so at once; returns whether it did."""
        table = self._residency.table(layer)
        at_once = residents_run(self.costs, self.policy) and self._device.runs_at_once(table, *top_experts.shape)
        if at_once and self._residency.resident[layer]:
            self._device.resident_experts(table, hidden, top_experts, top_weights, out)
        return at_once

    def _plan(self, layer: int, counts: Sequence[tuple[int, int]], tokens: int) -> LayerPlan:
        """Decide, and have what will be read from disk read ahead."""
        plan = plan_layer(
            counts, self._residency.resident[layer], self.costs, self.policy,
            staging_slots=self._residency.staging_slots, pass_tokens=tokens,
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

    def _launch(
        self,
        layer: int,
        runs: Sequence[ExpertRun],
        hidden: torch.Tensor,
        routing: Routing,
        out: torch.Tensor,
        check: Check,
    ) -> None:
        """Start experts one by one, residents first, and add their outputs to `out` on the compute stream."""
        device, slots = self._device, self._residency.staging_slots
        streamed = [run.expert for run in runs if run.place == "stream"]
        staging = [self._residency.staged(slot, layer) for slot in range(slots)] if streamed else []
        for turn, expert in enumerate(streamed[:slots]):
            device.copy_in(turn, staging[turn].flat, self._store.weights(layer, expert).flat)
        for run in runs:
            if run.place == "gpu":
                rows, scales = routing.visits(run.expert)
                expert_out = device.run_expert(hidden[rows], self._residency.weights(layer, run.expert))
                out.index_add_(0, rows, expert_out * scales)
        for turn, expert in enumerate(streamed):
            check()
            slot = turn % slots
            device.wait_copy(slot)
            rows, scales = routing.visits(expert)
            expert_out = device.run_expert(hidden[rows], staging[slot], slot)
            following = turn + slots
            if following < len(streamed):
                device.copy_in(slot, staging[slot].flat, self._store.weights(layer, streamed[following]).flat)
            out.index_add_(0, rows, expert_out * scales)

    def _run_on_cpu(
        self, layer: int, plan: LayerPlan, hidden: torch.Tensor, routing: Routing, out: torch.Tensor, check: Check
    ) -> float:
        """Compute the CPU's experts and send their sum to `out`; returns the seconds of computing."""
        experts = [run.expert for run in plan.runs if run.place == "cpu"]
        if not experts:
            return 0.0
        started = time.perf_counter()
        cpu_out = self._cpu.run(layer, experts, hidden, routing, check)
        cpu_s = time.perf_counter() - started
        out += self._device.send("experts", cpu_out)
        return cpu_s

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
        disturbed = self._residency.uploading and any(run.place == "stream" for run in plan.runs)
        self._unread = self._read(_Ran(layer, tokens, plan, cpu_s, span, disturbed))

    def _read(self, ran: _Ran | None) -> _Ran | None:
        """Keep a layer's trace and let the cost model learn from it, if its time is known; else give it back."""
        gpu_s = ran.span.seconds() if ran else None
        if ran is None or gpu_s is None:
            return ran
        plan, cpu_s = ran.plan, ran.cpu_s
        gpu_s = gpu_s if plan.predicted_gpu_s > 0 else 0.0
        self.history.gpu_took(ran.layer, gpu_s)
        self._device.elapse(max(cpu_s, gpu_s) + self.costs.dense_layer_s)
        self._traces[ran.layer] = LayerTrace(
            ran.layer, ran.tokens, plan.runs, plan.predicted_cpu_s, plan.predicted_gpu_s, cpu_s, gpu_s,
            plan.activation_s,
        )  # fmt: skip
        predicted_cpu_s = sum(run.cpu_s for run in plan.runs if run.place == "cpu")  # without the activations' copies
        self.costs = with_correction(
            self.costs,
            cpu_ratio=cpu_s / predicted_cpu_s if predicted_cpu_s > 0 else None,
            gpu_ratio=gpu_s / plan.predicted_gpu_s if plan.predicted_gpu_s > 0 and not ran.disturbed else None,
        )
        return None

    def _adapt(self, layer: int, tokens: int, counts: Sequence[tuple[int, int]]) -> None:
        """Tell the replacement what was used, and begin the swaps that it wants."""
        if tokens > 1:
            self._replacement.observe_prompt(layer, counts, tokens)
            return
        for swap in self._replacement.step(layer, [expert for expert, _ in counts], self.costs, self.policy):
            self.counters.uploads += 1
            self.counters.uploaded_bytes += self._residency.begin_swap(layer, swap.leaving, swap.coming)


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
