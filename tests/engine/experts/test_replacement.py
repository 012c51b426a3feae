"""The policy alone: it follows favourites, leaves chance alone, keeps its limits, and knows what does not pay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import ModelConfig
from engine.experts.regret import LEAST_SETTLED
from engine.experts.replacement import (
    HALF_LIFE_TOKENS,
    HORIZON_TOKENS,
    LINK_SHARE,
    SWAPS_PER_TOKEN,
    WARM_SWAPS_PER_LAYER,
    Prices,
    Replacement,
    _FadingCounts,
)
from engine.messages import CostModel
from tests.engine.experts.conversations import (
    COARSE,
    FINE,
    Chosen,
    best_hit_rate,
    favourites,
    follow,
    pc,
    some_residents,
    stream,
)
from tests.engine.experts.shapes import QWEN, pc_costs
from tests.engine.experts.work import calls_of
from tests.examples import examples

MODELS = st.sampled_from([FINE, COARSE])
SEEDS = st.integers(0, 1000)
_, PC = pc(FINE)


def counted(tokens: list[Chosen], layer: int) -> list[tuple[int, int]]:
    """(expert, visits) of one layer over a whole prompt."""
    experts, visits = np.unique([chosen[layer] for chosen in tokens], return_counts=True)
    return list(zip(experts.tolist(), visits.tolist(), strict=True))


@given(MODELS, SEEDS, st.sampled_from([1.0, 1.5]))
@examples(15)
def test_it_comes_near_the_best_placement_of_a_stream_with_favourites(
    model: ModelConfig, seed: int, steepness: float
) -> None:
    odds, resident = favourites(model, steepness, seed), some_residents(model, 0.375, seed + 1)
    tokens = stream(model, odds, 600, seed + 2)
    followed = follow(model, PC, tokens, resident)
    late = followed.hit_rates[300:]
    assert np.mean(late) > best_hit_rate(odds, tokens[300:], len(resident[0])) - 0.04


@given(MODELS, SEEDS)
@examples(10)
def test_it_follows_when_the_favourites_change(model: ModelConfig, seed: int) -> None:
    before, after = favourites(model, 1.2, seed), favourites(model, 1.2, seed + 1)
    tokens = stream(model, before, 400, seed) + stream(model, after, 400, seed + 1)
    followed = follow(model, PC, tokens, some_residents(model, 0.375, seed))
    late = followed.hit_rates[600:]
    assert np.mean(late) > best_hit_rate(after, tokens[600:], len(some_residents(model, 0.375, 0)[0])) - 0.08


@given(MODELS, SEEDS)
@examples(15)
def test_it_leaves_a_stream_without_favourites_nearly_alone(model: ModelConfig, seed: int) -> None:
    tokens = stream(model, favourites(model, 0.0, seed), 600, seed)
    followed = follow(model, PC, tokens, some_residents(model, 0.375, seed))
    assert sum(followed.uploads) <= 0.02 * len(tokens) * model.layers


@given(MODELS, SEEDS, st.sampled_from(["fiddler", "gpu_stream"]), st.sampled_from(["PCIe 4 x16", "PCIe 4 x4"]))
@examples(25)
def test_its_limits_hold(model: ModelConfig, seed: int, policy_name: str, link: str) -> None:
    """Never more than its cap, and whoever came stays for the horizon that paid for it."""
    _, costs = pc(model, link)
    tokens = stream(model, favourites(model, 1.2, seed), 150, seed)
    tokens += stream(model, favourites(model, 1.2, seed + 1), 150, seed)
    policy = Replacement(model)
    policy.place(some_residents(model, 0.375, seed))
    came: dict[tuple[int, int], int] = {}
    waiting: list[tuple[int, int]] = []
    for clock, chosen in enumerate(tokens):
        begun = 0
        for layer, experts in enumerate(chosen):
            for swap in policy.step(layer, experts, costs, policy_name):  # type: ignore[arg-type]
                begun += 1
                assert swap.layer == layer
                assert clock - came.get((layer, swap.leaving), -HORIZON_TOKENS) >= HORIZON_TOKENS
                came[layer, swap.coming] = clock
                waiting.append((layer, swap.coming))
            assert len(waiting) <= SWAPS_PER_TOKEN
        assert begun <= SWAPS_PER_TOKEN
        if clock % 3 == 0 and waiting:
            policy.arrived(*waiting.pop(0))


def test_after_a_prompt_every_layer_may_swap_at_once_and_only_for_that_token() -> None:
    odds, resident = favourites(FINE, 1.2, 1), some_residents(FINE, 0.375, 2)
    prompt, tokens = stream(FINE, odds, 300, 3), stream(FINE, odds, 2, 4)
    policy = Replacement(FINE)
    policy.place(resident)
    for layer in range(FINE.layers):
        policy.observe_prompt(layer, counted(prompt, layer), len(prompt))
    swaps = [policy.step(layer, experts, PC, "fiddler") for layer, experts in enumerate(tokens[0])]
    assert [len(layer) for layer in swaps] == [WARM_SWAPS_PER_LAYER] * FINE.layers
    for layer, begun in enumerate(swaps):
        for swap in begun:
            assert odds[layer, swap.coming] > odds[layer, swap.leaving]
    assert not any(policy.step(layer, experts, PC, "fiddler") for layer, experts in enumerate(tokens[1]))


def test_counts_fade_as_their_half_life_says_over_tokens_and_prompts() -> None:
    counts, decay = _FadingCounts(4), 0.5 ** (1 / HALF_LIFE_TOKENS)
    uses, seen, squares = np.zeros(4), 0.0, 0.0
    for step in range(9000):
        if step % 3000 == 1000:
            prompt = 1 + step % 7
            counts.prompt([(2, prompt), (3, 1)], prompt)
            faded = decay**prompt
            weight = (1 - faded) / (1 - decay) / prompt
            uses, seen = uses * faded + weight * np.array([0, 0, prompt, 1]), seen * faded + weight * prompt
            squares = squares * faded**2 + prompt * weight**2
        counts.token([step % 2, 2])
        uses, seen, squares = uses * decay, seen * decay + 1, squares * decay**2 + 1
        uses[[step % 2, 2]] += 1
        if step % 50 == 0:
            rates, noise = counts.rates()
            np.testing.assert_allclose(rates, uses / seen, rtol=1e-9)
            assert noise == pytest.approx(squares / seen**2)
    assert seen == pytest.approx(HALF_LIFE_TOKENS / np.log(2), rel=0.01)


def test_counts_stay_right_over_a_long_reply_in_which_nobody_asks() -> None:
    asked, counts = _FadingCounts(3), _FadingCounts(3)
    for step in range(60_000):
        for each in (asked, counts):
            each.token([step % 2, 2])
        if step % 1000 == 0:
            asked.rates()
    rates, noise = counts.rates()
    np.testing.assert_allclose(rates, asked.rates()[0], rtol=1e-9)
    assert noise == pytest.approx(asked.rates()[1])


def test_what_is_popular_in_the_long_run_needs_less_evidence() -> None:
    """The residents are the wrong half by popularity: a few tokens that agree with it are enough."""
    shares = np.full((COARSE.layers, COARSE.experts), 0.01)
    shares[:, 4:] = 0.24
    tokens: list[Chosen] = [[[4 + step % 4, 4 + (step + 1) % 4]] * COARSE.layers for step in range(4)]
    begun = []
    for known in (True, False):
        policy = Replacement(COARSE)
        policy.place([range(4)] * COARSE.layers)
        if known:
            policy.expect(shares.tolist())
        begun.append(
            sum(len(policy.step(layer, chosen[layer], PC, "fiddler")) for chosen in tokens for layer in range(4))
        )
    assert begun[0] > 0
    assert begun[1] == 0


def test_a_swap_is_weighed_by_hand() -> None:
    """The newcomer earns once three copies and its own are over; a copy and a half are paid for."""
    hits = 0.5 * (HORIZON_TOKENS - 4 * 2e-3 / 1e-2) - 0.1 * HORIZON_TOKENS
    assert Prices(1e-3, 2e-3, 1e-2).gain_s(0.5, 0.1, 3) == pytest.approx(hits * 1e-3 - 1.5 * 2e-3)


def test_a_copy_costs_what_copies_were_seen_to_take() -> None:
    usual, slow = (Prices.of(FINE, replace(PC, gpu_correction=factor), "fiddler") for factor in (1.0, 2.0))
    assert usual
    assert slow
    assert slow.upload_s == pytest.approx(2 * usual.upload_s)


def test_a_swap_waits_for_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of four alike just pays, the others would come too late."""
    policy = Replacement(COARSE)
    policy.place([range(4)] * COARSE.layers)
    monkeypatch.setattr(policy, "_expected", lambda _: np.array([0.0] * 4 + [0.5] * 4))
    prices = Prices(1e-3, 0.0202, 1e-2)
    assert len(policy._paying_swaps(0, 4, prices)) == 1
    policy._arriving.add((1, 7))
    assert policy._paying_swaps(0, 4, prices) == []


