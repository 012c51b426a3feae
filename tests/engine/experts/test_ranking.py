"""Who lives in VRAM when some live there already; the ranking itself is held by the tests of plans."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.experts.placement import make_plan
from engine.experts.ranking import as_array, as_mask
from tests.engine.experts.shapes import TINY, skewed
from tests.engine.experts.test_placement import CASES, Case


def test_a_mask_names_the_experts_of_each_layer() -> None:
    by_layer = [[index % TINY.experts] for index in range(TINY.layers)]
    mask = as_mask(TINY, by_layer)
    assert mask.shape == (TINY.layers, TINY.experts)
    assert [np.flatnonzero(layer).tolist() for layer in mask] == by_layer


@given(CASES, st.integers(0, 2**32))
def test_experts_that_are_held_stay_as_long_as_there_is_room(case: Case, seed: int) -> None:
    free = make_plan(case.inputs, case.config)
    assume(free.fits)
    rng, model = np.random.default_rng(seed), case.model
    held = [np.flatnonzero(rng.random(model.experts) < 0.5).tolist() for _ in range(model.layers)]
    plan = make_plan(case.inputs, case.config, held)
    pairs = {(layer, expert) for layer, experts in enumerate(held) for expert in experts}
    chosen = {(layer, expert) for layer, experts in enumerate(plan.resident_by_layer) for expert in experts}
    assert plan.fits
    assert plan.vram_bytes.get("total", 0) <= plan.vram_budget_bytes
    assert chosen <= pairs or pairs <= chosen, "none comes while another that was held leaves"
    if model.expert_formats == ():
        assert len(chosen) == free.resident_experts


def test_a_popularity_is_made_an_array_once_and_never_taken_for_another() -> None:
    shares = skewed(TINY)
    first = as_array(shares)
    assert as_array(shares) is first
    assert as_array(tuple(tuple(row) for row in shares)) is first, "an equal one, as another model's may be"
    others = [tuple((float(number), *row[1:]) for row in shares) for number in range(2, 12)]
    for _ in range(2):
        for other in others:
            assert as_array(other).tolist() == [list(row) for row in other]
    assert as_array(shares).tolist() == first.tolist()
    assert not first.flags.writeable
