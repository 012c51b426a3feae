"""Models whose experts are in parts, from the file to the logits: what they compute whole, on every side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.checkpoint import gguf_config
from engine.checkpoint.checkpoint import read_config
from engine.errors import CheckpointError
from engine.experts.parts import placed_model
from engine.messages import Finished, Snapshot, Token
from tests.checkpoints import write_mixtral
from tests.engine.model.test_quantised import SHAPE, assert_alike
from tests.engine.shapes import simulated_budget
from tests.gguf_files import write_gguf
from tests.oracle import oracle_logits, write_dequantised

TOKENS = [int(token) for token in np.random.default_rng(3).integers(0, 300, 40)]
SIMULATED = EngineConfig(
    device="simulated", context_tokens=64, cpu_threads=1, simulated_vram_bytes=1 << 30, prefill_chunk_tokens=24
)
GREEDY = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)
PARTS = {"safetensors": 4, "gguf": 2}


@pytest.fixture(autouse=True)
def _parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every expert is large."""
    monkeypatch.setattr("engine.experts.parts.PART_BYTES", 1)
    monkeypatch.setattr(gguf_config, "BLOCK_DTYPE", "float32")


@pytest.fixture(scope="module", params=list(PARTS))
def given(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, Any]:
    """A model, its parts, and transformers' logits: floats of tiles, and blocks of 256 columns."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "safetensors":
        path = write_mixtral(folder / "m", layers=3, intermediate=64, hidden=48)
        return path, PARTS[request.param], oracle_logits(path, TOKENS)
    path = write_gguf(
        folder / "m.gguf", "llama", shape=replace(SHAPE, intermediate=512),
        formats=[("Q4_K", "Q5_K", "Q6_K"), ("Q8_0", "Q4_0", "Q3_K"), ("F16", "F32", "BF16")], dense_format="Q6_K",
    )  # fmt: skip
    return path, PARTS[request.param], oracle_logits(write_dequantised(path, folder / "dequantised"), TOKENS)


def config_for(path: Path, residents: int, **changes: Any) -> EngineConfig:
    """Room for so many parts."""
    placed, config = placed_model(read_config(path), "simulated"), replace(SIMULATED, **changes)
    return replace(config, vram_budget_bytes=simulated_budget(placed, config, residents))


@pytest.mark.parametrize("isa", ["torch", "auto"])
@pytest.mark.parametrize("policy", ["fiddler", "gpu_stream", "cpu_only"])
@pytest.mark.parametrize("residents", [0, 7, 17])
def test_policies_and_budgets_agree_with_the_oracle(
    given: tuple[Path, int, Any], isa: Any, policy: Any, residents: int
) -> None:
    path, parts, expected = given
    with Engine.load(str(path), config_for(path, residents, isa=isa, policy=policy)) as engine:
        assert engine.model.expert_parts == 1
        assert engine.plan.expert_parts == parts
        assert sum(map(len, engine.plan.resident_by_layer)) == residents
        if isa == "torch":
            assert_alike(engine.logits(TOKENS), expected)
        else:  # with int8 activations
            logits = engine.logits(TOKENS)
            lengths = np.linalg.norm(logits, axis=1) * np.linalg.norm(expected, axis=1)
            assert float(np.median((logits * expected).sum(axis=1) - 0.999 * lengths)) >= 0.0
        assert engine.snapshot().visits == len(TOKENS) * 3 * 2 * parts
        if policy != "fiddler":  # which decides by what it measures
            assert (engine.snapshot().streamed > 0) == (policy == "gpu_stream")


def test_replies_are_the_same_as_in_one_part(given: tuple[Path, int, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    path, parts, _ = given
    replies, snapshots = [], []
    for limit in (1, 1 << 40):
        monkeypatch.setattr("engine.experts.parts.PART_BYTES", limit)
        with Engine.load(str(path), config_for(path, 9, isa="torch")) as engine:
            assert engine.plan.expert_parts == (parts if limit == 1 else 1)
            events = list(engine.generate(TOKENS, GREEDY))
            assert isinstance(events[-1], Finished)
            replies.append([event.id for event in events if isinstance(event, Token)])
            snapshots.append([event for event in events if isinstance(event, Snapshot)][-1])
    assert replies[0] == replies[1]
    assert len(replies[0]) == 8
    assert snapshots[0].visits == parts * snapshots[1].visits
    assert all(trace.expert_parts == parts for trace in snapshots[0].layers)


def test_residents_leave_and_come_back_while_it_stays_loaded(given: tuple[Path, int, Any]) -> None:
    path, parts, expected = given
    with Engine.load(str(path), config_for(path, 17, isa="torch")) as engine:
        for residents in (2, 3 * 4 * parts, 5):
            engine.reconfigure(config_for(path, residents, isa="torch"))
            found = sum(map(len, engine.plan.resident_by_layer))
            assert abs(found - residents) <= 1, "parts of layers in other formats have other sizes"
            assert_alike(engine.logits(TOKENS), expected)


def test_visits_of_earlier_sessions_are_the_same_on_the_cpu_alone(given: tuple[Path, int, Any], tmp_path: Path) -> None:
    path, parts, _ = given
    with Engine.load(str(path), config_for(path, 5, popularity_dir=str(tmp_path))) as engine:
        list(engine.generate(TOKENS, GREEDY))
        by_part = np.array(engine.popularity.shares())
    with Engine.load(str(path), replace(SIMULATED, device="cpu", popularity_dir=str(tmp_path))) as engine:
        assert engine.plan.expert_parts == 1
        by_expert = np.array(engine.popularity.shares())
    np.testing.assert_allclose(by_part.reshape(3, 4, parts).sum(axis=2), by_expert, rtol=1e-6)
    assert float(np.ptp(by_expert)) > 0


def test_a_weight_that_is_no_number_is_found_in_any_part(tmp_path: Path) -> None:
    path = write_mixtral(tmp_path / "m", layers=1, intermediate=64)
    (file,) = path.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-4:] = np.array([np.nan], "<f4").tobytes()
    file.write_bytes(content)
    header = int.from_bytes(content[:8], "little")
    assert content[8 : 8 + header].rfind(b"experts") > 0
    with pytest.raises(CheckpointError, match="NaN"):
        Engine.load(str(path), SIMULATED)
