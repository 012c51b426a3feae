"""The lean decoder: everything around the experts, in as few operations as it takes.

Follows transformers' eager models of the families in `engine.checkpoint.families`, which are its oracles. Dimensions:
T tokens of this pass, S tokens seen so far, H hidden, N query heads, K key/value heads, G = N / K, D head width, E
experts, A experts per token, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import torch
from torch.nn import functional as F

from engine.config import SINK_WIDTH, ModelConfig
from engine.devices.step_tools import StepTools
from engine.experts.executor import ExpertExecutor
from engine.model.gpu_steps import GpuSteps
from engine.model.kv_cache import KVCache
from engine.model.rotary import rotation_frequencies
from engine.model.weights import DenseWeights, LayerWeights, linear

Check = Callable[[], None]


class Decoder:
    """A Mixture-of-Experts decoder over one KV cache.

    Args:
        model: Its shape.
        weights: Its dense weights, on their device.
        executor: Runs the experts of a layer.
        cache: Keys and values.

    Attributes:
        cache: As given, or what has taken its place.
        steps: Passes of one token over that cache by our own GPU kernels, which take torch's place there; None without.
    """

    def __init__(self, model: ModelConfig, weights: DenseWeights, executor: ExpertExecutor, cache: KVCache) -> None:
        """See the class."""
        self._model, self._weights, self._executor = model, weights, executor
        self.cache = cache
        self.steps: GpuSteps | None = None
        device = weights.device
        frequencies, self._rotation_scale = rotation_frequencies(model, 1)
        self._inverse_frequencies = frequencies.to(device)
        # rotate_half is a roll whose first half changes sign: the sign goes into the sine once per pass.
        self._sine_signs = torch.tensor([-1.0, 1.0], device=device).repeat_interleave(model.head_dim // 2)
        self._head_norms = tuple(self._heads_norm(layer) for layer in weights.layers)

    def expect(self, sequence_tokens: int) -> None:
        """Prepare for a sequence of at most so many tokens; forgets the one in the cache if that turns them otherwise.

        Args:
            sequence_tokens: Prompt and reply.
        """
        frequencies, scale = rotation_frequencies(self._model, sequence_tokens)
        frequencies = frequencies.to(self._inverse_frequencies.device)
        if scale != self._rotation_scale or not torch.equal(frequencies, self._inverse_frequencies):
            self._inverse_frequencies, self._rotation_scale = frequencies, scale
            self.cache.tokens.clear()

    def forward(self, tokens: list[int], check: Check) -> Generator[None, None, torch.Tensor]:
        """Append tokens to the sequence in the cache, pausing after every layer so that progress can be shown.

        Args:
            tokens: Ids of the next T tokens.
            check: Called before every layer and expert; raises to stop, and the cache then forgets this pass.

        Yields:
            None after each layer.

        Returns:
            Normed hidden states [T, H].
        """
        start = len(self.cache.tokens)
        assert 0 < len(tokens) <= self.cache.capacity - start, "the caller checks the context's room"
        if self.steps is not None and len(tokens) == 1:
            last = yield from self.steps.forward(tokens[0], check)
            self.cache.tokens += tokens
            return last
        weights = self._weights
        with torch.inference_mode():
            hidden = _scaled(weights.embed(tokens), self._model.traits.embedding_scale)
            rotation = self.rotation(start, len(tokens), hidden.dtype)
            masks = self._masks(start, len(tokens))
        for index, layer in enumerate(weights.layers):
            check()
            with torch.inference_mode():
                hidden = self.attend(index, layer, hidden, start, rotation, masks.get(self._model.window(index)))
                normed, top_weights, top_experts = self.route(layer, hidden)
                added = self._executor.run(index, normed, top_weights, top_experts, check)
                hidden = self._add_experts(layer, hidden, normed, added)
            yield
        self.cache.tokens += tokens
        with torch.inference_mode():
            return self._norm(hidden, weights.norm, weights.norm_bias)

    def open_steps(self, tools: StepTools) -> None:
        """Have our GPU kernels run passes of one token, until the cache is another one.

        Args:
            tools: Of the cache's device.
        """
        self.steps = GpuSteps(self._model, self._weights, self._inverse_frequencies, self._executor, self.cache, tools)

    def forward_at_once(self, tokens: list[int]) -> torch.Tensor:
        """`forward` without pauses: T tokens -> normed hidden states [T, H]."""
        steps = self.forward(tokens, lambda: None)
        while True:
            try:
                next(steps)
            except StopIteration as finished:
                hidden: torch.Tensor = finished.value
                return hidden

    @torch.inference_mode()
    def dense_seconds(self, start: int) -> float:
        """Seconds of one token through all that surrounds the experts; leaves the cached sequence alone.

        Args:
            start: Where it is, behind what is cached; decode steps of the device's own take the next place.
        """
        started = time.perf_counter()
        if self.steps is not None:
            self.logits(self.steps.dense_pass()).argmax().item()
            return time.perf_counter() - started
        weights, start = self._weights, min(start, self.cache.capacity - 1)
        hidden = weights.embed([0])
        rotation = self.rotation(start, 1, hidden.dtype)
        for index, layer in enumerate(weights.layers):
            hidden = self.attend(index, layer, hidden, start, rotation, None)
            normed, _, top_experts = self.route(layer, hidden)
            top_experts.tolist()
            hidden = self._add_experts(layer, hidden, normed, torch.zeros_like(hidden))
        self.logits(self._norm(hidden, weights.norm, weights.norm_bias)).argmax().item()
        return time.perf_counter() - started

    def experts_seconds(self, layer: int, tokens: int, start: int) -> tuple[int, float] | None:
        """None: experts are the executor's, in calls of their own."""
        del layer, tokens, start
        return None

    def hand_off_seconds(self) -> float | None:
        """Seconds of one way between the device and the host in decode steps of its own; None where it has none."""
        return None if self.steps is None else self.steps.hand_off_seconds()

    @torch.inference_mode()
    def dense_layer_seconds(self, tokens: int, start: int) -> float:
        """Seconds of a chunk of a prompt in the first layer, without its experts; leaves the cached sequence alone.

        Args:
            tokens: Of the chunk (T).
            start: Where it begins, behind what is cached.
        """
        assert len(self.cache.tokens) <= start <= self.cache.capacity - tokens, "the caller checks the context's room"
        layer, hidden = self._weights.layers[0], self._weights.embed([0]).repeat(tokens, 1)
        hidden[0, 0].item()
        started = time.perf_counter()
        rotation = self.rotation(start, tokens, hidden.dtype)
        mask = self._masks(start, tokens).get(self._model.window(0))
        self.route(layer, self.attend(0, layer, hidden, start, rotation, mask))[2][0, 0].item()
        return time.perf_counter() - started

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normed hidden states [T, H] -> logits [T, V] in fp32."""
        logits = linear(hidden, self._weights.head, self._weights.head_bias)
        return _scaled(logits.float(), self._model.traits.logit_scale)

    def attend(
        self,
        index: int,
        layer: LayerWeights,
        hidden: torch.Tensor,
        start: int,
        rotation: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """One layer's attention with its residual: [T, H] -> [T, H]; writes the layer's keys and values.

        Args:
            index: The layer.
            layer: Its dense weights.
            hidden: Residual stream [T, H].
            start: Tokens in the cache before this pass.
            rotation: Cosines and signed sines [T, 1, D].
            mask: [G * T, S] True where a query may look; None for a single token.
        """
        model, tokens = self._model, hidden.shape[0]
        rotated_heads = model.heads + model.kv_heads
        qkv = self._project(layer, self._norm(hidden, layer.attention_norm, layer.attention_norm_bias))
        rotated = self._rotate(index, qkv[:, :rotated_heads], rotation)
        self.cache.write(index, start, rotated[:, model.heads :], qkv[:, rotated_heads:])
        # A query head group attends as G * T queries of its key head, so keys are never repeated.
        groups = model.heads // model.kv_heads
        queries = rotated[:, : model.heads].view(tokens, model.kv_heads, groups, model.head_dim)
        queries = queries.permute(1, 2, 0, 3).reshape(1, model.kv_heads, groups * tokens, model.head_dim)
        first = first_key(start, model.window(index))
        keys, values = self.cache.read(index, first, start + tokens, queries.dtype)
        scale = model.traits.attention_scale
        if layer.sinks is None:
            attended = F.scaled_dot_product_attention(queries, keys[None], values[None], attn_mask=mask, scale=scale)
        else:
            attended = _attend_beside(layer.sinks, queries, keys[None], values[None], mask, scale)
        attended = attended.reshape(model.kv_heads, groups, tokens, model.head_dim).permute(2, 0, 1, 3)
        added = linear(attended.reshape(tokens, model.heads * model.head_dim), layer.output, layer.output_bias)
        return hidden + _scaled(added, model.traits.residual_scale)

    def route(self, layer: LayerWeights, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Choose experts: [T, H] -> normed [T, H], weights [T, A] in fp32, experts [T, A].

        Softmax over the chosen logits equals a softmax over all, renormalised over the chosen.
        """
        active = self._model.routed_per_token
        normed = self._norm(hidden, layer.expert_norm, layer.expert_norm_bias)
        logits = linear(normed, layer.router, layer.router_bias)
        if self._model.traits.router_jitter is not None:
            return normed, *_sparse_mixer(logits.float(), self._model.traits.router_jitter)
        if not self._model.normalise_top_k:
            return normed, *torch.softmax(logits, dim=-1, dtype=torch.float32).topk(active, dim=-1)
        top_logits, top_experts = logits.topk(active, dim=-1)
        return normed, torch.softmax(top_logits, dim=-1, dtype=torch.float32), top_experts

    def _project(self, layer: LayerWeights, normed: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values before rotation: [T, H] -> [T, N + 2K, D]."""
        model, traits = self._model, self._model.traits
        qkv = linear(normed, layer.qkv, layer.qkv_bias)
        if traits.wide_norms:
            q_width, kv_width = model.heads * model.head_dim, model.kv_heads * model.head_dim
            queries, keys, values = qkv.split((q_width, kv_width, kv_width), dim=-1)
            queries = F.rms_norm(queries, (q_width,), layer.query_norm, model.rms_norm_eps)
            keys = F.rms_norm(keys, (kv_width,), layer.key_norm, model.rms_norm_eps)
            qkv = torch.cat([queries, keys, values], dim=-1)
        if traits.clip_qkv is not None:
            qkv = qkv.clamp(-traits.clip_qkv, traits.clip_qkv)
        return qkv.view(normed.shape[0], model.heads + 2 * model.kv_heads, model.head_dim)

    def _add_experts(
        self, layer: LayerWeights, hidden: torch.Tensor, normed: torch.Tensor, added: torch.Tensor
    ) -> torch.Tensor:
        """The residual stream after a layer's experts [T, H], with what the one says that all tokens visit.

        Args:
            layer: The layer's dense weights.
            hidden: Residual stream [T, H].
            normed: What the experts saw [T, H].
            added: Their weighted sum [T, H].
        """
        shared = layer.shared
        if shared is not None:
            gate, up = linear(normed, shared.gate_up).chunk(2, dim=-1)
            said = linear(F.silu(gate) * up, shared.down)
            added = added + (said if shared.weight is None else torch.sigmoid(linear(normed, shared.weight)) * said)
        return hidden + _scaled(added, self._model.traits.residual_scale)

    def _norm(self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """RMS norm over the last dimension; a layer norm where there is a bias."""
        if bias is not None:
            return F.layer_norm(hidden, (self._model.hidden_size,), weight, bias, self._model.rms_norm_eps)
        return F.rms_norm(hidden, (self._model.hidden_size,), weight, self._model.rms_norm_eps)

    def _rotate(self, index: int, heads: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Bring queries and keys [T, N + K, D] to their positions, normed before where the layer has norms for them."""
        model, head_norm = self._model, self._head_norms[index]
        if head_norm is not None:
            heads = F.rms_norm(heads, (model.head_dim,), None, model.rms_norm_eps) * head_norm
        cosines, sines = rotation
        return torch.addcmul(heads * cosines, heads.roll(model.head_dim // 2, -1), sines)

    def _heads_norm(self, layer: LayerWeights) -> torch.Tensor | None:
        """The norms of all query heads above those of all key heads [N + K, D], where each has its own."""
        if layer.query_norm is None or layer.key_norm is None or self._model.traits.wide_norms:
            return None
        queries = layer.query_norm.expand(self._model.heads, -1)
        return torch.cat([queries, layer.key_norm.expand(self._model.kv_heads, -1)])

    def rotation(self, start: int, tokens: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and signed sines [T, 1, D] for positions start..start+T."""
        positions = torch.arange(start, start + tokens, dtype=torch.float32, device=self._inverse_frequencies.device)
        angles = torch.outer(positions, self._inverse_frequencies).repeat(1, 2).unsqueeze(1)
        signs, scale = self._sine_signs, self._rotation_scale
        return _scaled(angles.cos(), scale).to(dtype), _scaled(angles.sin() * signs, scale).to(dtype)

    def _masks(self, start: int, tokens: int) -> dict[int | None, torch.Tensor]:
        """For each window that a layer has, what its queries see; empty for a single token, which sees all."""
        if tokens == 1:
            return {}
        windows = {self._model.window(layer) for layer in range(self._model.layers)}
        return {window: self._mask(start, tokens, window) for window in windows}

    def _mask(self, start: int, tokens: int, window: int | None) -> torch.Tensor:
        """[G * T, S - first] True where a query may look: causal, within the window."""
        device = self._weights.device
        queries = torch.arange(start, start + tokens, device=device)[:, None]
        keys = torch.arange(first_key(start, window), start + tokens, device=device)[None, :]
        allowed = keys <= queries
        if window is not None:
            allowed &= keys > queries - window
        return allowed.repeat(self._model.heads // self._model.kv_heads, 1)


def first_key(start: int, window: int | None) -> int:
    """The oldest key that any query of a pass sees."""
    return 0 if window is None else max(0, start - window + 1)


def _attend_beside(
    sinks: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
) -> torch.Tensor:
    """Attention in which each query head has a score that no key has: [1, K, G * T, D].

    That is one more key with a value of zero, which sees what all other keys are blind to: a number beside the
    query's own, the score.

    Args:
        sinks: The scores [N].
        queries: [1, K, G * T, D].
        keys: [1, K, S, D].
        values: [1, K, S, D].
        mask: [G * T, S]; None for a single token.
        scale: Of scores; None for 1 / sqrt(D).
    """
    _, kv_heads, rows, dim = queries.shape
    scale = dim**-0.5 if scale is None else scale
    scores = (sinks / scale).view(1, kv_heads, -1, 1).repeat_interleave(rows * kv_heads // len(sinks), 2)
    queries = torch.cat([queries, F.pad(scores, (0, SINK_WIDTH - 1))], dim=-1)
    keys, values = F.pad(keys, (0, SINK_WIDTH, 0, 1)), F.pad(values, (0, SINK_WIDTH, 0, 1))
    keys[..., -1, dim] = 1
    mask = None if mask is None else F.pad(mask, (0, 1), value=True)
    attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)
    return attended[..., :dim]


def _scaled(states: torch.Tensor, factor: float) -> torch.Tensor:
    """States times a factor, which nearly every model has as 1."""
    return states if factor == 1 else states * factor


def _sparse_mixer(scores: torch.Tensor, jitter: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The two best experts and their weights: scores [T, E] in fp32 -> weights [T, 2], experts [T, 2].

    Each weight is a softmax over the scores that are near the best one of those that are left.
    """
    weights, experts, left = [], [], scores
    for _ in range(2):
        best, expert = left.max(dim=-1, keepdim=True)
        far = (best - scores) / torch.maximum(scores.abs(), best) > 2 * jitter
        weights.append(left.masked_fill(far, -torch.inf).softmax(dim=-1).gather(-1, expert))
        experts.append(expert)
        left = left.scatter(-1, expert, -torch.inf)
    return torch.cat(weights, dim=-1), torch.cat(experts, dim=-1)
