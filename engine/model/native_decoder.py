"""The decoder where everything runs on the CPU: our native library takes a token through all layers in one call.

Does what `engine.model.decoder.Decoder` does, with the same methods; that one is its reference. Activations are fp32,
matrices stay in the formats of the file, and block formats see activations as int8. A prompt goes layer by layer, so
that progress can be shown in between.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Generator

import numpy as np
import torch

from engine.config import ModelConfig
from engine.experts.native_experts import experts_reference
from engine.experts.record import CpuRecord
from engine.experts.store import ExpertStore
from engine.kernels.cpu_library import CpuPool, ExpertsRef, LayerRef, MatrixRef, ModelRef, TraceRef
from engine.model.kv_cache import KVCache
from engine.model.native_weights import NativeLayer, NativeSharedExpert, NativeWeights, reference
from engine.model.rotary import rotation_frequencies
from engine.quant.formats import FORMATS

Check = Callable[[], None]


class NativeDecoder:
    """A decoder over one KV cache, all of it on the CPU.

    Args:
        model: Its shape.
        weights: Its dense weights.
        store: Its experts.
        record: Told what the experts did.
        cache: Keys and values.
        pool: Threads of the native library.
    """

    def __init__(
        self,
        model: ModelConfig,
        weights: NativeWeights,
        store: ExpertStore,
        record: CpuRecord,
        cache: KVCache,
        pool: CpuPool,
    ) -> None:
        """See the class."""
        self._model, self._weights, self._store = model, weights, store
        self._record, self._pool = record, pool
        self._trials = 0
        # What every token needs again; new memory would first have to be fetched.
        self._token_trace = _Trace(model, model.layers, 1)
        self._token_logits = torch.empty(1, model.vocab_size, dtype=torch.float32)
        self._inverse_frequencies, self._rotation_scale = rotation_frequencies(model, 1)
        self.cache = cache

    @property
    def cache(self) -> KVCache:
        """The keys and values in use."""
        return self._cache

    @cache.setter
    def cache(self, cache: KVCache) -> None:
        """Take another cache; the library is told its addresses."""
        self._cache = cache
        self._layers = (LayerRef * self._model.layers)(
            *(self._layer_reference(index, layer) for index, layer in enumerate(self._weights.layers))
        )
        self._reference = self._model_reference()

    def expect(self, sequence_tokens: int) -> None:
        """Prepare for a sequence of at most so many tokens; forgets the one in the cache if that turns them otherwise.

        Args:
            sequence_tokens: Prompt and reply.
        """
        frequencies, scale = rotation_frequencies(self._model, sequence_tokens)
        if scale != self._rotation_scale or not torch.equal(frequencies, self._inverse_frequencies):
            self._inverse_frequencies, self._rotation_scale = frequencies, scale
            self._reference = self._model_reference()
            self.cache.tokens.clear()

    def forward(self, tokens: list[int], check: Check) -> Generator[None, None, torch.Tensor]:
        """Append tokens to the sequence in the cache; a prompt pauses after every layer, a single token after the last.

        Args:
            tokens: Ids of the next T tokens.
            check: Called before every layer and every few milliseconds within; raises to stop, and the cache then
                forgets this pass.

        Yields:
            None at each pause.

        Returns:
            Hidden states for `logits`: fp32 [T, H].
        """
        start, count, layers = len(self.cache.tokens), len(tokens), self._model.layers
        assert 0 < count <= self.cache.capacity - start, "the caller checks the context's room"
        ids = np.array(tokens, dtype=np.int32)
        hidden = torch.empty(count, self._model.hidden_size, dtype=torch.float32)
        step = layers if count == 1 else 1
        for first in range(0, layers, step):
            check()
            self._run(first, step, ids if first == 0 else None, count, start, hidden, check)
            yield
        self.cache.tokens += tokens
        return hidden

    def forward_at_once(self, tokens: list[int]) -> torch.Tensor:
        """`forward` without pauses: T tokens -> hidden states for `logits` [T, H]."""
        steps = self.forward(tokens, lambda: None)
        while True:
            try:
                next(steps)
            except StopIteration as finished:
                hidden: torch.Tensor = finished.value
                return hidden

    def dense_seconds(self, start: int) -> float:
        """Seconds of one token through everything but the experts; leaves the cached sequence alone.

        Args:
            start: Where it is, behind what is cached.
        """
        start = min(start, self.cache.capacity - 1)
        began = time.perf_counter()
        hidden, trace = self._trial(range(self._model.layers), 1, start)
        self.logits(hidden)
        return time.perf_counter() - began - float(trace.seconds.sum())

    def hand_off_seconds(self) -> None:
        """None: this device is the host."""

    def experts_seconds(self, layer: int, tokens: int, start: int) -> tuple[int, float] | None:
        """Tokens and seconds of a typical expert in a pass: one token goes through all layers, more through one.

        Args:
            layer: Which one.
            tokens: Of the pass (T).
            start: Where it begins, behind what is cached.
        """
        _, trace = self._trial(range(self._model.layers) if tokens == 1 else range(layer, layer + 1), tokens, start)
        active = len(np.unique(trace.experts)) if tokens > 1 else trace.experts.size
        return max(1, round(trace.experts.size / active)), float(trace.seconds.sum()) / active

    def dense_layer_seconds(self, tokens: int, start: int) -> float:
        """Seconds of a chunk of a prompt in the first layer, without its experts; leaves the cached sequence alone.

        Args:
            tokens: Of the chunk (T).
            start: Where it begins, behind what is cached.
        """
        assert len(self.cache.tokens) <= start <= self.cache.capacity - tokens, "the caller checks the context's room"
        began = time.perf_counter()
        _, trace = self._trial(range(1), tokens, start)
        return time.perf_counter() - began - float(trace.seconds.sum())

    def _trial(self, layers: range, tokens: int, start: int) -> tuple[torch.Tensor, _Trace]:
        """Some layers with other tokens each time, where nothing is kept: hidden states [T, H], and the trace."""
        hidden = torch.empty(tokens, self._model.hidden_size, dtype=torch.float32)
        self._trials += 1
        ids = (self._trials * tokens + np.arange(tokens, dtype=np.int32)) % self._model.vocab_size
        trace = _Trace(self._model, len(layers), tokens)
        self._call(layers.start, len(layers), ids, tokens, start, hidden, trace, lambda: None)
        return hidden, trace

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states of `forward` [T, H] -> logits [T, V] in fp32; those of a single token until the next call."""
        count = hidden.shape[0]
        logits = self._token_logits if count == 1 else torch.empty(count, self._model.vocab_size, dtype=torch.float32)
        self._pool.logits(self._reference, hidden.data_ptr(), count, logits.data_ptr())
        return logits if self._model.traits.logit_scale == 1 else logits.mul_(self._model.traits.logit_scale)

    def _run(
        self,
        first: int,
        layers: int,
        ids: np.ndarray | None,
        count: int,
        start: int,
        hidden: torch.Tensor,
        check: Check,
    ) -> None:
        """Some layers, and the word to the executor."""
        if layers == self._model.layers and count == 1:
            trace = self._token_trace
            self._call(first, layers, ids, count, start, hidden, trace, check)
            self._record.record_pass(first, trace.experts.copy(), trace.seconds.copy())
            return
        trace = _Trace(self._model, layers, count)
        self._call(first, layers, ids, count, start, hidden, trace, check)
        self._record.record_pass(first, trace.experts, trace.seconds)

    def _call(
        self,
        first: int,
        layers: int,
        ids: np.ndarray | None,
        count: int,
        start: int,
        hidden: torch.Tensor,
        trace: _Trace,
        check: Check,
    ) -> None:
        """The call itself."""
        self._pool.forward(
            self._reference,
            (first, first + layers),
            ids.ctypes.data if ids is not None else None,
            count,
            start,
            hidden.data_ptr(),
            trace.reference,
            check,
        )

    def _layer_reference(self, index: int, layer: NativeLayer) -> LayerRef:
        """One layer as the library takes it."""
        return LayerRef(
            layer.attention_norm.data_ptr(),
            _address(layer.attention_norm_bias),
            reference(layer.query),
            reference(layer.key),
            reference(layer.value),
            reference(layer.output),
            _address(layer.qkv_bias),
            _address(layer.output_bias),
            _address(layer.query_norm),
            _address(layer.key_norm),
            _address(layer.sinks),
            layer.expert_norm.data_ptr(),
            _address(layer.expert_norm_bias),
            reference(layer.router),
            _address(layer.router_bias),
            experts_reference(self._store, index),
            *_shared_reference(layer.shared),
            self.cache.keys[index].data_ptr(),
            self.cache.values[index].data_ptr(),
            self._model.window(index) or 0,
        )

    def _model_reference(self) -> ModelRef:
        """The model as the library takes it."""
        model, weights, traits = self._model, self._weights, self._model.traits
        scale = traits.attention_scale
        return ModelRef(
            hidden=model.hidden_size,
            heads=model.heads,
            kv_heads=model.kv_heads,
            dim=model.head_dim,
            experts=model.experts,
            experts_per_token=model.experts_per_token,
            intermediate=model.intermediate_size,
            layers=model.layers,
            normalise_top_k=model.normalise_top_k,
            cache_format=FORMATS[self.cache.format].native_id,
            capacity=self.cache.capacity,
            epsilon=model.rms_norm_eps,
            wide_norms=traits.wide_norms,
            embedding_scale=traits.embedding_scale,
            residual_scale=traits.residual_scale,
            query_scale=1.0 if scale is None else scale * math.sqrt(model.head_dim),
            clip=traits.clip_qkv or 0.0,
            rotation_scale=self._rotation_scale,
            router_jitter=-1.0 if traits.router_jitter is None else traits.router_jitter,
            inverse_frequencies=self._inverse_frequencies.data_ptr(),
            embedding=reference(weights.embedding),
            head=reference(weights.head),
            norm=weights.norm.data_ptr(),
            norm_bias=_address(weights.norm_bias),
            head_bias=_address(weights.head_bias),
            layer=ctypes.cast(self._layers, ctypes.POINTER(LayerRef)),
        )


def _address(vector: torch.Tensor | None) -> int | None:
    """Where a vector lies, if there is one."""
    return None if vector is None else vector.data_ptr()


def _shared_reference(shared: NativeSharedExpert | None) -> tuple[ExpertsRef, int | None]:
    """The expert that every token visits, as the library takes it: the only one of its kind, and its gate."""
    if shared is None:
        return ExpertsRef(), None
    parts = (shared.gate, shared.up, shared.down)
    begin = min(part.data.data_ptr() for part in parts)
    matrices = (MatrixRef.of(part.data.data_ptr() - begin, part.format, part.rows, part.columns) for part in parts)
    return ExpertsRef(begin, 0, *matrices), _address(shared.weight)


class _Trace:
    """Room for what some layers tell about some tokens."""

    def __init__(self, model: ModelConfig, layers: int, tokens: int) -> None:
        shape = (layers, tokens, model.experts_per_token)
        self.experts = np.empty(shape, dtype=np.int32)
        self.seconds = np.zeros(layers, dtype=np.float32)
        self.reference = TraceRef(self.experts.ctypes.data, self.seconds.ctypes.data)
