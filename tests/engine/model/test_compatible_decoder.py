"""transformers' decoders with our executor in place of their experts give what transformers gives."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engine import Engine, EngineConfig, SamplingParams
from engine.checkpoint.checkpoint import open_checkpoint, read_config
from engine.errors import CheckpointError, OperationCancelledError, UnsupportedModelError
from engine.experts.assumed_costs import assumed_costs
from engine.experts.forecast import dense_chunk_seconds
from engine.hardware import HardwareProfile
from engine.messages import Finished, PromptProgress, Snapshot, Token
from engine.model.compatible_decoder import CompatibleDecoder
from tests.checkpoints import write_safetensors
from tests.compatible_models import FAMILIES, write_compatible
from tests.engine.shapes import simulated_budget
from tests.oracle import oracle_greedy, oracle_logits

IDS = [1, 2, 3, 4, 5, 9, 11, 60, 33, 2, 1]
ONE = SamplingParams(max_tokens=1, temperature=0.0)
ON_CPU = EngineConfig(device="cpu", context_tokens=64)
WITH_GPU = EngineConfig(device="simulated", context_tokens=64)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """transformers tells on stderr how much it has written."""
    logging: Any = transformers.utils.logging  # comes without types
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models by family, written once."""
    return tmp_path_factory.mktemp("compatible")


def model(folder: Path, family: str) -> Path:
    """A model of a family."""
    path = folder / family
    return path if path.exists() else write_compatible(path, family)


def with_residents(path: Path, residents: int) -> EngineConfig:
    """A simulated GPU for so many of a model's experts."""
    return replace(WITH_GPU, vram_budget_bytes=simulated_budget(read_config(path), WITH_GPU, residents))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers_eager_model(folder: Path, family: str) -> None:
    path = model(folder, family)
    wanted = oracle_logits(path, IDS)
    with Engine.load(str(path), ON_CPU) as engine:
        np.testing.assert_allclose(engine.logits(IDS), wanted, atol=1e-4, rtol=0)
        assert isinstance(engine._loaded.decoder, CompatibleDecoder)
    with Engine.load(str(path), with_residents(path, 5)) as engine:
        assert engine.plan.resident_experts == 5
        np.testing.assert_allclose(engine.logits(IDS), wanted, atol=1e-4, rtol=0)


def greedy(engine: Engine, prompt: list[int], count: int) -> tuple[list[int], int]:
    """Tokens of a reply, and how many of the prompt were in the cache."""
    sampling = SamplingParams(max_tokens=count, temperature=0.0, ignore_eos=True)
    events = list(engine.generate(prompt, sampling))
    (finished,) = (event for event in events if isinstance(event, Finished))
    return [event.id for event in events if isinstance(event, Token)], finished.usage.cached_tokens


@pytest.mark.parametrize(("family", "can_be_cut"), [("deepseek_v3", True), ("qwen3_next", False), ("minimax", False)])
def test_replies_are_greedily_the_same_also_after_a_prompt_that_began_alike(
    folder: Path, family: str, can_be_cut: bool
) -> None:
    path, other = model(folder, family), [*IDS[:6], 7, 8]
    with Engine.load(str(path), replace(ON_CPU, prefill_chunk_tokens=4)) as engine:
        assert greedy(engine, IDS, 6) == (oracle_greedy(path, IDS, 6), 0)
        tokens, cached = greedy(engine, other, 4)
        assert tokens == oracle_greedy(path, other, 4)
        assert cached == (6 if can_be_cut else 0), "what has recurrent states begins anew"
        assert greedy(engine, [*other, *tokens[:3], 5], 2) == (
            oracle_greedy(path, [*other, *tokens[:3], 5], 2),
            len(other) + 3,
        )


