"""What is page-locked: within the budget, the most used outside VRAM first; and what running with less of it does."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Engine, EngineConfig, SamplingParams
from engine.config import ModelConfig
from engine.experts.pinning import GIB, choose_pinned, pinned_budget, runs_of
from engine.messages import Snapshot, Token
from tests.checkpoints import write_mixtral
from tests.engine.experts.shapes import MIXTRAL, QWEN_Q4_K_M, TINY, machine, skewed
from tests.engine.shapes import simulated_budget

ODD = replace(TINY, intermediate_size=100)  # whose experts are no whole pages


def test_windows_locks_half_of_ram_and_others_leave_an_eighth() -> None:
    hardware, config = machine(), EngineConfig()
    assert pinned_budget(hardware, config, "win32") == 64 * GIB
    assert pinned_budget(hardware, config, "linux") == 112 * GIB
    small = replace(hardware, ram_total_bytes=16 * GIB)
    assert pinned_budget(small, config, "linux") == 12 * GIB
    assert pinned_budget(replace(hardware, ram_total_bytes=4 * GIB), config, "linux") == 2 * GIB
    assert pinned_budget(hardware, replace(config, pinned_budget_bytes=GIB), "linux") == GIB
    assert pinned_budget(hardware, replace(config, pinned_budget_bytes=1 << 50), "win32") == 64 * GIB


@pytest.mark.parametrize("model", [MIXTRAL, QWEN_Q4_K_M, ODD], ids=["mixtral", "qwen", "odd"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_the_most_used_outside_vram_come_first(model: ModelConfig, share: float) -> None:
    resident = np.random.default_rng(0).random((model.layers, model.experts)) < 0.3
    popularity, budget = skewed(model), int(share * model.experts_bytes)
    pinned = choose_pinned(model, popularity, resident, budget)
    sizes = np.array([model.layer_expert_bytes(layer) for layer in range(model.layers)])
    assert int(pinned.sum(axis=1) @ sizes) <= budget
    assert pinned.all() == (share == 1.0)
    if model is ODD:
        assert all(row.all() or not row.any() for row in pinned), "experts that share pages are locked together"
        return
    assert budget - int(pinned.sum(axis=1) @ sizes) < max(sizes)
    if 0.0 < share < 1.0:
        worth = np.array(popularity) - resident
        alike = sizes == sizes[0]
        assert worth[alike][pinned[alike]].min() >= worth[alike][~pinned[alike]].max() - 1e-9


@given(st.lists(st.booleans(), max_size=20))
def test_runs_are_the_experts_beside_each_other(row: list[bool]) -> None:
    runs = runs_of(row)
    assert [any(first <= expert < end for first, end in runs) for expert in range(len(row))] == row
    assert all(after[0] > before[1] for before, after in pairwise(runs))


# ---- the whole engine on a simulated GPU ----

PROMPT = list(range(5, 45))
CONFIG = EngineConfig(
    device="simulated", context_tokens=128, cpu_threads=1, simulated_link_bytes_per_s=1e12, policy="fiddler"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_mixtral(tmp_path_factory.mktemp("pin") / "m", layers=3, experts=6))


def run(model: str, config: EngineConfig) -> tuple[list[int], Snapshot, tuple[set[int], ...]]:
    """A reply's tokens, the traces of its prompt, and what was not page-locked."""
    with Engine.load(model, config) as engine:
        events = list(engine.generate(PROMPT, SamplingParams(max_tokens=1, temperature=0.0)))
        snapshot = next(event for event in reversed(events) if isinstance(event, Snapshot))
        more = list(engine.generate([*PROMPT, 9], SamplingParams(max_tokens=24, temperature=0.0, ignore_eos=True)))
        return [event.id for event in more if isinstance(event, Token)], snapshot, engine.loaded.store.pageable


def test_what_is_not_page_locked_is_computed_on_the_cpu_and_the_reply_is_the_same(model: str) -> None:
    """A link so quick that everything would be streamed, were it not for the memory that it reads from."""
    with Engine.load(model, CONFIG) as shape:
        total = simulated_budget(shape.model, shape.ready.effective, residents=2)
        layer_bytes = 6 * shape.model.expert_bytes
    config = replace(CONFIG, simulated_vram_bytes=total)
    tokens, _, none = run(model, config)
    assert not any(none)
    limited_tokens, _, pageable = run(model, replace(config, pinned_budget_bytes=layer_bytes))
    assert sorted(map(len, pageable)) == [0, 6, 6], "experts this small share pages: one layer fits"
    assert limited_tokens == tokens
    with Engine.load(model, replace(config, pinned_budget_bytes=layer_bytes)) as engine:
        assert engine.plan.host_bytes["experts_pinned"] == layer_bytes
        assert any("page-locked" in reason for reason in engine.plan.reasons)


def test_streaming_from_memory_that_is_not_page_locked_takes_longer_and_is_foreseen(model: str) -> None:
    with Engine.load(model, CONFIG) as shape:
        total = simulated_budget(shape.model, shape.ready.effective, residents=0)
    config = replace(
        CONFIG, simulated_vram_bytes=total, simulated_link_bytes_per_s=1e8, policy="gpu_stream", adaptive=False
    )
    times = []
    for limit in (None, 0):
        _, snapshot, _ = run(model, replace(config, pinned_budget_bytes=limit))
        times.append(sum(trace.measured_gpu_s for trace in snapshot.layers))
        predicted_s = sum(trace.predicted_gpu_s for trace in snapshot.layers)
        assert predicted_s == pytest.approx(times[-1], rel=0.15)
    assert 2 < times[1] / times[0] <= 3.01 * 7 / 6, "of eight experts one is copied ahead, where it is page-locked"
