"""Residents that follow the conversation, on the simulated GPU: quicker where there are favourites, same results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.checkpoint.model_config import read_model_config
from engine.config import ModelConfig
from engine.experts.residency import Residency
from engine.messages import Event, Snapshot, Token
from tests.checkpoints import read_raw_safetensors, write_mixtral, write_raw_safetensors
from tests.engine.experts.conversations import (
    COARSE,
    FINE,
    best_hit_rate,
    decode,
    favourites,
    some_residents,
    stream,
)
from tests.engine.shapes import simulated_budget

ODDS = {model.name: favourites(model, 1.2, 1) for model in (FINE, COARSE)}


@pytest.mark.parametrize("model", [FINE, COARSE], ids=lambda model: model.name)
@pytest.mark.parametrize("policy", ["fiddler", "gpu_stream"])
def test_from_a_wrong_start_it_becomes_quicker_and_computes_the_same(model: ModelConfig, policy: Any) -> None:
    tokens, resident = stream(model, ODDS[model.name], 150, 2), some_residents(model, 0.375, 3)
    static = decode(model, tokens, resident, adaptive=False, policy=policy)
    adaptive = decode(model, tokens, resident, adaptive=True, policy=policy)
    assert adaptive.hit_rate > static.hit_rate + 0.4 * (
        best_hit_rate(ODDS[model.name], tokens, len(resident[0])) - static.hit_rate
    )
    assert adaptive.seconds < 0.9 * static.seconds
    np.testing.assert_allclose(adaptive.outputs, static.outputs, rtol=1e-6, atol=1e-6)
    counters = adaptive.executor.counters
    assert counters.uploaded_bytes == counters.uploads * model.expert_bytes > 0
    assert static.executor.counters.uploads == 0
    assert static.executor.not_adapting == "It is switched off in the settings."


def test_after_a_prompt_the_first_tokens_already_find_their_experts() -> None:
    odds, resident = ODDS[FINE.name], some_residents(FINE, 0.375, 3)
    prompt, tokens = stream(FINE, odds, 200, 4), stream(FINE, odds, 12, 2)
    cold = decode(FINE, tokens, resident, adaptive=True)
    warm = decode(FINE, tokens, resident, adaptive=True, prompt=prompt)
    assert warm.hit_rate > cold.hit_rate + 0.1


@pytest.mark.parametrize("model", [FINE, COARSE], ids=lambda model: model.name)
def test_without_favourites_it_costs_next_to_nothing(model: ModelConfig) -> None:
    tokens, resident = stream(model, favourites(model, 0.0, 1), 150, 2), some_residents(model, 0.375, 3)
    static = decode(model, tokens, resident, adaptive=False)
    adaptive = decode(model, tokens, resident, adaptive=True)
    assert adaptive.seconds < 1.01 * static.seconds


def test_on_a_slow_link_nothing_is_uploaded_and_nothing_is_lost() -> None:
    tokens, resident = stream(FINE, ODDS[FINE.name], 60, 2), some_residents(FINE, 0.375, 3)
    static = decode(FINE, tokens, resident, adaptive=False, link="USB")
    adaptive = decode(FINE, tokens, resident, adaptive=True, link="USB")
    assert adaptive.seconds == static.seconds
    assert adaptive.executor.counters.uploads == 0
    assert "on this link" in adaptive.executor.not_adapting


def test_a_slot_is_never_used_while_it_is_being_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot under way holds NaN: whoever computes with it spoils the output."""
    begin = Residency.begin_swap

    def begin_swap(self: Residency, layer: int, leaving: int, coming: int) -> int:
        slot = self._slots[layer][leaving]
        size_bytes = begin(self, layer, leaving, coming)
        slot.fill_(255)
        return size_bytes

    monkeypatch.setattr(Residency, "begin_swap", begin_swap)
    tokens, resident = stream(FINE, ODDS[FINE.name], 80, 2), some_residents(FINE, 0.375, 3)
    adaptive = decode(FINE, tokens, resident, adaptive=True, link="PCIe 4 x4")
    assert adaptive.executor.counters.uploads > 5
    assert np.isfinite(adaptive.outputs).all()
    assert all(len(layer) <= len(resident[0]) for layer in adaptive.residency.by_layer())


