"""One reply: prefill what the cache lacks, then draw and compute token after token, as an iterator of events."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator

import torch

from engine.config import SamplingParams
from engine.constraint import Constraint
from engine.devices import device_faults
from engine.loaded_model import OUT_OF_MEMORY, LoadedModel
from engine.messages import Event, Finished, FinishReason, Passes, PassRecord, PromptProgress, Timings, Token, Usage
from engine.sampling import Sampler, StopWatcher
from engine.tokenizer import ChatTokenizer

SNAPSHOT_INTERVAL_S = 0.06
SPEED_WINDOW_TOKENS = 32
# Of a reply that nobody reads: at most so many tokens, and after so long no more than the least. One part of its
# tokens make everything ready.
TRIAL_TOKENS, TRIAL_S, TRIAL_LEAST_TOKENS = 96, 0.5, 6
TRIAL_WARM_UP_PARTS = 4
TOKENS_BEFORE = 4  # enough for the decoder to know that a text goes on


class _CancelledError(Exception):
    """Unwinds a forward pass of a reply that was stopped."""


class Reply:
    """One reply of a loaded model.

    Args:
        loaded: The model.
        tokenizer: Turns ids to text; None leaves texts empty and knows no end of a reply.
        prompt: Token ids; not empty, and with room for one more in the context.
        sampling: How to draw tokens.
        cancelled: Asked before every layer and expert; True ends the reply.
        constraint: What the reply may say; None for anything.
        continues: Whether the prompt ends within the reply, whose text goes on.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        tokenizer: ChatTokenizer | None,
        prompt: list[int],
        sampling: SamplingParams,
        cancelled: Callable[[], bool],
        constraint: Constraint | None = None,
        *,
        continues: bool = False,
    ) -> None:
        """See the class."""
        self._constraint = constraint
        self._before = prompt[-TOKENS_BEFORE:] if continues else []
        self._loaded, self._tokenizer, self._prompt = loaded, tokenizer, prompt
        self._sampling, self._cancelled = sampling, cancelled
        self._clock = ReplyClock()

    def events(self) -> Iterator[Event]:
        """`PromptProgress`, then `Token`s with `Snapshot`s in between, a last `Snapshot`, and one `Finished`."""
        clock, prompt = self._clock, self._prompt
        self._loaded.decoder.expect(len(prompt) + self._sampling.max_tokens)
        clock.prompt_tokens, clock.cached_tokens = len(prompt), self._loaded.decoder.cache.keep_prefix(prompt)
        self._loaded.record.reset_counters()
        yield PromptProgress(clock.cached_tokens, len(prompt))
        reason: FinishReason = "cancelled"
        try:
            hidden = yield from self._prefill()
            reason = yield from self._decode(hidden)
        except _CancelledError:
            pass
        yield from self._inside(0.0)
        yield Finished(reason, clock.usage(), clock.timings())

    def _prefill(self) -> Generator[Event, None, torch.Tensor]:
        """Compute the prompt's new tokens in chunks; returns the last one's hidden state [1, H]."""
        cache, prompt = self._loaded.decoder.cache, self._prompt
        with self._loaded.reading(len(prompt) - len(cache.tokens)):
            while len(cache.tokens) < len(prompt):
                first = len(cache.tokens)
                hidden = yield from self._forward(prompt[first : first + self._loaded.chunk_tokens])
                yield PromptProgress(len(cache.tokens), len(prompt))
            hidden = hidden[-1:].clone()  # which keeps none of the pass alive
        self._clock.prefilled()
        return hidden

    def _decode(self, hidden: torch.Tensor) -> Generator[Event, None, FinishReason]:
        """Draw and compute token after token; returns why it ended."""
        sampling, tokenizer = self._sampling, self._tokenizer
        sampler = Sampler(sampling, tokenizer.vocab_size if tokenizer else None)
        text, decoder, clock = _ReplyText(tokenizer, sampling, self._before), self._loaded.decoder, self._clock
        eos_ids = tokenizer.eos_ids if tokenizer and not sampling.ignore_eos else frozenset()
        constraint = self._constraint
        tokens = list(self._prompt)
        while True:
            token = sampler.sample(self._logits(hidden), tokens, constraint.allowed() if constraint else None)
            clock.token()
            if token in eos_ids:
                yield self._told(token, text.rest())
                return "stop"
            tokens.append(token)
            shown, stopped = text.push(token)
            if constraint is not None and not stopped:
                constraint.take(token)
                if constraint.ended:
                    yield self._told(token, shown + text.rest())
                    return "stop"
            full = len(decoder.cache.tokens) >= decoder.cache.capacity
            ended = full or clock.completion_tokens >= sampling.max_tokens
            yield self._told(token, shown + text.rest() if ended and not stopped else shown)
            if stopped:
                return "stop"
            if ended:
                return "context" if full else "length"
            hidden = yield from self._forward([token])

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [1, V] after the last token."""
        return self._loaded.with_room(lambda: self._loaded.decoder.logits(hidden))

    def _forward(self, tokens: list[int]) -> Generator[Event, None, torch.Tensor]:
        """One forward pass; where memory runs out, residents are given up and the pass is begun anew."""
        loaded = self._loaded
        while True:
            counters = loaded.record.counters.copy()
            try:
                with device_faults():
                    return (yield from self._pass(tokens))
            except OUT_OF_MEMORY as error:
                loaded.make_room(error)
                loaded.record.counters = counters

    def _pass(self, tokens: list[int]) -> Generator[Event, None, torch.Tensor]:
        """One try of a forward pass; between layers, whenever it is time, a snapshot and how far a prompt has come."""
        loaded, clock = self._loaded, self._clock
        steps = loaded.decoder.forward(tokens, self._check)
        done = first = len(loaded.decoder.cache.tokens)
        loaded.pass_tokens = len(tokens)
        try:
            for layer in itertools.count(1):
                try:
                    next(steps)
                except StopIteration as finished:
                    hidden: torch.Tensor = finished.value
                    return hidden
                if not clock.snapshot_due():
                    continue
                yield from self._inside(clock.recent_tokens_per_s())
                before, done = done, first + (len(tokens) - 1) * layer // loaded.model.layers
                if done > before:
                    yield PromptProgress(done, len(self._prompt))
        finally:
            loaded.pass_tokens = 0
        raise AssertionError("a pass ends")

    def _inside(self, tokens_per_s: float) -> Iterator[Event]:
        """The records of the latest tokens, and a snapshot."""
        snapshot = self._loaded.snapshot(tokens_per_s)  # which reads what the GPU took
        records = self._loaded.record.take_passes()
        if records:
            yield Passes(records)
        yield snapshot

    def _told(self, token: int, text: str) -> Token:
        """A token of the reply, remembered with its pass."""
        self._loaded.remember(token, text, self._clock.latest_s)
        return Token(token, text)

    def _check(self) -> None:
        """Unwind if the reply was stopped."""
        if self._cancelled():
            raise _CancelledError


class _ReplyText:
    """Ids in, text out: whole characters only, and nothing of a stop string."""

    def __init__(self, tokenizer: ChatTokenizer | None, sampling: SamplingParams, before: list[int]) -> None:
        self._stream = tokenizer.decoder(before) if tokenizer else None
        self._watcher = StopWatcher(sampling.stop)

    def push(self, token: int) -> tuple[str, bool]:
        """The text that may be shown now, and whether a stop string came."""
        return self._watcher.feed(self._stream.push(token)) if self._stream else ("", False)

    def rest(self) -> str:
        """What was held back: an unfinished character, or the beginning of a stop string that never came."""
        if self._stream is None:
            return ""
        text, _ = self._watcher.feed(self._stream.flush())
        return text + self._watcher.flush()


def trial_passes(loaded: LoadedModel, cancelled: Callable[[], bool]) -> list[PassRecord]:
    """The passes of a short reply that nobody reads, behind what is cached, which stays; the model forgets it.

    Args:
        loaded: The model.
        cancelled: True ends the reply.

    Returns:
        Passes of one token each, without the first; fewer, or none, where there is no room or no time for more.
    """
    cached = loaded.decoder.cache.tokens[:]
    room = loaded.decoder.cache.capacity - len(cached)
    if room < 1:
        return []
    end_s, told = time.perf_counter() + TRIAL_S, 0
    sampling = SamplingParams(max_tokens=min(TRIAL_TOKENS, room), seed=0, ignore_eos=True)

    def ended() -> bool:
        return cancelled() or (told >= TRIAL_LEAST_TOKENS and time.perf_counter() > end_s)

    passes: list[PassRecord] = []
    with loaded.record.forgotten():
        for event in Reply(loaded, None, [*cached, 0], sampling, ended).events():
            told += isinstance(event, Token)
            if isinstance(event, Passes):
                passes += event.records
    loaded.decoder.cache.keep_prefix([*cached, 0])
    return passes[max(1, len(passes) // TRIAL_WARM_UP_PARTS) :]


class ReplyClock:
    """Times one reply from its request on.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        cached_tokens: Those that needed no computation.
        latest_s: From the token before the latest one, or from the request, to it.
    """

    def __init__(self) -> None:
        """Start now."""
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.latest_s = 0.0
        self._started_s = time.perf_counter()
        self._prefilled_s = self._started_s
        self._first_token_s: float | None = None
        self._last_token_s = self._started_s
        self._completion_tokens = 0
        self._recent_s: deque[float] = deque(maxlen=SPEED_WINDOW_TOKENS)
        self._snapshot_s = 0.0

    @property
    def completion_tokens(self) -> int:
        """Tokens of the reply so far."""
        return self._completion_tokens

    def prefilled(self) -> None:
        """The prompt is computed."""
        self._prefilled_s = time.perf_counter()

    def token(self) -> None:
        """One more token of the reply."""
        now_s = time.perf_counter()
        if self._first_token_s is None:
            self._first_token_s = now_s
        self._completion_tokens += 1
        self.latest_s = now_s - self._last_token_s
        self._last_token_s = now_s
        self._recent_s.append(now_s)

    def snapshot_due(self) -> bool:
        """Whether it is time for another snapshot; counts as taken when it says so."""
        now_s = time.perf_counter()
        if now_s - self._snapshot_s < SNAPSHOT_INTERVAL_S:
            return False
        self._snapshot_s = now_s
        return True

    def recent_tokens_per_s(self) -> float:
        """Decode speed over the latest tokens; 0 before the second."""
        if len(self._recent_s) < 2:
            return 0.0
        return _per_second(len(self._recent_s) - 1, self._recent_s[-1] - self._recent_s[0])

    def usage(self) -> Usage:
        """The counts."""
        return Usage(self.prompt_tokens, self.cached_tokens, self._completion_tokens)

    def timings(self) -> Timings:
        """The speeds; what has not happened is 0."""
        if self._first_token_s is None:
            return Timings(0.0, 0.0, 0.0)
        return Timings(
            ttft_s=self._first_token_s - self._started_s,
            prefill_tokens_per_s=_per_second(
                self.prompt_tokens - self.cached_tokens, self._prefilled_s - self._started_s
            ),
            decode_tokens_per_s=_per_second(self._completion_tokens - 1, self._last_token_s - self._first_token_s),
        )


def _per_second(count: int, seconds: float) -> float:
    """A rate; 0 where there was nothing to time."""
    return count / seconds if seconds > 0 else 0.0
