"""Drawing tokens, and stop texts across token borders."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine.config import SamplingParams
from engine.errors import EngineFailure
from engine.sampling import Sampler, StopWatcher

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


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sharpness=st.floats(0.1, 12.0),
    temperature=st.floats(0.05, 5.0),
    top_p=st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]),
    top_k=st.sampled_from([0, 1, 40, 5000]),
    min_p=st.sampled_from([0.0, 0.05, 0.9]),
)
def test_chances_equal_those_of_transformers_over_the_whole_vocabulary(
    seed: int, sharpness: float, temperature: float, top_p: float, top_k: int, min_p: float
) -> None:
    scores = sharpness * torch.randn(1, 4000, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    chain = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    chain.extend([TopKLogitsWarper(top_k)] if top_k else [])
    chain.extend([TopPLogitsWarper(top_p)] if top_p < 1.0 else [])
    chain.extend([MinPLogitsWarper(min_p)] if min_p else [])
    none = cast("torch.LongTensor", torch.empty((1, 0), dtype=torch.long))
    expected = torch.softmax(chain(none, cast("torch.FloatTensor", scores))[0], dim=-1)
    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    chances, ids = Sampler(params).chances(scores)
    found = chances if ids is None else torch.zeros(4000).scatter(0, ids, chances)
    # One token at the nucleus' edge may fall to either side by rounding.
    edge = (found == 0) != (expected == 0)
    assert int(edge.sum()) <= 1
    assert float((found - expected).abs().max()) < 1e-4 + float(torch.maximum(found, expected)[edge].sum())


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
