"""The compatibility lane: transformers' own decoder of any family, with our executor in place of its experts.

transformers marks the experts of each family as one module with a common interface (hidden states, chosen experts and
their weights in, weighted sum out). Here that module is replaced, before anything is allocated, by one without weights
which hands the call to `ExpertExecutor`; all else is transformers' code, so all else is right by construction. It is
slower around the experts than `engine.model.decoder`: families that many people use get an entry in
`engine.checkpoint.families` instead.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicLayer

from engine.experts.executor import ExpertExecutor
from engine.model.compatible_cache import CompatibleCache
from engine.model.pausing import Ask, pausing

Check = Callable[[], None]
RunExperts = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class ExpertsSlot(nn.Module):
    """What stands where transformers has the experts of a layer; without weights."""

    def __init__(self, *_args: object, **_settings: object) -> None:
        super().__init__()
        self.index = -1
        self.run: RunExperts | None = None

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        """See `transformers.integrations.moe`: [T, H], experts [T, A] and weights [T, A] -> [T, H]."""
        assert self.run is not None, "wired by CompatibleDecoder"
        return self.run(self.index, hidden_states, top_k_weights, top_k_index)


class _EnoughMeasured(Exception):  # noqa: N818 - ends a pass, is no error
    """What was to be measured has been passed."""


class CompatibleDecoder:
    """A decoder over one cache, with the methods of `Decoder`.

    Args:
        decoder: From `engine.model.compatible_weights`.
        executor: Runs the experts of a layer.
        cache: Keys and values.

    Attributes:
        cache: As given, or what has taken its place.
    """

    def __init__(self, decoder: nn.Module, executor: ExpertExecutor, cache: CompatibleCache) -> None:
        """See the class."""
        self._decoder: Any = decoder
        self._executor = executor
        self.cache = cache
        self._check: Check = lambda: None
        self._modules = [part for part in decoder.modules() if isinstance(part, ExpertsSlot)]
        self._run_with(self._run)
        for index, part in enumerate(self._modules):
            part.index = index
        self._period = _period(getattr(decoder.config, "layer_types", None) or ["full_attention"])
        self._context: tuple[int, Any] = 0, None  # the latest that was measured: its tokens and what transformers keeps

    def expect(self, sequence_tokens: int) -> None:
        """Nothing to prepare: transformers looks at positions in each pass."""

    def forward(self, tokens: list[int], check: Check) -> Generator[None, None, torch.Tensor]:
        """Append tokens to the sequence in the cache; pauses after each layer's experts, of a single token at the end.

        Args:
            tokens: Ids of the next T tokens.
            check: Called before every layer with experts and every expert; raises to stop, and the cache then forgets
                this pass.

        Yields:
            None at each pause.

        Returns:
            Hidden states for `logits` [T, H].
        """
        cache = self.cache
        assert 0 < len(tokens) <= cache.capacity - len(cache.tokens), "the caller checks the context's room"
        cache.align()
        self._check = check
        check()
        try:
            out = self._pass(tokens) if len(tokens) == 1 else (yield from pausing(partial(self._apart, tokens)))
        except BaseException:
            cache.forget_pass()
            raise
        finally:
            self._run_with(self._run)
        cache.take(out.past_key_values, tokens)
        if len(tokens) == 1:
            yield
        hidden: torch.Tensor = out.last_hidden_state[0]
        return hidden

    @torch.inference_mode()
    def _pass(self, tokens: list[int]) -> Any:  # noqa: ANN401 - of transformers' own kinds
        """One pass of transformers over some tokens behind those in the cache."""
        return self._decoder.base_model(self._ids(tokens), past_key_values=self.cache.past, use_cache=True)

    def _apart(self, tokens: list[int], ask: Ask[torch.Tensor]) -> Any:  # noqa: ANN401 - of transformers' own kinds
        """The same away from the engine's thread, which is asked for each layer's experts."""
        self._run_with(lambda *layer: ask(partial(self._run, *layer)))
        return self._pass(tokens)

    def forward_at_once(self, tokens: list[int]) -> torch.Tensor:
        """`forward` without pauses: T tokens -> hidden states for `logits` [T, H]."""
        steps = self.forward(tokens, lambda: None)
        while True:
            try:
                next(steps)
            except StopIteration as finished:
                hidden: torch.Tensor = finished.value
                return hidden

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states of `forward` [T, H] -> logits [T, V] in fp32."""
        logits: torch.Tensor = self._decoder.get_output_embeddings()(hidden)
        return logits.float()

    @torch.inference_mode()
    def dense_seconds(self, start: int) -> float:
        """Seconds of one token through all that surrounds the experts; leaves the cached sequence alone.

        Args:
            start: Ignored: the token is in an empty context.
        """
        del start
        self._run_with(lambda _index, hidden, _weights, _experts: torch.zeros_like(hidden))
        try:
            started = time.perf_counter()
            self.logits(self._decoder.base_model(self._ids([0]), use_cache=False).last_hidden_state[0]).argmax().item()
            return time.perf_counter() - started
        finally:
            self._run_with(self._run)

    def hand_off_seconds(self) -> None:
        """None: decode is transformers' own."""

    def experts_seconds(self, layer: int, tokens: int, start: int) -> tuple[int, float] | None:
        """None: experts are the executor's, in calls of their own."""
        del layer, tokens, start
        return None

    @torch.inference_mode()
    def dense_layer_seconds(self, tokens: int, start: int) -> float:
        """Seconds of a chunk of a prompt in one layer, without its experts; leaves the cached sequence alone.

        From the experts of one layer to those of the next; the mean of some where layers differ in kind.

        Args:
            tokens: Of the chunk (T).
            start: Tokens of context before it.
        """
        if start != self._context[0]:
            self._context = start, self._past_of(start) if start else None
        past = copy.deepcopy(self._context[1])
        began_s = time.perf_counter()
        passed_s = self._pass_by(tokens, past)
        if len(passed_s) > 1:
            return (passed_s[-1] - passed_s[0]) / (len(passed_s) - 1)
        return time.perf_counter() - began_s

    def _past_of(self, tokens: int) -> Any:  # noqa: ANN401 - of transformers' own kinds
        """What a context leaves in the layers that are measured: where that is keys and values alone, all the same."""
        self._run_with(lambda _index, hidden, _weights, _experts: torch.zeros_like(hidden))
        try:
            past = self._decoder.base_model(self._ids([0]), use_cache=True).past_key_values
        finally:
            self._run_with(self._run)
        if any(type(layer) is not DynamicLayer or not layer.is_initialized for layer in past.layers):
            if tokens > 1:
                self._pass_by(tokens - 1, past)
            return past
        for layer in past.layers:
            layer.keys, layer.values = (
                states.expand(*states.shape[:-2], tokens, -1) for states in (layer.keys, layer.values)
            )
        return past

    def _pass_by(self, tokens: int, past: Any) -> list[float]:  # noqa: ANN401 - of transformers' own kinds
        """Take tokens through the measured layers, without experts; the times at which it came by where these are."""
        passed_s: list[float] = []

        def pass_by(_index: int, hidden: torch.Tensor, *_routing: torch.Tensor) -> torch.Tensor:
            hidden[..., :1].sum().item()  # what is launched is done
            passed_s.append(time.perf_counter())
            if len(passed_s) > self._period:
                raise _EnoughMeasured
            return torch.zeros_like(hidden)

        self._run_with(pass_by)
        try:
            self._decoder.base_model(self._ids([0] * tokens), past_key_values=past, use_cache=past is not None)
        except _EnoughMeasured:
            pass
        finally:
            self._run_with(self._run)
        return passed_s

    def _ids(self, tokens: list[int]) -> torch.Tensor:
        """Tokens as transformers takes them [1, T]."""
        return torch.tensor([tokens], device=self._decoder.device)

    def _run_with(self, run: RunExperts) -> None:
        """Have all layers' experts run by something."""
        for part in self._modules:
            part.run = run

    @torch.inference_mode()
    def _run(
        self, index: int, hidden: torch.Tensor, top_weights: torch.Tensor, top_experts: torch.Tensor
    ) -> torch.Tensor:
        """The experts of one layer, wherever they are."""
        self._check()
        flat = hidden.reshape(-1, hidden.shape[-1])
        shape = flat.shape[0], top_experts.shape[-1]
        weights, experts = top_weights.reshape(shape).float(), top_experts.reshape(shape)
        return self._executor.run(index, flat, weights, experts, self._check).view(hidden.shape)


def _period(kinds: Sequence[str]) -> int:
    """After how many layers their kinds come again in the same order."""
    return next(step for step in range(1, len(kinds) + 1) if kinds[step:] == kinds[: len(kinds) - step])
