"""Drawing tokens, and stop texts across token borders."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine.config import SamplingParams
from engine.errors import EngineFailure
from engine.sampling import Floats, Sampler, StopWatcher, draw, largest, penalised
from tests.examples import examples

LOGITS = torch.tensor([1.0, 3.0, 2.0, 2.9, -1.0])


def _draws(params: SamplingParams, count: int = 300, logits: torch.Tensor = LOGITS) -> set[int]:
    sampler = Sampler(params)
    return {sampler.sample(logits, [1, 2]) for _ in range(count)}


def test_temperature_zero_takes_the_best() -> None:
    assert _draws(SamplingParams(temperature=0.0, top_k=3, top_p=0.5), 5) == {1}
    assert _draws(SamplingParams(temperature=1e-9), 5) == {1}


def test_filters_narrow_the_draw() -> None:
    wide = SamplingParams(temperature=5.0, top_p=1.0, seed=0)
    assert _draws(wide) == {0, 1, 2, 3, 4}
    assert _draws(SamplingParams(temperature=5.0, top_p=1.0, top_k=2, seed=0)) == {1, 3}
    assert _draws(SamplingParams(temperature=1.0, top_p=0.5, seed=0)) == {1, 3}
    assert _draws(SamplingParams(temperature=1.0, top_p=1.0, min_p=0.3, seed=0)) == {1, 2, 3}


def test_top_k_larger_than_the_vocabulary_is_harmless() -> None:
    assert _draws(SamplingParams(temperature=5.0, top_p=1.0, top_k=1 << 20, seed=0)) == {0, 1, 2, 3, 4}


def test_repetition_penalty_counts_prompt_and_reply_also_when_greedy() -> None:
    sampler = Sampler(SamplingParams(temperature=0.0, repetition_penalty=2.0))
    assert sampler.sample(LOGITS, [1]) == 3
    assert sampler.sample(LOGITS, []) == 1


def test_seed_repeats_and_no_seed_varies() -> None:
    def draw(seed: int | None) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=2.0, top_p=1.0, seed=seed))
        return [sampler.sample(torch.zeros(1000), []) for _ in range(20)]

    assert draw(7) == draw(7) != draw(8)
    assert draw(-1) == draw(-1)
    assert draw(None) != draw(None)


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    _draws(SamplingParams(seed=None), 3)
    assert torch.equal(before, torch.get_rng_state())


def test_logits_are_not_changed_and_may_be_half_precision() -> None:
    logits = LOGITS.to(torch.bfloat16)
    kept = logits.clone()
    assert _draws(SamplingParams(repetition_penalty=1.5, seed=1), 20, logits) <= {0, 1, 2, 3, 4}
    assert torch.equal(logits, kept)


def test_padding_of_the_vocabulary_is_never_drawn() -> None:
    sampler = Sampler(SamplingParams(temperature=0.0), vocab_size=1)
    assert sampler.sample(LOGITS, []) == 0


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_only_what_is_allowed_is_drawn(temperature: float) -> None:
    allowed = torch.tensor([True, False, False, False, True])
    params = SamplingParams(temperature=temperature, top_p=1.0, top_k=4, repetition_penalty=1.3, seed=0)
    sampler = Sampler(params, vocab_size=5)
    padded = torch.cat([LOGITS, torch.tensor([99.0, 99.0])])
    assert {sampler.sample(padded, [0, 1], allowed) for _ in range(300)} == ({0} if temperature == 0 else {0, 4})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    logits = LOGITS.clone()
    logits[2] = bad
    with pytest.raises(EngineFailure, match="not finite"):
        Sampler(SamplingParams()).sample(logits, [])


def test_masked_scores_are_fine() -> None:
    logits = torch.full((4,), float("-inf"))
    logits[2] = 0.0
    assert _draws(SamplingParams(), 5, logits) == {2}


CHOICES = {
    "temperature": st.floats(0.05, 5.0),
    "top_p": st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]),
    "top_k": st.sampled_from([0, 1, 40, 5000]),
    "min_p": st.sampled_from([0.0, 0.05, 0.9]),
}


def _chances(scores: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """The reference: transformers' processors over the whole vocabulary [V]."""
    chain = LogitsProcessorList([TemperatureLogitsWarper(params.temperature)])
    chain.extend([TopKLogitsWarper(params.top_k)] if params.top_k else [])
    chain.extend([TopPLogitsWarper(params.top_p)] if params.top_p < 1.0 else [])
    chain.extend([MinPLogitsWarper(params.min_p)] if params.min_p else [])
    none = cast("torch.LongTensor", torch.empty((1, 0), dtype=torch.long))
    return torch.softmax(chain(none, cast("torch.FloatTensor", scores[None]))[0].double(), dim=-1)


def _weights(scores: torch.Tensor, params: SamplingParams) -> Floats:
    """How likely all tokens are [V], 0 for what top-k leaves out."""
    weights = Sampler(params).weigh(scores.numpy(), np.float32(scores.max()))
    if 0 < params.top_k < len(scores):
        weights[np.setdiff1d(np.arange(len(scores)), largest(scores.numpy(), params.top_k))] = 0.0
    return weights


@examples(100)
@given(
    seed=st.integers(0, 1000),
    size=st.sampled_from([1, 2, 127, 128, 129, 1000, 5000]),
    values=st.sampled_from([2, 50, 1 << 20]),
    count=st.integers(1, 5000),
    masked=st.booleans(),
)
def test_the_largest_scores(seed: int, size: int, values: int, count: int, masked: bool) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(-values, values, size).astype(np.float32)
    if masked:
        scores[generator.random(size) < 0.9] = -np.inf
    count = min(count, size)
    least = np.sort(scores)[-count]
    assert largest(scores, count).tolist() == np.flatnonzero(scores >= least).tolist()