def test_uploads_do_not_teach_the_cost_model_that_streaming_is_slow() -> None:
    tokens, resident = stream(FINE, ODDS[FINE.name], 60, 2), some_residents(FINE, 0.375, 3)
    corrections = [
        decode(FINE, tokens, resident, adaptive=adaptive, policy="gpu_stream").executor.costs.gpu_correction
        for adaptive in (False, True)
    ]
    assert corrections[1] == pytest.approx(corrections[0], rel=0.02)


# ---- a whole engine -------------------------------------------------------------------------------------------------

GREEDY = SamplingParams(max_tokens=60, temperature=0.0, ignore_eos=True)
PROMPT = [5, 60, 7, 80, 9, 100] * 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose routers prefer the upper half of the experts, of which none is resident at first."""
    folder = write_mixtral(tmp_path_factory.mktemp("skewed") / "m", layers=3, experts=8)
    path = folder / "model.safetensors"
    header, data = read_raw_safetensors(path)
    skewed = bytearray(data)
    for layer in range(3):
        first, end = header[f"model.layers.{layer}.block_sparse_moe.gate.weight"]["data_offsets"]
        router = np.frombuffer(data[first:end], "<f4").reshape(8, -1).copy()
        router[4:] *= 8.0
        skewed[first:end] = router.tobytes()
    write_raw_safetensors(path, json.dumps(header).encode(), bytes(skewed))
    return folder


def settings_for(model: Path) -> EngineConfig:
    """Four residents a layer on a simulated GPU, and streaming for all others: all times are virtual."""
    config = EngineConfig(
        device="simulated", context_tokens=128, cpu_threads=1, simulated_vram_bytes=64 << 20, policy="gpu_stream"
    )
    return replace(config, vram_budget_bytes=simulated_budget(read_model_config(model), config, 12))


def last_snapshot(events: Iterable[Event]) -> Snapshot:
    return [event for event in events if isinstance(event, Snapshot)][-1]


def ids(events: Iterable[Event]) -> list[int]:
    return [event.id for event in events if isinstance(event, Token)]


def test_residents_follow_a_conversation_and_its_tokens_stay_the_same(model: Path) -> None:
    config = settings_for(model)
    with Engine.load(str(model), replace(config, adaptive=False)) as engine:
        expected = list(engine.generate(PROMPT, GREEDY))
        static = last_snapshot(expected)
        assert (static.uploads, static.uploaded_bytes) == (0, 0)
        assert "settings" in static.not_adapting
    with Engine.load(str(model), config) as engine:
        events = list(engine.generate(PROMPT, GREEDY))
        adaptive = last_snapshot(events)
        assert ids(events) == ids(expected)
        assert adaptive.hit_rate > static.hit_rate + 0.2
        assert adaptive.uploaded_bytes == adaptive.uploads * engine.model.expert_bytes > 0
        assert adaptive.streamed < static.streamed
        assert adaptive.not_adapting == ""
        assert adaptive.vram_bytes == static.vram_bytes
        again = last_snapshot(engine.generate(PROMPT, GREEDY))
        assert again.hit_rate >= adaptive.hit_rate
        assert again.uploads < adaptive.uploads, "counted anew for each reply"


def test_adapting_is_switched_live_and_measuring_meets_uploads_under_way(model: Path) -> None:
    config = settings_for(model)
    with Engine.load(str(model), replace(config, simulated_link_bytes_per_s=2e8)) as engine:
        expected = ids(engine.generate(PROMPT, GREEDY))
        engine.recalibrate()
        still = replace(config, simulated_link_bytes_per_s=2e8, adaptive=False)
        engine.reconfigure(still)
        assert "settings" in engine.snapshot().not_adapting
        assert engine.snapshot().resident_by_layer == engine.plan.resident_by_layer
        events = list(engine.generate(PROMPT, GREEDY))
        assert (ids(events), last_snapshot(events).uploads) == (expected, 0)
        engine.reconfigure(replace(still, adaptive=True))
        engine.logits(PROMPT)
        assert ids(engine.generate(PROMPT, GREEDY)) == expected


def test_on_the_cpu_there_is_nothing_to_adapt(model: Path) -> None:
    with Engine.load(str(model), EngineConfig(device="cpu", context_tokens=128, cpu_threads=1)) as engine:
        snapshot = last_snapshot(engine.generate(PROMPT, GREEDY))
    assert (snapshot.uploads, snapshot.hit_rate) == (0, 0.0)
    assert snapshot.not_adapting == "There is no GPU."
