"""From a GGUF file's metadata to a model's shape: what stands in for what it does not say, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.checkpoint.checkpoint import open_checkpoint, read_config
from engine.checkpoint.gguf_config import _MIXES
from engine.config import ModelConfig
from engine.errors import CheckpointError, UnsupportedModelError
from engine.quant.formats import FORMATS
from tests.gguf_files import (
    ARRAY,
    BOOL,
    FLOAT32,
    FLOAT64,
    INT32,
    STRING,
    UINT32,
    UINT64,
    Architecture,
    Shape,
    gguf_model,
)

SMALL = Shape(hidden=64, intermediate=32, heads=4, kv_heads=2, head_dim=16)
BLOCKS: dict[str, Any] = {"formats": [("Q4_0", "Q4_0", "Q8_0")], "dense_format": "Q8_0"}


def edited(
    tmp_path: Path, changes: dict[str, Any], architecture: Architecture = "llama", **options: Any
) -> ModelConfig:
    """The config of a file after changing some keys (None removes one); {} stands for the architecture."""
    model = gguf_model(architecture, SMALL, **options)
    for key, value in changes.items():
        model.set(key.format(architecture), value)
    path = tmp_path / "Some_Mixtral-8x1M.Q4_0.gguf"
    path.write_bytes(model.encode())
    return read_config(path)


def test_a_mixtral_of_floats(tmp_path: Path) -> None:
    assert edited(tmp_path, {}) == ModelConfig(
        name="Tiny MoE of random weights",
        family="mixtral",
        hidden_size=64,
        intermediate_size=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        experts=4,
        experts_per_token=2,
        vocab_size=300,
        max_position_embeddings=512,
        rms_norm_eps=float(np.float32(1e-5)),
        rope_theta=10000.0,
        dtype="float32",
    )


def test_a_qwen3_moe_of_blocks(tmp_path: Path) -> None:
    formats = [("Q4_0", "Q4_0", "Q8_0"), ("Q4_0", "IQ4_NL", "Q5_1")]
    config = edited(
        tmp_path,
        {"{}.feed_forward_length": (UINT32, 96), "general.file_type": (UINT32, 15)},
        "qwen3moe",
        formats=formats,
        dense_format="Q8_0",
    )
    assert (config.family, config.intermediate_size) == ("qwen3_moe", 32)
    assert (config.query_key_norm, config.normalise_top_k) == (True, True)
    assert (config.dtype, config.quantization) == ("bfloat16", "Q4_K_M")
    assert config.expert_formats == tuple(formats)
    assert config.layer_expert_bytes(0) == 2 * 32 * 64 // 32 * 18 + 64 * 34


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen3moe"])
def test_the_bytes_of_the_dense_part(tmp_path: Path, architecture: Architecture, tied: bool) -> None:
    shape = Shape(hidden=64, intermediate=32, heads=4, kv_heads=2, head_dim=16, tied=tied)
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_model(architecture, shape, **BLOCKS).encode())
    q8, norm = FORMATS["Q8_0"], 64 * 4
    layer = 2 * q8.packed_bytes(64, 64) + 2 * q8.packed_bytes(32, 64) + 2 * norm + 4 * 64 * 4
    layer += 2 * 64 if architecture == "qwen3moe" else 0
    tables = (1 if tied else 2) * q8.packed_bytes(300, 64)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config.dense_packed_bytes == 2 * layer + tables + norm
        assert checkpoint.config.tie_word_embeddings == tied


@pytest.mark.parametrize(
    ("changes", "attribute", "value"),
    [
        ({"{}.attention.key_length": None, "{}.attention.value_length": None}, "head_dim", 16),
        ({"{}.rope.dimension_count": None}, "head_dim", 16),
        ({"{}.rope.freq_base": (FLOAT32, 1e6)}, "rope_theta", 1e6),
        ({"{}.rope.freq_base": None}, "rope_theta", 1e4),
        ({"{}.rope.scaling.type": (STRING, "none")}, "rope_theta", 1e4),
        ({"{}.rope.scaling.type": (STRING, "none"), "{}.rope.scaling.factor": (FLOAT32, 4)}, "rope_theta", 1e4),
        ({"{}.rope.scaling.type": (STRING, "linear"), "{}.rope.scaling.factor": (FLOAT32, 1)}, "rope_theta", 1e4),
        ({"{}.attention.sliding_window": (UINT32, 128)}, "sliding_window", 128),
        ({"{}.attention.sliding_window": (UINT32, 0)}, "sliding_window", None),
        ({"{}.attention.layer_norm_rms_epsilon": (FLOAT64, 1e-6)}, "rms_norm_eps", 1e-6),
        ({"{}.context_length": (UINT64, 32768)}, "max_position_embeddings", 32768),
        ({"{}.vocab_size": None}, "vocab_size", 300),
        ({"{}.expert_used_count": (INT32, 3)}, "experts_per_token", 3),
        ({"{}.expert_gating_func": (UINT32, 1)}, "experts", 4),
        ({"general.name": None}, "name", "Some Mixtral 8x1M.Q4 0"),
        ({"general.name": (STRING, "  ")}, "name", "Some Mixtral 8x1M.Q4 0"),
        ({"general.name": (STRING, "a\nb")}, "name", "Some Mixtral 8x1M.Q4 0"),
        ({"general.name": (STRING, "n" * 81)}, "name", "Some Mixtral 8x1M.Q4 0"),
        ({"general.name": (UINT32, 7)}, "name", "Some Mixtral 8x1M.Q4 0"),
        ({"general.name": (STRING, "mixtral_8x7b-v0.1")}, "name", "Mixtral 8x7b v0.1"),
        ({"general.file_type": (UINT32, 15)}, "quantization", None),
    ],
)
def test_keys_and_defaults(tmp_path: Path, changes: dict[str, Any], attribute: str, value: object) -> None:
    assert getattr(edited(tmp_path, changes), attribute) == value


@pytest.mark.parametrize(
    ("file_type", "label"),
    [(2, "Q4_0"), (7, "Q8_0"), (15, "Q4_K_M"), (18, "Q6_K"), (1024 + 15, "Q4_K_M"), (0, "Q4_0"), (1, "Q4_0"),
     (2**32 - 1, "Q4_0"), (None, "Q4_0")],
)  # fmt: skip
def test_what_a_file_calls_its_mix(tmp_path: Path, file_type: int | None, label: str) -> None:
    assert edited(tmp_path, {}, file_type=file_type, **BLOCKS).quantization == label


def test_a_mix_is_called_what_llama_cpp_calls_it() -> None:
    gguf = pytest.importorskip("gguf")
    for number, label in _MIXES.items():
        assert gguf.LlamaFileType(number).name in (f"MOSTLY_{label}", f"MOSTLY_{label}_MOE")


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
def test_the_experts_decide_the_dtype_of_floats(tmp_path: Path, stored: str) -> None:
    config = edited(tmp_path, {}, formats=[(stored, stored, "F32")], file_type=1)
    assert config.dtype == {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[stored]
    assert (config.quantization, config.expert_formats, config.dense_packed_bytes) == (None, (), None)


def test_float_experts_beside_blocks(tmp_path: Path) -> None:
    config = edited(tmp_path, {}, formats=[("F16", "F16", "F16")], dense_format="Q8_0", file_type=1)
    assert (config.dtype, config.quantization) == ("bfloat16", "F16")
    assert config.expert_formats == (("F16", "F16", "F16"),) * 2


NUMBERS = ["block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
           "attention.head_count_kv", "attention.key_length", "expert_count", "expert_used_count"]  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value",
    [(UINT64, 2**63), (INT32, -1), (FLOAT32, 32.0), (BOOL, True), (STRING, "32"), (ARRAY, (UINT32, [32, 32]))],
    ids=["2^63", "-1", "float", "bool", "text", "array"],
)
def test_numbers_outside_their_limits(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=rf"The metadata of 'Some_.*.gguf' says llama.{name} is .*, not a whole"):
        edited(tmp_path, {f"llama.{name}": value})


def test_a_context_shorter_than_any_chat_is_the_files_fault(tmp_path: Path) -> None:
    assert edited(tmp_path, {"llama.context_length": (UINT32, 16)}).max_position_embeddings == 16
    with pytest.raises(CheckpointError, match=r"llama.context_length is 15, not a whole number from 16 to"):
        edited(tmp_path, {"llama.context_length": (UINT32, 15)})


@pytest.mark.parametrize("name", [*(name for name in NUMBERS if "key_length" not in name and "kv" not in name),
                                  "attention.layer_norm_rms_epsilon"])  # fmt: skip
def test_keys_that_must_be_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError if name != "expert_count" else UnsupportedModelError) as caught:
        edited(tmp_path, {f"llama.{name}": None})
    assert f"lacks llama.{name}." in caught.value.message or "dense model ('llama')" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general.architecture": None}, "lacks general.architecture"),
        ({"general.architecture": (UINT32, 1)}, "general.architecture is 1, not a text"),
        ({"{}.attention.head_count_kv": (UINT32, 3)}, "head_count_kv is 3, no divisor of llama.attention.head_count 4"),
        ({"{}.expert_used_count": (UINT32, 5)}, "expert_used_count is 5, not a whole number from 1 to 4"),
        ({"{}.attention.key_length": (UINT32, 15)}, "key_length is 15, not an even number"),
        ({"{}.attention.key_length": None, "{}.embedding_length": (UINT32, 65)}, "embedding_length is 65, not a mult"),
        ({"{}.attention.layer_norm_rms_epsilon": (FLOAT32, float("nan"))}, "rms_epsilon is nan, not a number from"),
        ({"{}.attention.layer_norm_rms_epsilon": (FLOAT32, 0)}, "rms_epsilon is 0.0, not a number from"),
        ({"{}.rope.freq_base": (FLOAT32, float("inf"))}, "freq_base is inf, not a number from"),
        ({"{}.rope.freq_base": (STRING, "x")}, "freq_base is 'x', not a number from"),
    ],
)
def test_contradictions(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        edited(tmp_path, changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general.architecture": (STRING, "gemma3")}, "dense model .'gemma3'.*, not a Mixture-of-Experts"),
        ({"{}.expert_count": (UINT32, 0)}, "dense model .'llama'"),
        (
            {"general.architecture": (STRING, "dbrx"), "dbrx.expert_count": (UINT32, 16)},
            "names the architecture 'dbrx', not supported yet",
        ),
        ({"general.architecture": (STRING, "x" * 100_000)}, "dense model"),
        ({"{}.rope.scaling.type": (STRING, "yarn")}, "rotary embedding 'yarn', scaled by 0.0"),
        (
            {"{}.rope.scaling.type": (STRING, "linear"), "{}.rope.scaling.factor": (FLOAT32, 4)},
            "'linear', scaled by 4.0",
        ),
        ({"{}.rope.scaling.factor": (FLOAT32, 4)}, "scaled by 4.0"),
        ({"{}.rope.scaling.type": (ARRAY, (UINT32, [1, 2]))}, "rotary embedding"),
        ({"{}.rope.scale_linear": (FLOAT32, 2)}, "rope.scale_linear is 2.0"),
        ({"{}.rope.dimension_count": (UINT32, 8)}, "rope.dimension_count is 8, of which only the width of a head, 16"),
        ({"{}.attention.value_length": (UINT32, 8)}, "attention.value_length is 8, of which only"),
        ({"{}.expert_shared_count": (UINT32, 1)}, "expert_shared_count is 1, which is not supported"),
        ({"{}.expert_gating_func": (UINT32, 2)}, "expert_gating_func is 2"),
        ({"{}.attn_logit_softcapping": (FLOAT32, 50)}, "attn_logit_softcapping is 50.0"),
        ({"{}.attention.clamp_kqv": (FLOAT32, float("nan"))}, "clamp_kqv is nan"),
        ({"{}.logit_scale": (ARRAY, (FLOAT32, [0, 0]))}, "logit_scale is"),
    ],
)
def test_models_that_the_engine_does_not_run(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        edited(tmp_path, changes)
    assert "Mixtral" in caught.value.remedy
    assert len(str(caught.value)) < 400