@examples(60)
@given(seed=st.integers(0, 1000), sharpness=st.floats(0.1, 12.0), size=st.sampled_from([1, 7, 129, 4000]), **CHOICES)
def test_exactly_what_transformers_leaves_is_drawn_and_by_its_chances(
    seed: int, sharpness: float, size: int, temperature: float, top_p: float, top_k: int, min_p: float
) -> None:
    """With every token that the first draw may give; where it is refused, what it is then drawn from is checked."""
    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    scores = sharpness * torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    wanted = _chances(scores, params)
    kept = torch.nonzero(wanted).flatten().tolist()
    weights = _weights(scores, params).astype(np.float64)
    weights[weights < min_p] = 0.0
    left = weights * (wanted.numpy() > 0)
    np.testing.assert_allclose(left / left.sum(), wanted.numpy(), atol=1e-6)
    middle = (np.cumsum(weights) - weights / 2) / weights.sum()
    outside = np.flatnonzero((weights > 1e-6 * weights.sum()) & (wanted.numpy() == 0))
    for token in [*kept[:: 1 + len(kept) // 40], *outside[:: 1 + len(outside) // 40].tolist()]:
        if weights[token] < 1e-6 * weights.sum():
            continue  # whose middle is lost in rounding
        asked: list[float] = []

        def uniform(first: float = float(middle[token]), asked: list[float] = asked) -> float:
            asked.append(first if not asked else 0.5)
            return asked[-1]

        drawn = draw(_weights(scores, params), top_p, min_p, uniform)
        edge = token in (kept[int(wanted[kept].argmin())], outside[weights[outside].argmax()] if len(outside) else -1)
        assert drawn in kept or edge  # one token at the nucleus' edge may fall to either side by rounding
        assert (len(asked) == 1 and drawn == token) == (token in kept) or edge


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0, top_p=0.6, seed=1),
        SamplingParams(temperature=2.0, top_p=0.25, seed=2),
        SamplingParams(temperature=1.0, top_p=0.9, top_k=6, seed=3),
        SamplingParams(temperature=1.5, top_p=0.95, min_p=0.2, seed=4),
    ],
)
def test_draws_are_as_frequent_as_they_are_likely(params: SamplingParams) -> None:
    """Pearson's chi-square over refused and repeated draws, at some four standard deviations; seeds are fixed."""
    scores = 1.5 * torch.randn(300, generator=torch.Generator().manual_seed(5))
    scores[100:] -= 6.0
    wanted, count, sampler = _chances(scores, params).numpy(), 6000, Sampler(params)
    found = np.bincount([sampler.sample(scores) for _ in range(count)], minlength=300)
    assert not found[wanted == 0].any()
    likely = wanted > 0
    chi = float(((found - count * wanted)[likely] ** 2 / (count * wanted[likely])).sum())
    freedom = int(likely.sum()) - 1
    assert chi < freedom + 4 * (2 * freedom) ** 0.5


def test_of_equal_tokens_as_many_are_drawn_as_the_share_asks_for() -> None:
    assert _draws(SamplingParams(top_p=0.5, temperature=1.0, seed=0), 300, torch.zeros(8)) == {0, 1, 2, 3}


def test_penalty_is_that_of_transformers() -> None:
    scores, ids = torch.tensor([1.0, -2.0, 0.5, -0.25, 0.0]), [1, 0, 0, 4, 3]
    row = cast("torch.LongTensor", torch.tensor([ids]))
    wanted = RepetitionPenaltyLogitsProcessor(1.7)(row, cast("torch.FloatTensor", scores[None]))[0]
    np.testing.assert_allclose(penalised(scores.numpy(), ids, 1.7), wanted.numpy())


def test_the_last_of_all_weight_is_a_token_that_weighs_something() -> None:
    weights = np.zeros(1000, np.float32)
    weights[[3, 400, 401]] = (1.0, 1e-30, 0.5)
    almost = math.nextafter(1.0, 0.0)
    assert draw(weights.copy(), 1.0, 0.0, lambda: almost) == 401
    assert draw(weights.copy(), 1.0, 0.0, lambda: 0.0) == 3


# ---- stop texts ----


def test_stop_text_across_pieces() -> None:
    watcher = StopWatcher(("</end>", "STOP"))
    assert watcher.feed("Hello <") == ("Hello ", False)
    assert watcher.feed("/e") == ("", False)
    assert watcher.feed("x") == ("</ex", False)
    assert watcher.feed(" ST") == (" ", False)
    assert watcher.feed("OP tail") == ("", True)
    assert watcher.flush() == ""


def test_held_text_comes_out_at_the_end() -> None:
    watcher = StopWatcher(("###",))
    assert watcher.feed("a##") == ("a", False)
    assert watcher.flush() == "##"
    assert watcher.flush() == ""


def test_no_stop_texts_hold_nothing_back() -> None:
    assert StopWatcher(("",)).feed("abc") == ("abc", False)


@given(
    pieces=st.lists(st.text(alphabet="ab#", max_size=4), max_size=12),
    stop=st.lists(st.text(alphabet="ab#", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_cut_does_not_depend_on_the_pieces(pieces: list[str], stop: list[str]) -> None:
    whole = "".join(pieces)
    watcher, shown, stopped = StopWatcher(stop), "", False
    for piece in pieces:
        text, stopped = watcher.feed(piece)
        shown += text
        if stopped:
            break
    else:
        shown += watcher.flush()
    assert stopped == any(text in whole for text in stop)
    assert whole.startswith(shown)
    assert not any(text in shown for text in stop)
    if not stopped:
        assert shown == whole
