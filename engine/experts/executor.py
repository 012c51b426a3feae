"""Runs the experts of one layer where the planner says, both sides at the same time, and keeps the trace.

The order of one call: routing to the host -> plan -> activations to the host if the CPU has a part -> copies of
streamed experts start -> the GPU's experts are launched and run on -> the CPU computes its own -> both sums are joined.
All policies and devices share everything but the plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from engine.config import ModelConfig, PolicyName
from engine.devices import Device
from engine.experts.cost_model import with_correction
from engine.experts.planner import LayerPlan, plan_layer
from engine.experts.popularity import Popularity
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.kernels.torch_expert import add_expert
from engine.messages import CostModel, LayerTrace

Check = Callable[[], None]


@dataclass(slots=True)
class ExecutorCounters:
    """What one reply did, in visits (token x expert).

    Attributes:
        visits: All visits.
        hits: Visits that found their expert in VRAM.
        streamed: Experts copied to the GPU to run there.
        streamed_bytes: Their bytes.
    """

    visits: int = 0
    hits: int = 0
    streamed: int = 0
    streamed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Routing:
    """One layer's visits, sorted by expert.

    Attributes:
        spans: Expert -> (first, end) in the sorted visits, only experts with tokens.
        rows: Token of each sorted visit [T * A].
        scales: Router weight of each sorted visit [T * A, 1].
    """

    spans: dict[int, tuple[int, int]]
    rows: torch.Tensor
    scales: torch.Tensor

    def visits(self, expert: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows [s] and scales [s, 1] of one expert."""
        first, end = self.spans[expert]
        return self.rows[first:end], self.scales[first:end]

    def to(self, device: str) -> _Routing:
        """The same on another device."""
        return _Routing(self.spans, self.rows.to(device), self.scales.to(device))


class ExpertExecutor:
    """The hybrid executor of one model.

    Attributes:
        costs: The cost model in force, corrected by what running shows.
        policy: Who decides.
        counters: Since the last `reset_counters`.
        traces: Latest trace per layer; None before the first pass.
    """

    def __init__(
        self,
        model: ModelConfig,
        device: Device,
        store: ExpertStore,
        residency: Residency,
        popularity: Popularity,
        costs: CostModel,
        policy: PolicyName,
    ) -> None:
        """Wire the parts; nothing is computed."""
        self._model, self._device, self._store = model, device, store
        self._residency, self._popularity = residency, popularity
        self.costs, self.policy = costs, policy
        self.counters = ExecutorCounters()
        self.traces: list[LayerTrace | None] = [None] * model.layers
        self._row_zero = torch.zeros(model.experts_per_token, dtype=torch.long, device=device.torch_device)

    def reset_counters(self) -> None:
        """Begin a new reply."""
        self.counters = ExecutorCounters()

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
        routing = self._sort(top_weights, top_experts)
        counts = [(expert, end - first) for expert, (first, end) in routing.spans.items()]
        resident = self._residency.resident[layer]
        plan = plan_layer(counts, resident, self.costs, self.policy, pass_tokens=hidden.shape[0])
        on_cpu = [run.expert for run in plan.runs if run.place == "cpu"]
        out = torch.zeros_like(hidden)
        # Fetched before the GPU gets its work: a copy to the host waits for all that was launched before it.
        on_host = (hidden.to("cpu"), routing.to("cpu")) if on_cpu else None

        device = self._device
        device.begin_layer()
        self._launch_gpu(layer, plan, hidden, routing, out, check)
        device.end_layer()
        cpu_s = 0.0
        if on_host is not None:
            started = time.perf_counter()
            cpu_out = self._run_cpu(layer, on_cpu, *on_host, check)
            cpu_s = time.perf_counter() - started
            out += cpu_out.to(device.torch_device)
        self._record(layer, plan, hidden.shape[0], counts, cpu_s)
        return out

    def _sort(self, top_weights: torch.Tensor, top_experts: torch.Tensor) -> _Routing:
        """Group visits by expert; the one place where the host waits for the router."""
        tokens, per_token = top_experts.shape
        flat = top_experts.reshape(-1)
        if tokens == 1:  # decode: each visit is its own group
            spans = {expert: (visit, visit + 1) for visit, expert in enumerate(flat.tolist())}
            return _Routing(spans, self._row_zero, top_weights.reshape(-1, 1))
        order = torch.argsort(flat, stable=True)
        experts = flat[order].tolist()
        spans = {}
        first = 0
        for position in range(1, len(experts) + 1):
            if position == len(experts) or experts[position] != experts[first]:
                spans[experts[first]] = (first, position)
                first = position
        return _Routing(spans, order // per_token, top_weights.reshape(-1)[order, None])

    def _launch_gpu(
        self,
        layer: int,
        plan: LayerPlan,
        hidden: torch.Tensor,
        routing: _Routing,
        out: torch.Tensor,
        check: Check,
    ) -> None:
        """Start the GPU's experts, residents first, and add their outputs to `out` on its compute stream."""
        device = self._device
        streamed = [run.expert for run in plan.runs if run.place == "stream"]
        staging = self._residency.staging
        for turn, expert in enumerate(streamed[: len(staging)]):
            device.copy_in(turn, staging[turn].flat, self._store.weights(layer, expert).flat)
        for run in plan.runs:
            if run.place == "gpu":
                rows, scales = routing.visits(run.expert)
                expert_out = device.run_expert(hidden[rows], self._residency.weights(layer, run.expert))
                out.index_add_(0, rows, (expert_out * scales).to(out.dtype))
        for turn, expert in enumerate(streamed):
            check()
            slot = turn % len(staging)
            device.wait_copy(slot)
            rows, scales = routing.visits(expert)
            expert_out = device.run_expert(hidden[rows], staging[slot], slot)
            following = turn + len(staging)
            if following < len(streamed):
                device.copy_in(slot, staging[slot].flat, self._store.weights(layer, streamed[following]).flat)
            out.index_add_(0, rows, (expert_out * scales).to(out.dtype))

    def _run_cpu(
        self, layer: int, experts: Sequence[int], hidden: torch.Tensor, routing: _Routing, check: Check
    ) -> torch.Tensor:
        """The CPU's experts: [T, H] on the host -> their part of the sum [T, H] on the host."""
        out = torch.zeros_like(hidden)
        for expert in experts:
            check()
            rows, scales = routing.visits(expert)
            add_expert(out, hidden, rows, scales, self._store.weights(layer, expert))
        return out

    def _record(
        self, layer: int, plan: LayerPlan, tokens: int, counts: Sequence[tuple[int, int]], cpu_s: float
    ) -> None:
        """Keep the trace, count, and let the cost model learn from what it took."""
        gpu_s = self._device.seconds() if plan.predicted_gpu_s > 0 else 0.0
        self._popularity.observe(layer, counts)
        counters = self.counters
        for run in plan.runs:
            counters.visits += run.tokens
            if run.place == "gpu":
                counters.hits += run.tokens
            elif run.place == "stream":
                counters.streamed += 1
                counters.streamed_bytes += self._model.expert_bytes
        self.traces[layer] = LayerTrace(
            layer, tokens, plan.runs, plan.predicted_cpu_s, plan.predicted_gpu_s, cpu_s, gpu_s, plan.activation_s
        )
        predicted_cpu_s = sum(run.cpu_s for run in plan.runs if run.place == "cpu")  # without the activations' copies
        self.costs = with_correction(
            self.costs,
            cpu_ratio=cpu_s / predicted_cpu_s if predicted_cpu_s > 0 else None,
            gpu_ratio=gpu_s / plan.predicted_gpu_s if plan.predicted_gpu_s > 0 else None,
        )
