"""The compatibility lane: transformers' own decoder of any family, with our executor in place of its experts.

transformers marks the experts of each family as one module with a common interface (hidden states, chosen experts and
their weights in, weighted sum out). Here that module is replaced, before anything is allocated, by one without weights
which hands the call to `ExpertExecutor`; all else is transformers' code, so all else is right by construction. It is
slower around the experts than `engine.model.decoder`: families that many people use get an entry in
`engine.checkpoint.families` instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from engine.experts.executor import ExpertExecutor
from engine.model.compatible_cache import CompatibleCache

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

    def expect(self, sequence_tokens: int) -> None:
        """Nothing to prepare: transformers looks at positions in each pass."""

    def forward(self, tokens: list[int], check: Check) -> Generator[None, None, torch.Tensor]:
        """Append tokens to the sequence in the cache; pauses once, when it is done.

        Args:
            tokens: Ids of the next T tokens.
            check: Called before every expert; raises to stop, and the cache then forgets this pass.

        Yields:
            None.

        Returns:
            Hidden states for `logits` [T, H].
        """
        cache = self.cache
        assert 0 < len(tokens) <= cache.capacity - len(cache.tokens), "the caller checks the context's room"
        cache.align()
        self._check = check
        check()
        try:
            with torch.inference_mode():
                out = self._decoder.base_model(self._ids(tokens), past_key_values=cache.past, use_cache=True)
        except BaseException:
            cache.forget_pass()
            raise
        cache.take(out.past_key_values, tokens)
        yield
        hidden: torch.Tensor = out.last_hidden_state[0]
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

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states of `forward` [T, H] -> logits [T, V] in fp32."""
        logits: torch.Tensor = self._decoder.get_output_embeddings()(hidden)
        return logits.float()

    @torch.inference_mode()
    def dense_seconds(self) -> float:
        """Seconds of one token through all that surrounds the experts; leaves the cached sequence alone."""
        self._run_with(lambda _index, hidden, _weights, _experts: torch.zeros_like(hidden))
        try:
            started = time.perf_counter()
            self.logits(self._decoder.base_model(self._ids([0]), use_cache=False).last_hidden_state[0]).argmax().item()
            return time.perf_counter() - started
        finally:
            self._run_with(self._run)

    def experts_seconds(self, layer: int, tokens: int, start: int) -> tuple[int, float] | None:
        """None: experts are the executor's, in calls of their own."""
        del layer, tokens, start
        return None

    @torch.inference_mode()
    def dense_layer_seconds(self, tokens: int, start: int) -> float:
        """Seconds of a chunk of a prompt in one layer, without its experts; leaves the cached sequence alone.

        From the experts of one layer to those of the next; what an earlier context adds is not measured.

        Args:
            tokens: Of the chunk (T).
            start: Where it begins, behind what is cached.
        """
        del start
        passed_s: list[float] = []

        def pass_by(_index: int, hidden: torch.Tensor, *_routing: torch.Tensor) -> torch.Tensor:
            hidden[..., :1].sum().item()  # what is launched is done
            passed_s.append(time.perf_counter())
            if len(passed_s) > 1:
                raise _EnoughMeasured
            return torch.zeros_like(hidden)

        self._run_with(pass_by)
        passed_s_before = time.perf_counter()
        try:
            self._decoder.base_model(self._ids([0] * tokens), use_cache=False)
        except _EnoughMeasured:
            return sum(after - before for before, after in pairwise(passed_s))
        finally:
            self._run_with(self._run)
        return time.perf_counter() - passed_s_before

    def _ids(self, tokens: list[int]) -> torch.Tensor:
        """Tokens as transformers takes them [1, T]."""
        return torch.tensor([tokens], device=self._decoder.device)

    def _run_with(self, run: RunExperts) -> None:
        """Have all layers' experts run by something."""
        for part in self._modules:
            part.run = run

    def _run(
        self, index: int, hidden: torch.Tensor, top_weights: torch.Tensor, top_experts: torch.Tensor
    ) -> torch.Tensor:
        """The experts of one layer, wherever they are."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        shape = flat.shape[0], top_experts.shape[-1]
        weights, experts = top_weights.reshape(shape).float(), top_experts.reshape(shape)
        return self._executor.run(index, flat, weights, experts, self._check).view(hidden.shape)
