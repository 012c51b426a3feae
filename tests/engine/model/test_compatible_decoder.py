"""transformers' decoders with our executor in place of their experts give what transformers gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from safetensors.torch import load_file, save_file

from engine import Engine, EngineConfig, SamplingParams
from engine.checkpoint.checkpoint import open_checkpoint, read_config
from engine.errors import CheckpointError, OperationCancelledError, UnsupportedModelError
from engine.messages import Finished, Token
from engine.model.compatible_decoder import CompatibleDecoder
from tests.checkpoints import write_safetensors
from tests.compatible_models import FAMILIES, write_compatible
from tests.engine.shapes import simulated_budget
from tests.oracle import oracle_greedy, oracle_logits

IDS = [1, 2, 3, 4, 5, 9, 11, 60, 33, 2, 1]
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
        assert decoder.dense_seconds() > 0
        assert decoder.dense_layer_seconds(8, 5) > 0
        logits = decoder.logits(decoder.forward_at_once(IDS[5:]))
        np.testing.assert_allclose(logits.numpy(), oracle_logits(path, IDS)[5:], atol=1e-4, rtol=0)


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
