"""Runs the experts of one layer where the planner says, both sides at the same time, and keeps the trace.

The order of one call: routing to the host -> plan -> activations to the host if the CPU has a part -> copies of
streamed experts start -> the GPU's experts are launched and run on -> the CPU computes its own -> both sums are joined
-> uploads of experts that shall live in VRAM begin, and are met again as residents when they are done.
All policies and devices share everything but the plan.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from engine.config import ModelConfig, PolicyName
from engine.devices import Device
from engine.experts.cost_model import with_correction
from engine.experts.cpu_experts import Check, CpuExperts, Routing
from engine.experts.planner import LayerPlan, plan_layer
from engine.experts.popularity import Popularity
from engine.experts.record import ExecutionRecord
from engine.experts.replacement import Replacement
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.messages import CostModel, LayerTrace


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
        self._row_zero = torch.zeros(model.experts_per_token, dtype=torch.long, device=device.torch_device)

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
        for arrival in self._residency.land():
            self._replacement.arrived(*arrival)
        plan = plan_layer(
            counts, self._residency.resident[layer], self.costs, self.policy,
            staging_slots=self._residency.staging_slots, pass_tokens=hidden.shape[0],
        )  # fmt: skip
        on_cpu = [run.expert for run in plan.runs if run.place == "cpu"]
        if self._store.on_disk:
            self._store.expect(layer, [run.expert for run in plan.runs if run.place != "gpu"])
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
            cpu_out = self._cpu.run(layer, on_cpu, *on_host, check)
            cpu_s = time.perf_counter() - started
            out += cpu_out.to(device.torch_device)
        self._record(layer, plan, hidden.shape[0], counts, cpu_s)
        if self.adaptive:
            self._adapt(layer, hidden.shape[0], counts)
        return out

    def _sort(self, top_weights: torch.Tensor, top_experts: torch.Tensor) -> Routing:
        """Group visits by expert; the one place where the host waits for the router."""
        tokens, per_token = top_experts.shape
        flat = top_experts.reshape(-1)
        if tokens == 1:  # decode: each visit is its own group
            spans = {expert: (visit, visit + 1) for visit, expert in enumerate(flat.tolist())}
            return Routing(spans, self._row_zero, top_weights.reshape(-1, 1))
        order = torch.argsort(flat, stable=True)
        experts = flat[order].tolist()
        spans = {}
        first = 0
        for position in range(1, len(experts) + 1):
            if position == len(experts) or experts[position] != experts[first]:
                spans[experts[first]] = (first, position)
                first = position
        return Routing(spans, order // per_token, top_weights.reshape(-1)[order, None])

    def _launch_gpu(
        self,
        layer: int,
        plan: LayerPlan,
        hidden: torch.Tensor,
        routing: Routing,
        out: torch.Tensor,
        check: Check,
    ) -> None:
        """Start the GPU's experts, residents first, and add their outputs to `out` on its compute stream."""
        device = self._device
        streamed = [run.expert for run in plan.runs if run.place == "stream"]
        slots = self._residency.staging_slots
        staging = [self._residency.staged(slot, layer) for slot in range(slots)] if streamed else []
        for turn, expert in enumerate(streamed[:slots]):
            device.copy_in(turn, staging[turn].flat, self._store.weights(layer, expert).flat)
        for run in plan.runs:
            if run.place == "gpu":
                rows, scales = routing.visits(run.expert)
                expert_out = device.run_expert(hidden[rows], self._residency.weights(layer, run.expert))
                out.index_add_(0, rows, (expert_out * scales).to(out.dtype))
        for turn, expert in enumerate(streamed):
            check()
            slot = turn % slots
            device.wait_copy(slot)
            rows, scales = routing.visits(expert)
            expert_out = device.run_expert(hidden[rows], staging[slot], slot)
            following = turn + slots
            if following < len(streamed):
                device.copy_in(slot, staging[slot].flat, self._store.weights(layer, streamed[following]).flat)
            out.index_add_(0, rows, (expert_out * scales).to(out.dtype))

    def _record(
        self, layer: int, plan: LayerPlan, tokens: int, counts: Sequence[tuple[int, int]], cpu_s: float
    ) -> None:
        """Keep the trace, count, and let the cost model learn from what it took."""
        gpu_s = self._device.seconds() if plan.predicted_gpu_s > 0 else 0.0
        self._device.elapse(max(cpu_s, gpu_s) + self.costs.dense_layer_s)
        self._popularity.observe(layer, counts)
        counters = self.counters
        for run in plan.runs:
            counters.visits += run.tokens
            if run.place == "gpu":
                counters.hits += run.tokens
            elif run.place == "stream":
                counters.streamed += 1
                counters.streamed_bytes += self._expert_bytes[layer]
        self._traces[layer] = LayerTrace(
            layer, tokens, plan.runs, plan.predicted_cpu_s, plan.predicted_gpu_s, cpu_s, gpu_s, plan.activation_s
        )
        # An upload holds up what is streamed meanwhile, which says nothing about what streaming costs.
        disturbed = self._residency.uploading and any(run.place == "stream" for run in plan.runs)
        predicted_cpu_s = sum(run.cpu_s for run in plan.runs if run.place == "cpu")  # without the activations' copies
        self.costs = with_correction(
            self.costs,
            cpu_ratio=cpu_s / predicted_cpu_s if predicted_cpu_s > 0 else None,
            gpu_ratio=gpu_s / plan.predicted_gpu_s if plan.predicted_gpu_s > 0 and not disturbed else None,
        )

    def _adapt(self, layer: int, tokens: int, counts: Sequence[tuple[int, int]]) -> None:
        """Tell the replacement what was used, and begin the swaps that it wants."""
        if tokens > 1:
            self._replacement.observe_prompt(layer, counts, tokens)
            return
        for swap in self._replacement.step(layer, [expert for expert, _ in counts], self.costs, self.policy):
            self.counters.uploads += 1
            self.counters.uploaded_bytes += self._residency.begin_swap(layer, swap.leaving, swap.coming)
