"""config.json: what it may say, what stands in for what it does not say, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint.model_config import model_name, read_model_config
from engine.checkpoint.tensor_names import expected_tensors
from engine.config import ModelConfig
from engine.errors import CheckpointError, UnsupportedModelError
from tests.checkpoints import edit_json, write_mixtral

MIXTRAL_8X7B = {
    "architectures": ["MixtralForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mixtral",
    "num_attention_heads": 32,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "output_router_logits": False,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.36.0.dev0",
    "use_cache": True,
    "vocab_size": 32000,
}


QWEN3_30B_A3B = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "decoder_sparse_step": 1,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the published config.json of Mixtral-8x7B-Instruct-v0.1."""
    folder = tmp_path / "Mixtral-8x7B-Instruct-v0.1"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MIXTRAL_8X7B), encoding="utf-8")
    return folder


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    """A folder with the published config.json of Qwen3-30B-A3B."""
    folder = tmp_path / "Qwen3-30B-A3B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN3_30B_A3B), encoding="utf-8")
    return folder


def edited(folder: Path, **changes: Any) -> ModelConfig:
    """Read the config after changing some fields (`...` removes one)."""
    edit_json(folder / "config.json", **changes)
    return read_model_config(folder)


def test_the_published_mixtral(folder: Path) -> None:
    config = read_model_config(folder)
    assert config == ModelConfig(
        name="Mixtral 8x7B Instruct v0.1",
        family="mixtral",
        hidden_size=4096,
        intermediate_size=14336,
        layers=32,
        heads=32,
        kv_heads=8,
        head_dim=128,
        experts=8,
        experts_per_token=2,
        vocab_size=32000,
        max_position_embeddings=32768,
        rms_norm_eps=1e-5,
        rope_theta=1e6,
        sliding_window=None,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )
    assert config.total_experts * config.expert_parameters + config.dense_parameters == 46_702_792_704


def test_the_larger_published_mixtral(folder: Path) -> None:
    """What Mixtral-8x22B-Instruct-v0.1's config.json says otherwise."""
    config = edited(
        folder,
        hidden_size=6144,
        intermediate_size=16384,
        max_position_embeddings=65536,
        num_attention_heads=48,
        num_hidden_layers=56,
        vocab_size=32768,
    )
    assert (config.heads, config.kv_heads, config.head_dim, config.total_experts) == (48, 8, 128, 448)
    assert config.total_experts * config.expert_parameters + config.dense_parameters == 140_630_071_296


def test_the_published_qwen3_moe(qwen: Path) -> None:
    config = read_model_config(qwen)
    assert config == ModelConfig(
        name="Qwen3 30B A3B",
        family="qwen3_moe",
        hidden_size=2048,
        intermediate_size=768,
        layers=48,
        heads=32,
        kv_heads=4,
        head_dim=128,
        experts=128,
        experts_per_token=8,
        vocab_size=151936,
        max_position_embeddings=40960,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        query_key_norm=True,
        normalise_top_k=True,
    )
    parameters = sum(math.prod(shape) for _, shape in expected_tensors(config))
    assert parameters == 30_532_122_624


@pytest.mark.parametrize(
    ("changes", "attribute", "value"),
    [
        ({"num_experts": ..., "num_local_experts": 64}, "experts", 64),  # as transformers 5 writes it
        ({"num_experts": 8, "num_local_experts": 64}, "experts", 64),
        ({"norm_topk_prob": False}, "normalise_top_k", False),
        ({"norm_topk_prob": ...}, "normalise_top_k", False),
        ({"head_dim": ...}, "head_dim", 64),
        ({"sliding_window": 4096}, "sliding_window", None),
        ({"sliding_window": 4096, "use_sliding_window": True}, "sliding_window", 4096),
        ({"rms_norm_eps": ...}, "rms_norm_eps", 1e-6),
        ({"rope_theta": ...}, "rope_theta", 1e4),
        ({"mlp_only_layers": None}, "layers", 48),
        ({"decoder_sparse_step": ..., "mlp_only_layers": ..., "attention_bias": ...}, "layers", 48),
        ({"model_type": ...}, "family", "qwen3_moe"),
    ],
)
def test_fields_and_defaults_of_qwen(qwen: Path, changes: dict[str, Any], attribute: str, value: object) -> None:
    assert getattr(edited(qwen, **changes), attribute) == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_sparse_step": 2}, "decoder_sparse_step is 2, of which only 1 is supported"),
        ({"mlp_only_layers": [0]}, r"mlp_only_layers is \[0\], of which only \[\] is supported"),
        ({"attention_bias": True}, "attention_bias is True, of which only False is supported"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn'"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantized .'fp8'"),
    ],
)
def test_qwens_that_the_engine_does_not_run(qwen: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        edited(qwen, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moe_intermediate_size": ...}, "lacks moe_intermediate_size"),
        ({"num_experts": ...}, "lacks num_local_experts"),
        ({"norm_topk_prob": 1}, "norm_topk_prob is 1, neither true nor false"),
        ({"use_sliding_window": "yes"}, "use_sliding_window is 'yes', neither true nor false"),
    ],
)
def test_contradictions_of_qwen(qwen: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        edited(qwen, **changes)


def test_the_layout_of_transformers_5(tmp_path: Path) -> None:
    config = read_model_config(write_mixtral(tmp_path, rope_theta=5e5, sliding_window=64, tied=True, dtype="float16"))
    assert (config.rope_theta, config.sliding_window) == (5e5, 64)
    assert (config.tie_word_embeddings, config.dtype, config.head_dim) == (True, "float16", 8)


@pytest.mark.parametrize(
    ("changes", "attribute", "value"),
    [
        ({"head_dim": 64}, "head_dim", 64),
        ({"head_dim": None}, "head_dim", 128),
        ({"num_key_value_heads": None}, "kv_heads", 32),
        ({"sliding_window": 4096}, "sliding_window", 4096),
        ({"sliding_window": ...}, "sliding_window", None),
        ({"rms_norm_eps": ...}, "rms_norm_eps", 1e-5),
        ({"rope_theta": ...}, "rope_theta", 1e6),
        ({"rope_theta": 10000}, "rope_theta", 1e4),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 2e4}}, "rope_theta", 2e4),
        ({"rope_parameters": {"rope_type": "default"}}, "rope_theta", 1e6),
        ({"rope_scaling": {"type": "default"}}, "rope_theta", 1e6),
        ({"torch_dtype": ...}, "dtype", "bfloat16"),
        ({"torch_dtype": "torch.float16"}, "dtype", "float16"),
        ({"dtype": "float32"}, "dtype", "float32"),
        ({"hidden_act": ...}, "hidden_size", 4096),
        ({"model_type": ...}, "family", "mixtral"),
        ({"auto_map": {"AutoModel": "evil.py--Evil"}, "_name_or_path": "/etc/passwd"}, "layers", 32),
    ],
)
def test_fields_and_defaults(folder: Path, changes: dict[str, Any], attribute: str, value: object) -> None:
    assert getattr(edited(folder, **changes), attribute) == value


@pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "num_local_experts", "vocab_size"])
@pytest.mark.parametrize("value", [0, -1, 10**9, 10**400, 32.0, True, "32", None, [32], {}])
def test_sizes_outside_their_limits(folder: Path, name: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=f"config.json says {name} is .* not a whole number from 1 to"):
        edited(folder, **{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": ...}, "config.json lacks num_hidden_layers"),
        ({"num_key_value_heads": 5}, "num_key_value_heads is 5, no divisor of num_attention_heads 32"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok is 9, not a whole number from 1 to 8"),
        ({"max_position_embeddings": 8}, "max_position_embeddings is 8, not a whole number from 16 to"),
        ({"num_attention_heads": 24}, "hidden_size is 4096, not a multiple of num_attention_heads 24"),
        ({"num_attention_heads": 1, "num_key_value_heads": 1}, "hidden_size is 4096, not a multiple"),
        ({"head_dim": 127}, "head_dim is 127, not an even number"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps is '1e-5', not a number"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0, not a number"),
        ({"rope_theta": 10**400}, "rope_theta is 1000.* not a number"),
        ({"rope_theta": True}, "rope_theta is True, not a number"),
        ({"rope_parameters": 7}, "rope_parameters is 7, not an object"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes', neither true nor false"),
        ({"sliding_window": 0}, "sliding_window is 0, not a whole number"),
    ],
)
def test_contradictions(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        edited(folder, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, r"quantized \('bitsandbytes'\)"),
        ({"quantization_config": {}}, "quantized"),
        ({"torch_dtype": "float8_e4m3fn"}, "'float8_e4m3fn', not one of float32, bfloat16, float16"),
        ({"torch_dtype": ["x"]}, "not one of"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "'yarn'"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}, "'linear'"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_attention"),
        ({"partial_rotary_factor": 0.5}, "rope_type 'default'"),
        ({"model_type": ..., "architectures": ...}, "does not say which architecture"),
        ({"model_type": 7}, "names the architecture 7"),
        ({"model_type": "flex_olmo", "num_local_experts": ..., "num_experts": 7}, "'flex_olmo', not supported yet"),
        ({"model_type": "granitemoehybrid"}, "'granitemoehybrid', not supported yet"),
        ({"model_type": "dbrx", "ffn_config": {"moe_num_experts": 16}}, "'dbrx', not supported yet"),
        ({"model_type": "x" * 1_000_000}, "not supported yet"),
    ],
)
def test_models_that_the_engine_does_not_run(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        edited(folder, **changes)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "gpt2"])
def test_dense_models(folder: Path, model_type: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"'{model_type}'.* dense model, not a Mixture-of-Experts") as error:
        edited(folder, model_type=model_type, num_local_experts=..., num_experts_per_tok=...)
    assert "Mixtral" in error.value.remedy


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("mixtral_8x22b", "Mixtral 8x22b"),
        ("hub/models--mistralai--Mixtral-8x7B-v0.1/snapshots/0123456789abcdef", "Mixtral 8x7B v0.1"),
        ("hub/models--mistralai--Mixtral-8x7B-v0.1/snapshots", "Snapshots"),
        ("hub/models--mistralai--Mixtral-8x7B-v0.1/other/mine", "Mine"),
        ("hub/mine/snapshots/yours", "Yours"),
        ("guide", "Guide"),
        ("a\u202eb\n\nc", "Abc"),
        ("---", "Model"),
        ("x" * 200, "X" + "x" * 79),
    ],
)
def test_names_on_screen(tmp_path: Path, path: str, name: str) -> None:
    assert model_name(tmp_path / path) == name