@pytest.mark.parametrize("family", ["glm4_moe", "qwen3_next"])
def test_a_pass_that_is_broken_off_leaves_nothing_behind(folder: Path, family: str) -> None:
    path = model(folder, family)
    with Engine.load(str(path), ON_CPU) as engine:
        decoder = engine._loaded.decoder
        decoder.forward_at_once(IDS[:5])
        calls = iter(range(3))

        def check() -> None:
            if next(calls) == 2:
                raise OperationCancelledError("Stopped.", "Go on.")

        with pytest.raises(OperationCancelledError):
            list(decoder.forward(IDS[5:], check))
        kept = decoder.cache.keep_prefix(IDS)
        assert kept == (5 if family == "glm4_moe" else 0)
        logits = decoder.logits(decoder.forward_at_once(IDS[kept:]))
        np.testing.assert_allclose(logits.numpy(), oracle_logits(path, IDS)[kept:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["glm4_moe", "qwen3_next"])
def test_a_long_prompt_tells_how_far_it_has_come_after_each_layer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.setattr("engine.reply.SNAPSHOT_INTERVAL_S", 0.0)
    path = model(folder, family)
    with Engine.load(str(path), ON_CPU) as engine:
        layers = engine.model.layers
        told = [event for event in engine.generate(IDS * 3, ONE) if isinstance(event, PromptProgress | Snapshot)]
    done = [event.done_tokens for event in told if isinstance(event, PromptProgress)]
    assert done == [0, *(32 * layer // layers for layer in range(1, layers + 1)), 33]
    assert [type(event) for event in told[1:4]] == [Snapshot, PromptProgress, Snapshot], "with the panel's numbers"


@pytest.mark.parametrize("family", ["glm4_moe", "qwen3_next"])
def test_a_reply_is_stopped_between_the_layers_of_a_chunk(
    folder: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    path = model(folder, family)
    with Engine.load(str(path), ON_CPU) as engine:
        decoder = engine._loaded.decoder
        assert isinstance(decoder, CompatibleDecoder)
        run, stopped = decoder._executor.run, False
        passed: list[int] = []

        def run_and_stop(index: int, *layer: Any) -> torch.Tensor:
            nonlocal stopped
            passed.append(index)
            added = run(index, *layer)
            stopped = True
            return added

        with monkeypatch.context() as patch:
            patch.setattr(decoder._executor, "run", run_and_stop)
            *_, last = engine.generate(IDS, ONE, lambda: stopped)
        assert isinstance(last, Finished)
        assert (last.reason, passed) == ("cancelled", [0])
        assert not any(thread.name.startswith("pausing") for thread in threading.enumerate())
        assert greedy(engine, IDS, 4) == (oracle_greedy(path, IDS, 4), 0)


def test_residents_leave_between_the_layers_of_a_prompt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause is one in which the engine's thread may do other things."""
    monkeypatch.setattr("engine.reply.SNAPSHOT_INTERVAL_S", 0.0)
    path = model(folder, "glm4_moe")
    config = read_config(path)
    total = simulated_budget(config, WITH_GPU, config.total_experts)
    with Engine.load(str(path), replace(WITH_GPU, simulated_vram_bytes=total)) as engine:
        told: list[Any] = []
        assert engine.plan.resident_experts == config.total_experts
        for event in engine.generate(IDS, ONE):
            told.append(event)
            if isinstance(event, PromptProgress) and 0 < event.done_tokens < len(IDS):
                others = engine.vram.total - simulated_budget(config, WITH_GPU, residents=3)
                engine.make_way(others)
        assert engine.plan.resident_experts == 3
    assert [event.id for event in told if isinstance(event, Token)] == oracle_greedy(path, IDS, 1)


def test_a_prompt_that_nobody_reads_to_the_end_is_forgotten(folder: Path) -> None:
    path = model(folder, "deepseek_v2")
    with Engine.load(str(path), ON_CPU) as engine:
        steps = engine._loaded.decoder.forward(IDS, lambda: None)
        next(steps)
        steps.close()
        assert not any(thread.name.startswith("pausing") for thread in threading.enumerate())
        assert greedy(engine, IDS, 4) == (oracle_greedy(path, IDS, 4), 0)


def test_context_and_budget_change_while_it_is_loaded(folder: Path) -> None:
    path = model(folder, "dots1")
    with Engine.load(str(path), with_residents(path, 9)) as engine:
        engine.reconfigure(with_residents(path, 3))
        assert engine.plan.resident_experts == 3
        engine.reconfigure(replace(with_residents(path, 3), context_tokens=32, kv_precision="q8"))
        assert engine.plan.context_tokens == 32
        assert engine.plan.kv_precision == "auto", "transformers keeps the model's own type"
        np.testing.assert_allclose(engine.logits(IDS), oracle_logits(path, IDS), atol=1e-4, rtol=0)


def test_costs_are_measured_and_leave_the_sequence_alone(folder: Path, tmp_path: Path) -> None:
    path = model(folder, "ernie4_5_moe")
    with Engine.load(str(path), replace(ON_CPU, cost_cache_dir=str(tmp_path))) as engine:
        decoder = engine._loaded.decoder
        decoder.forward_at_once(IDS[:5])
        assert decoder.dense_seconds(5) > 0
        assert decoder.dense_layer_seconds(8, 5) > 0
        logits = decoder.logits(decoder.forward_at_once(IDS[5:]))
        np.testing.assert_allclose(logits.numpy(), oracle_logits(path, IDS)[5:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["deepseek_v3", "qwen3_next", "minimax"])
def test_what_a_context_costs_is_measured_behind_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    path, attend, keys = model(folder, family), torch.nn.functional.scaled_dot_product_attention, list[int]()

    def watched(query: torch.Tensor, key: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        if query.shape[-2] == 8:
            keys.append(key.shape[-2])
        return attend(query, key, *rest, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    with Engine.load(str(path), ON_CPU) as engine:
        decoder = engine._loaded.decoder
        for start in (0, 20, 20, 0):
            keys.clear()
            assert decoder.dense_layer_seconds(8, start) > 0
            assert set(keys) == {start + 8}
        decoder.forward_at_once(IDS[:5])
        decoder.dense_layer_seconds(8, 20)
        logits = decoder.logits(decoder.forward_at_once(IDS[5:]))
        np.testing.assert_allclose(logits.numpy(), oracle_logits(path, IDS)[5:], atol=1e-4, rtol=0)


def test_a_long_context_is_predicted_to_cost_more(folder: Path) -> None:
    """Also before anything was measured: by the heads of latent attention, and by all layers that attend."""
    hardware = HardwareProfile("CPU", 4, 16 << 30, 12 << 30, None)
    for family, pair_weights in (("deepseek_v3", 3 * 4 * (8 + 8 + 8)), ("glm4_moe", 3 * 2 * 4 * 8)):
        config = read_config(model(folder, family))
        assert config.pair_weights * config.layers == pair_weights
        costs = assumed_costs(config, hardware, ON_CPU)
        near, far = (dense_chunk_seconds(config, costs, 8, start) for start in (0, 100_000))
        work_s = 8 * 100_000 * config.pair_weights * costs.cpu_expert.per_unit_s / config.expert_parameters
        assert far >= work_s > near


def test_transformers_holds_no_expert(folder: Path) -> None:
    path = model(folder, "deepseek_v3")
    with Engine.load(str(path), ON_CPU) as engine:
        decoder = engine._loaded.decoder
        assert isinstance(decoder, CompatibleDecoder)
        whole = decoder._decoder
        held = sum(tensor.numel() for tensor in whole.state_dict().values())
        compatibility = engine.model.compatibility
        assert compatibility is not None
        assert held == compatibility.dense_parameters
        assert engine._loaded.store.nbytes == engine.model.experts_bytes


def test_the_shape_is_told_without_transformers(folder: Path) -> None:
    config = read_config(model(folder, "glm4_moe"))
    assert config.compatibility is not None
    assert config.compatibility.moe_layers == (1, 2)
    assert (config.layers, config.experts, config.experts_per_token, config.intermediate_size) == (2, 8, 2, 16)
    assert config.kv_bytes_per_token("q8") == 3 * 2 * 2 * 8 * 4


# ---- what cannot be run ---------------------------------------------------------------------------------------------


def changed(folder: Path, tmp_path: Path, family: str, **changes: object) -> Path:
    """A copy with another config.json."""
    path = Path(shutil.copytree(model(folder, family), tmp_path / family))
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "nobody_knows_this"}, "names the architecture 'nobody_knows_this', not supported yet"),
        ({"hidden_act": "gelu"}, "The architecture glm4_moe is not supported"),
        ({"first_k_dense_replace": 2}, "config.json and the weights do not fit together at layer 1"),
        ({"n_shared_experts": 2}, "config.json and the weights do not fit together at model.layers.1.mlp.shared"),
        ({"attention_bias": True}, "config.json and the weights do not fit together at model.layers.0.self_attn"),
        ({"num_hidden_layers": 1}, "keeps its experts in a way that is not supported yet"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok"),
        ({"head_dim": 1 << 20}, "head_dim"),
    ],
)
def test_a_config_that_cannot_be_run_is_refused_in_a_sentence(
    folder: Path, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    path = changed(folder, tmp_path, "glm4_moe", **changes)
    with pytest.raises((CheckpointError, UnsupportedModelError), match=sentence):
        Engine.load(str(path), ON_CPU).close()


def test_what_transformers_does_not_run_through_its_interface_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    path = changed(folder, tmp_path, "glm4_moe", model_type="llama4_text")
    with pytest.raises(UnsupportedModelError, match="names the architecture 'llama4_text', not supported yet"):
        open_checkpoint(path)


def test_experts_that_are_stacked_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    path = changed(folder, tmp_path, "glm4_moe")
    stack = np.zeros((8, 8, 16), dtype=np.float32)
    write_safetensors(path / "model.safetensors", {"model.layers.1.mlp.experts.gate_up_proj": stack})
    with pytest.raises(UnsupportedModelError, match="'glm4_moe' keeps its experts in a way that is not supported"):
        open_checkpoint(path)


def test_layers_that_predict_further_tokens_are_left_out(folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(model(folder, "deepseek_v3"), tmp_path / "model"))
    tensors = load_file(path / "model.safetensors")
    further = {
        name.replace("layers.2.", "layers.3."): value.clone() for name, value in tensors.items() if "layers.2." in name
    }
    save_file(tensors | further, path / "model.safetensors")
    with Engine.load(str(path), ON_CPU) as engine:
        np.testing.assert_allclose(engine.logits(IDS), oracle_logits(path, IDS), atol=1e-4, rtol=0)