def test_what_is_not_page_locked_never_comes() -> None:
    odds, policy = favourites(FINE, 1.5, 1), Replacement(FINE)
    resident = [np.argsort(row)[:16].tolist() for row in odds]  # those that nobody wants
    locked = [set(np.argsort(row)[16::2].tolist()) for row in odds]
    policy.place(resident, [set(range(FINE.experts)) - experts for experts in locked])
    came = []
    for chosen in stream(FINE, odds, 200, 2):
        for layer, experts in enumerate(chosen):
            for swap in policy.step(layer, experts, PC, "fiddler"):
                policy.arrived(layer, swap.coming)
                came.append(swap.coming in locked[layer] or swap.coming in resident[layer])
    assert len(came) > 10
    assert all(came)


def test_a_new_placement_is_bound_by_nothing_that_was_before() -> None:
    """Neither by uploads that never arrived, nor by how long newcomers were to stay."""
    first, second = np.full((2, COARSE.layers, COARSE.experts), 0.01)
    first[:, 4:] = second[:, :4] = 0.24
    policy = Replacement(COARSE)

    def newcomers(shares: Any, experts: list[int]) -> list[set[int]]:
        policy.expect(shares.tolist())
        came: list[set[int]] = [set() for _ in range(COARSE.layers)]
        for _ in range(HORIZON_TOKENS // 2):
            for layer in range(COARSE.layers):
                for swap in policy.step(layer, experts, PC, "fiddler"):
                    policy.arrived(layer, swap.coming)
                    came[layer].add(swap.coming)
        return came

    policy.place([range(4)] * COARSE.layers)
    came = newcomers(first, [4, 5])
    assert all(came)
    policy._arriving.add((0, 7))
    policy.place(came)
    assert all(newcomers(second, [0, 1]))


# ---- when it does nothing, and says why -----------------------------------------------------------------------------


def idle(costs: CostModel, policy_name: str = "fiddler", model: ModelConfig = FINE) -> Replacement:
    """After a stream with strong favourites that led to no upload."""
    tokens = stream(model, favourites(model, 1.5, 1), 200, 1)
    followed = follow(model, costs, tokens, some_residents(model, 0.375, 2), policy_name)  # type: ignore[arg-type]
    assert sum(followed.uploads) == 0
    return followed.policy


def test_a_slow_link_is_left_alone() -> None:
    policy = idle(pc(FINE, "USB")[1])
    assert policy.pause_reason.startswith("Copying an expert takes 100 ms")
    assert policy.pause_reason.endswith("does not pay.")


def test_where_the_cpu_runs_everything_residents_save_nothing() -> None:
    assert "saves no time" in idle(PC, "cpu_only").pause_reason


def test_a_gpu_slower_than_the_cpu_gets_no_experts() -> None:
    assert PC.gpu_expert
    slow = replace(PC, gpu_expert=replace(PC.gpu_expert, overhead_s=1.0))
    assert "saves no time" in idle(slow).pause_reason


def test_without_a_gpu_there_are_no_prices() -> None:
    assert Prices.of(FINE, pc_costs(FINE, gpu=False), "fiddler") is None
    assert "make room" in idle_without_residents().pause_reason


def idle_without_residents() -> Replacement:
    policy = Replacement(FINE)
    policy.place([()] * FINE.layers)
    for chosen in stream(FINE, favourites(FINE, 1.5, 1), 50, 1):
        for layer, experts in enumerate(chosen):
            assert policy.step(layer, experts, pc_costs(FINE, gpu=False), "fiddler") == []
    return policy


def test_where_every_expert_is_resident_nothing_can_be_swapped() -> None:
    policy = Replacement(FINE)
    policy.place([range(FINE.experts)] * FINE.layers)
    assert policy.pause_reason == "Every expert lives in VRAM."


def test_uploads_take_no_more_of_the_link_than_their_share() -> None:
    quick, slow, crawling = (Prices(1e-4, upload_s, 1e-2) for upload_s in (1e-4, 1e-3, 1.0))
    assert quick.swaps_per_token == SWAPS_PER_TOKEN
    assert slow.swaps_per_token == LINK_SHARE * 1e-2 / 1e-3
    assert crawling.swaps_per_token == 1, "whether one pays at all is another question"
    assert Prices(1e-4, 0.0, 1e-2).swaps_per_token == SWAPS_PER_TOKEN


def test_it_stops_when_uploads_do_not_keep_their_promise() -> None:
    """Favourites that last just long enough to be believed: every upload comes too late."""
    switching = 12
    tokens: list[Chosen] = []
    for turn in range(80):
        tokens += stream(COARSE, favourites(COARSE, 4.0, turn), switching, turn)
    followed = follow(COARSE, pc(COARSE, "PCIe 4 x4")[1], tokens, some_residents(COARSE, 0.375, 1))
    early, late = sum(followed.uploads[:300]), sum(followed.uploads[-300:])
    assert late <= 2 * LEAST_SETTLED < early, "some trials are left"
    assert followed.policy._ledger.allowance < SWAPS_PER_TOKEN * 4, "paused, or on trial"


def test_residents_placed_by_a_plan_are_what_it_goes_on_from() -> None:
    tokens = stream(COARSE, favourites(COARSE, 1.5, 1), 100, 1)
    followed = follow(COARSE, PC, tokens, some_residents(COARSE, 0.375, 1))
    policy = followed.policy
    policy.place([(0, 1, 2)] * COARSE.layers)
    assert policy._resident.sum() == 3 * COARSE.layers
    for chosen in stream(COARSE, favourites(COARSE, 1.5, 2), 100, 1):
        for layer, experts in enumerate(chosen):
            for swap in policy.step(layer, experts, PC, "fiddler"):
                policy.arrived(layer, swap.coming)
            assert policy._resident[layer].sum() == 3


def test_little_enough_work_for_every_layer_of_every_token() -> None:
    costs = pc_costs(QWEN)
    tokens = stream(QWEN, favourites(QWEN, 0.0, 1), 40, 1)
    policy = Replacement(QWEN)
    policy.place([range(40)] * QWEN.layers)

    def run() -> None:
        for chosen in tokens:
            for layer, experts in enumerate(chosen):
                for swap in policy.step(layer, experts, costs, "fiddler"):
                    policy.arrived(layer, swap.coming)

    assert calls_of(run) < 16 * len(tokens) * QWEN.layers, "nine are usual, arrivals included"
