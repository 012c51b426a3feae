"""Decode steps on a GPU by launches that never change: one token, one hand-off per layer, nothing else waits.

Two segments to a layer, each a CUDA graph or, where those cannot be had, its launches one after the other:

    dense       the layer before: its sum joins the residual stream | attention | router | copies to pinned memory
    residents   experts in VRAM, found through the layer's table when they run, so that they may come and go

    signal, residents, ( hold ), dense of the next layer ...      the GPU's stream
    wait, plan, the CPU's experts, their sum, release             the host

With a hand-off that holds, the next layer is launched before the CPU has computed its part of this one, and waits on
the GPU. The host's sum is read from pinned memory where it joins the residual stream.

Pinned memory has one writer at a time. The host reads a layer's states behind their signal, and is done with them when
it launches the next layer or lets it go on. The GPU has read the host's sum before it signals again.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from functools import partial

import torch

from engine.checkpoint.families import FAMILIES
from engine.config import ModelConfig
from engine.devices.gpu_products import views_of
from engine.devices.step_tools import StepTools, Work, in_order
from engine.experts.cpu_experts import Check
from engine.experts.executor import Begun, ExpertExecutor
from engine.experts.footprint import graph_bytes, widest_columns
from engine.experts.streamer import LayerInput
from engine.kernels.cuda_driver import CudaDriverError
from engine.kernels.gpu_decoder_plans import (
    HeadNorms,
    attend_workspace_bytes,
    plan_attend,
    plan_join_norm,
    plan_rotate_store,
    plan_route,
    runs_attention,
    runs_routing,
)
from engine.kernels.gpu_launch import Launch, aligned_bytes
from engine.kernels.gpu_plans import (
    experts_workspace_bytes,
    linear_workspace_bytes,
    plan_experts,
    plan_linears,
    runs_experts,
    runs_tokens,
)
from engine.kernels.packed import PackedMatrix
from engine.model.embedding import TokenRow, plan_token_row
from engine.model.kv_cache import KVCache
from engine.model.weights import DenseWeights, LayerWeights, Matrix
from engine.sentences import Number, Sentence, say
from engine.traits import Traits


def why_no_steps(model: ModelConfig, cache: KVCache) -> Sentence:
    """A sentence: why the kernels cannot run a model's steps; "" where they can.

    Args:
        model: Its shape.
        cache: Its keys and values.
    """
    if model.traits != Traits():
        return say(
            "Torch runs the GPU's decode steps: our kernels do not know what {family} adds.",
            family=FAMILIES[model.family].title,
        )
    if not cache.holds_floats:
        return say(
            "Torch runs the GPU's decode steps: our kernels do not read a KV cache in {format}.", format=cache.format
        )
    heads = runs_attention(1, model.heads, model.kv_heads, model.head_dim)
    if not heads or not runs_routing(model.routed_experts, model.routed_per_token) or model.hidden_size % 4:
        return say("Torch runs the GPU's decode steps: our kernels do not know the shape of this model's layers.")
    return Sentence()


class _Memory:
    """All that a step works in besides weights and cache, for one token.

    Attributes:
        begin: int64 [3]: where the embedding has the token's row, and the token's position.
        begin_host: The same, pinned.
        residual: The residual stream, fp32 [1, H].
        normed: Normed hidden states before attention, and at the end [1, H].
        qkv: [1, (N + 2 K) * D].
        queries: [1, N, D], of the cache's type.
        attended: [1, N, D].
        joined: What attention adds [1, H].
        logits: The router's [1, E].
        handed: The layer's states: hidden | weights | experts, one run.
        given: Its views on the GPU, with the experts' sum.
        experts: Its view of the chosen experts, int32 [1, A], all parts of each where they are in parts.
        host: The run's views in pinned memory: hidden, weights, experts.
        handed_host: That memory.
        cpu_sum: What the CPU's experts gave, fp32 [1, H], pinned.
        attending: For `attend`.
        expert_work: For `experts`.
        product_work: For products with packed matrices.
    """

    def __init__(self, model: ModelConfig, cache: KVCache, tools: StepTools, dtype: torch.dtype) -> None:
        """Allocate; the plan's workspace has counted it."""
        device, hidden, chosen = cache.keys.device, model.hidden_size, model.experts_per_token

        def empty(*shape: int, of: torch.dtype = dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=of, device=device)

        def pinned(of: torch.dtype, *shape: int) -> torch.Tensor:
            count = torch.Size(shape).numel()
            return tools.pinned(count * of.itemsize).view(of).view(shape).zero_()

        self.begin, self.begin_host = empty(3, of=torch.int64), pinned(torch.int64, 3)
        self.residual = empty(1, hidden, of=torch.float32)
        self.normed, self.joined = empty(1, hidden), empty(1, hidden)
        self.qkv = empty(1, (model.heads + 2 * model.kv_heads) * model.head_dim)
        self.queries = empty(1, model.heads, model.head_dim, of=cache.keys.dtype)
        self.attended = empty(1, model.heads, model.head_dim)
        self.logits = empty(1, model.routed_experts)
        first, second = aligned_bytes(hidden * dtype.itemsize), aligned_bytes(4 * chosen)
        size = first + second + aligned_bytes(4 * chosen)
        self.handed, self.handed_host = empty(size, of=torch.uint8), pinned(torch.uint8, size)

        def parts(run: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            states = run[: hidden * dtype.itemsize].view(dtype).view(1, hidden)
            weights = run[first : first + 4 * chosen].view(torch.float32).view(1, chosen)
            return states, weights, run[first + second :][: 4 * chosen].view(torch.int32).view(1, chosen)

        states, weights, self.experts = parts(self.handed)
        self.given = LayerInput(states, weights, empty(1, hidden, of=torch.float32))
        self.host = parts(self.handed_host)
        self.cpu_sum = pinned(torch.float32, 1, hidden)
        size = attend_workspace_bytes(1, model.heads, model.kv_heads, model.head_dim, cache.capacity)
        self.attending = empty(size, of=torch.uint8)
        self.expert_work = empty(experts_workspace_bytes(1, chosen, hidden, model.intermediate_size), of=torch.uint8)
        self.product_work = empty(linear_workspace_bytes(1, widest_columns(model)), of=torch.uint8)


class GpuSteps:
    """Steps of one token over one cache.

    Args:
        model: Its shape, one that `why_no_steps` has nothing against.
        weights: Its dense weights, on the GPU.
        inverse_frequencies: Radians per position, fp32 [D / 2].
        executor: Runs what is not resident.
        cache: Keys and values.
        tools: Of the device; their kernels are loaded for all of this.

    Attributes:
        cache: As given.
        note: A sentence: why there are no graphs; "" where there are.
    """

    def __init__(
        self,
        model: ModelConfig,
        weights: DenseWeights,
        inverse_frequencies: torch.Tensor,
        executor: ExpertExecutor,
        cache: KVCache,
        tools: StepTools,
    ) -> None:
        """Plan all launches, and capture them if that can be done."""
        self.cache, self.note = cache, Sentence()
        self._model, self._weights, self._executor, self._tools = model, weights, executor, tools
        self._inverse_frequencies, self._hand_off = inverse_frequencies, tools.hand_off
        self._next, self._zeros = 0, True
        self._begun: Begun | None = None
        self._at_once = [
            runs_experts(executor.table(index).formats, model.hidden_size, model.intermediate_size)
            and runs_tokens(1, model.experts_per_token)
            for index in range(model.layers)
        ]
        with torch.inference_mode():
            self._memory = _Memory(model, cache, tools, weights.norm.dtype)
            # No cache has that position: what is tried before a graph is captured stores nothing.
            self._memory.begin_host[2] = cache.capacity
            self._row = self._plan_row()
            dense = [self._enter()]
            for index, layer in enumerate(weights.layers):
                dense[-1] += self._attend_and_route(index, layer)
                following = weights.layers[index + 1].attention_norm if index + 1 < model.layers else weights.norm
                dense.append([self._join(self._memory.given.out, self._memory.cpu_sum, norm=following)])
            segments = [*dense, *(self._residents(index) for index in range(model.layers))]
            ready = self._captured(segments) or self._one_by_one(segments)
            self._dense, self._resident_runs = ready[: len(dense)], ready[len(dense) :]

    # ---- a step -------------------------------------------------------------------------------------------------

    def forward(self, token: int, check: Check) -> Generator[None, None, torch.Tensor]:
        """Append one token's keys and values to the cache; the caller notes the token down.

        Args:
            token: Its id.
            check: Called before every layer and expert; raises to stop.

        Yields:
            None after each layer.

        Returns:
            Normed hidden states [1, H].
        """
        check()
        with torch.inference_mode():
            self._begin(token)
            self._launch_next()
        for _ in range(self._model.layers):
            check()
            assert self._begun is not None, "a layer is launched before it is finished"
            with torch.inference_mode():
                try:
                    self._executor.finish(self._begun, self._memory.given, self, check)
                finally:  # whatever happened to the CPU's part, the GPU must not wait for it
                    self._hand_off.release()
            yield
        with torch.inference_mode():
            return self._memory.normed.clone()

    @torch.inference_mode()
    def dense_pass(self) -> torch.Tensor:
        """What surrounds the experts, for a token after the cached sequence, which it leaves alone.

        Returns:
            Normed hidden states [1, H], of no meaning.
        """
        self._begin(0)
        for run in self._dense[:-1]:
            run()
            self._hand_off.signal()
            self._hand_off.wait()
        self._dense[-1]()
        return self._memory.normed

    def hand_off_seconds(self) -> float:
        """Seconds from a signal of the idle GPU to the host; the way back is as long, as far as the host can tell."""
        started = time.perf_counter()
        self._hand_off.signal()
        self._hand_off.wait()
        return time.perf_counter() - started

    def _begin(self, token: int) -> None:
        """Have the GPU begin with a token, when all that it may still be doing of another step is done."""
        self._hand_off.signal()
        self._hand_off.wait()
        memory = self._memory
        self._row.find(token)
        memory.begin_host[2] = len(self.cache.tokens)
        memory.cpu_sum.zero_()
        self._next, self._zeros = 0, True
        self._executor.land()

    def _launch_next(self) -> None:
        """Launch the next layer, or what follows the last one; the host must have written, or be held for, its sum."""
        layer, self._next = self._next, self._next + 1
        self._dense[layer]()
        if layer < self._model.layers:
            self._hand_off.signal()
            self._begun = self._executor.begin(layer, self._resident_runs[layer] if self._at_once[layer] else None)

    # ---- the executor's exchange --------------------------------------------------------------------------------

    def receive(self) -> tuple[torch.Tensor, ...]:
        """See `Exchange`."""
        self._hand_off.wait()
        return self._memory.host

    def launched(self, *, cpu_computes: bool) -> None:
        """Launch the next layer, unless it needs a sum that the GPU cannot wait for."""
        self._executor.land()  # while nothing is held
        if cpu_computes:
            if self._hand_off.ahead:
                self._hand_off.hold()
                self._launch_next()
            return
        if not self._zeros:
            self._memory.cpu_sum.zero_()
            self._zeros = True
        self._launch_next()

    def add(self, cpu_out: torch.Tensor) -> None:
        """Write the sum where the GPU reads it, and let the next layer go on."""
        self._memory.cpu_sum.copy_(cpu_out)
        self._zeros = False
        self._hand_off.release()
        if not self._hand_off.ahead:
            self._launch_next()

    # ---- the launches -------------------------------------------------------------------------------------------

    def _plan_row(self) -> TokenRow:
        """How the embedding gives a token's row."""
        memory, pinned = self._memory, self._tools.pinned
        places = memory.begin_host[:2], memory.begin[:2]
        return plan_token_row(self._weights.embedding, *places, memory.normed, pinned, self._launching)

    def _enter(self) -> list[Work]:
        """The token's embedding becomes the residual stream."""
        memory = self._memory
        return [
            partial(memory.begin.copy_, memory.begin_host, non_blocking=True),
            *self._row.works,
            partial(memory.residual.copy_, memory.normed),
            self._join(norm=self._weights.layers[0].attention_norm),
        ]

    def _join(self, *additions: torch.Tensor, norm: torch.Tensor, out: torch.Tensor | None = None) -> Work:
        """Sums join the residual stream, which is normed for what comes next."""
        memory, epsilon = self._memory, self._model.rms_norm_eps
        target = memory.normed if out is None else out
        return self._launching(plan_join_norm(memory.residual, additions, norm, epsilon, target))

    def _attend_and_route(self, index: int, layer: LayerWeights) -> list[Work]:
        """One layer from its norm to the hand-off."""
        model, memory = self._model, self._memory
        keys, values, position = self.cache.keys[index], self.cache.values[index], memory.begin[2:]
        norms = None
        if layer.query_norm is not None and layer.key_norm is not None:
            norms = HeadNorms(layer.query_norm, layer.key_norm, model.rms_norm_eps)
        rotate = plan_rotate_store(memory.qkv, norms, self._inverse_frequencies, position, memory.queries, keys, values)
        attend = plan_attend(
            memory.queries, keys, values, position, model.sliding_window, memory.attending, memory.attended
        )
        hidden = memory.given.hidden
        return [
            *self._product(memory.normed, layer.qkv, memory.qkv),
            self._launching(rotate),
            *map(self._launching, attend),
            *self._product(memory.attended.view(1, -1), layer.output, memory.joined),
            self._join(memory.joined, norm=layer.expert_norm, out=hidden),
            *self._product(hidden, layer.router, memory.logits),
            self._launching(
                plan_route(
                    memory.logits, model.normalise_top_k, memory.experts, memory.given.weights, model.expert_parts
                )
            ),
            memory.given.out.zero_,
            partial(memory.handed_host.copy_, memory.handed, non_blocking=True),
        ]

    def _residents(self, index: int) -> list[Work]:
        """A layer's experts in VRAM, wherever they are then; none where no kernel knows their formats."""
        if not self._at_once[index]:
            return []
        memory, given = self._memory, self._memory.given
        table = self._executor.table(index)
        return list(
            map(
                self._launching,
                plan_experts(table, given.hidden, memory.experts, given.weights, memory.expert_work, given.out),
            )
        )

    def _product(self, rows: torch.Tensor, matrix: Matrix, out: torch.Tensor) -> list[Work]:
        """Rows [1, C] times a matrix [R, C]: floats by torch, blocks by our kernels."""
        if isinstance(matrix, torch.Tensor):
            return [partial(torch.mm, rows, matrix.T, out=out)]
        views = list(views_of(out, matrix.parts))
        floats = [partial(torch.mm, rows, part.T, out=view) for part, view in views if isinstance(part, torch.Tensor)]
        packed, outs = zip(*((part, view) for part, view in views if isinstance(part, PackedMatrix)), strict=True)
        return [*floats, *map(self._launching, plan_linears(packed, rows, self._memory.product_work, outs))]

    def _launching(self, launch: Launch) -> Work:
        return partial(self._tools.kernels.launch, launch)

    def _one_by_one(self, segments: Sequence[Sequence[Work]]) -> list[Work]:
        """All segments without graphs, done once: a kernel that is loaded makes the driver wait for the stream."""
        runs = [in_order(works) for works in segments]
        for run in runs:
            run()
        return runs

    def _captured(self, segments: Sequence[Sequence[Work]]) -> list[Work] | None:
        """Graphs of all segments, within what the plan counts for them; None, and a note why, where there are none."""
        before = self._tools.free_bytes()
        try:
            graphs = [self._tools.capture(works) if works else in_order(works) for works in segments]
            for graph in graphs:  # the first launch may allocate, later ones must not
                graph()
            self._hand_off.signal()
            self._hand_off.wait()
        except (RuntimeError, CudaDriverError) as error:
            said = str(error).partition("\n")[0].strip().rstrip(".")
            self.note = say("Decode steps are launched one by one: there are no CUDA graphs ({reason}).", reason=said)
            return None
        taken, counted = before - self._tools.free_bytes(), graph_bytes(self._model)
        if taken > counted:
            self.note = say(
                "Decode steps are launched one by one: CUDA graphs take {taken} bytes of {counted}.",
                taken=Number(f"{taken:,}"),
                counted=Number(f"{counted:,}"),
            )
            return None
        return graphs
