"""What each family's config and metadata turn into, and what of them is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.checkpoint.checkpoint import open_checkpoint, read_config
from engine.checkpoint.families import BY_CLASS, BY_GGUF_NAME, CHOOSE_SUPPORTED, FAMILIES
from engine.checkpoint.model_config import read_model_config
from engine.checkpoint.tensor_names import expected_tensors
from engine.errors import CheckpointError, UnsupportedModelError
from engine.traits import ClampedGate, Traits
from tests.checkpoints import edit_json
from tests.engine.checkpoint.test_gguf_oracle import TOKENS, llama_logits
from tests.families import long_rope, write_family, yarn_rope
from tests.family_gguf import write_family_gguf
from tests.gguf_files import FLOAT32
from tests.oracle import oracle_logits

WIDTHS: dict[str, dict[str, Any]] = {
    "olmoe": {"hidden_size": 64, "num_key_value_heads": 4},
    "granitemoe": {"hidden_size": 64},
    "qwen2_moe": {"hidden_size": 64, "moe_intermediate_size": 32},
    "phimoe": {"hidden_size": 64},
    "granitemoeshared": {"hidden_size": 64},
    "gpt_oss": {"hidden_size": 64},
}
# llama.cpp 0.3.36 computes an RMS norm and a softmax for Phi-3.5-MoE, where the model has a layer norm and sparsemixer.
AS_IN_LLAMA_CPP = [family for family in WIDTHS if family != "phimoe"]


def test_the_table_is_found_by_every_name() -> None:
    one_name_for_both = {"granitemoe", "granitemoeshared"}
    assert {family.name for family in BY_GGUF_NAME.values()} == set(FAMILIES) - one_name_for_both | {"granitemoe"}
    assert {family.name for family in BY_CLASS.values()} == set(FAMILIES)
    assert all(family.title in CHOOSE_SUPPORTED for family in FAMILIES.values())


@pytest.mark.parametrize(
    ("family", "traits"),
    [
        ("olmoe", Traits(wide_norms=True)),
        (
            "granitemoe",
            Traits(embedding_scale=12.0, residual_scale=0.22, attention_scale=0.05, logit_scale=1 / 6),
        ),
        ("qwen2_moe", Traits(qkv_bias=True, shared_size=40)),
        (
            "phimoe",
            Traits(qkv_bias=True, output_bias=True, layer_norm=True, head_bias=True, router_jitter=0.01),
        ),
        (
            "granitemoeshared",
            Traits(
                embedding_scale=12.0,
                residual_scale=0.22,
                attention_scale=0.05,
                logit_scale=1 / 6,
                shared_size=40,
                shared_gated=False,
            ),
        ),
    ],
)
def test_traits_are_those_of_the_config_and_of_the_metadata(tmp_path: Path, family: str, traits: Traits) -> None:
    folder = write_family(tmp_path / "model", family)
    assert read_model_config(folder).traits == traits
    write_family_gguf(folder, tmp_path / "model.gguf")
    from_gguf = read_config(tmp_path / "model.gguf").traits
    for name in Traits.__dataclass_fields__:
        assert getattr(from_gguf, name) == pytest.approx(getattr(traits, name)), name


# gpt-oss-20b as it is published.
OSS_20B: dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "attention_bias": True, "head_dim": 64,
    "hidden_act": "silu", "hidden_size": 2880, "initial_context_length": 4096, "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 12, "max_position_embeddings": 131072,
    "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8,
    "num_local_experts": 32, "quantization_config": {"quant_method": "mxfp4"}, "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
        "rope_type": "yarn", "truncate": False,
    },
    "rope_theta": 150000, "sliding_window": 128, "swiglu_limit": 7.0, "tie_word_embeddings": False,
    "vocab_size": 201088,
}  # fmt: skip


def test_the_published_gpt_oss(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(OSS_20B), encoding="utf-8")
    config = read_model_config(tmp_path)
    weights = config.total_experts * (config.expert_parameters + config.expert_biases) + config.dense_parameters
    assert weights == 20_914_757_184
    assert [config.window(layer) for layer in range(4)] == [128, None, 128, None]
    assert config.expert_formats == (("MXFP4",) * 3,) * 24
    assert config.traits.clamped_gate == ClampedGate(1.702, 7.0)
    assert (config.traits.sinks, config.traits.router_bias, config.dtype) == (True, True, "bfloat16")


@pytest.mark.parametrize("family", WIDTHS)
def test_both_kinds_of_files_hold_the_same(tmp_path: Path, family: str) -> None:
    folder = write_family(tmp_path / "model", family, **WIDTHS[family])
    write_family_gguf(folder, tmp_path / "model.gguf")
    with open_checkpoint(folder) as ours, open_checkpoint(tmp_path / "model.gguf") as theirs:
        for name, shape in expected_tensors(ours.config):
            assert ours.tensors[name].shape == theirs.tensors[name].shape == shape
            one, other = (np.empty(entry.tensors[name].nbytes, np.uint8) for entry in (ours, theirs))
            ours.read(name, one.data)
            theirs.read(name, other.data)
            np.testing.assert_array_equal(one, other, name)


@pytest.mark.parametrize("family", AS_IN_LLAMA_CPP)
def test_llama_cpp_computes_the_same_from_the_file(tmp_path: Path, family: str) -> None:
    """So the tests' converter tells the truth: names, order of rows, shapes, metadata."""
    whole: dict[str, Any] = (
        {"rope_parameters": yarn_rope(truncate=True)} if family == "gpt_oss" else {}
    )  # see `read_gguf_yarn`
    folder = write_family(tmp_path / "model", family, **WIDTHS[family], **whole)
    expected = oracle_logits(write_family_gguf(folder, tmp_path / "model.gguf"), TOKENS)
    actual = llama_logits(tmp_path / "model.gguf")
    np.testing.assert_allclose(actual, expected, atol=0.02 * float(np.abs(expected).max()))


def test_llama_cpp_computes_something_else_for_phi(tmp_path: Path) -> None:
    """Why `convert` does not describe it; where this fails, its LongRoPE factors can be written too."""
    folder = write_family(tmp_path / "model", "phimoe", **WIDTHS["phimoe"])
    wanted = oracle_logits(write_family_gguf(folder, tmp_path / "model.gguf"), TOKENS)
    found = llama_logits(tmp_path / "model.gguf")
    likeness = (wanted * found).sum(-1) / np.linalg.norm(wanted, axis=-1) / np.linalg.norm(found, axis=-1)
    assert 0.5 < np.median(likeness) < 0.99


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("gpt_oss", {"rope_scaling": {"rope_type": "llama3"}}, "rope_type 'default' or 'yarn' is supported"),
        ("olmoe", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ("olmoe", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "'yarn'"),
        ("olmoe", {"sliding_window": 128}, "sliding_window is 128, of which only None"),
        ("granitemoe", {"sliding_window": 128}, "sliding_window is 128, of which only None"),
        ("phimoe", {"num_experts_per_tok": 1}, "num_experts_per_tok is 1, of which only 2"),
        ("phimoe", {"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'default' or 'longrope' is supported"),
        ("qwen2_moe", {"use_sliding_window": True}, "use_sliding_window is True, of which only False"),
        ("qwen2_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step is 2, of which only 1"),
        ("qwen2_moe", {"mlp_only_layers": [1]}, r"mlp_only_layers is \[1\], of which only \[\]"),
    ],
)
def test_variants_that_are_not_run(tmp_path: Path, family: str, changes: dict[str, Any], message: str) -> None:
    folder = write_family(tmp_path / "model", family)
    edit_json(folder / "config.json", **changes)
    with pytest.raises(UnsupportedModelError, match=message):
        read_model_config(folder)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("olmoe", {"clip_qkv": 0}, "clip_qkv is 0, not a number from"),
        ("olmoe", {"clip_qkv": "x"}, "clip_qkv is 'x', not a number from"),
        ("olmoe", {"attention_bias": 1}, "attention_bias is 1, neither true nor false"),
        ("granitemoe", {"logits_scaling": 0}, "logits_scaling is 0, not a number from"),
        ("granitemoe", {"attention_multiplier": None}, "attention_multiplier is None, not a number from"),
        ("phimoe", {"router_jitter_noise": -1}, "router_jitter_noise is -1, not a number from"),
        ("phimoe", {"rope_scaling": long_rope(64), "head_dim": 16}, "short_factor is .* not a list of 8 numbers"),
        ("phimoe", {"rope_scaling": "longrope"}, "rope_parameters is 'longrope', not an object"),
        ("phimoe", {"rope_scaling": {"type": "longrope"}}, "lacks original_max_position_embeddings"),
        (
            "phimoe",
            {"rope_scaling": {**long_rope(64), "long_factor": [1.0]}},
            "long_factor is .* not a list of 4 numbers",
        ),
        (
            "phimoe",
            {"rope_scaling": {**long_rope(64), "short_factor": [1, 1, 1, 0]}},
            "short_factor is .*not all of them",
        ),
        ("phimoe", {"rope_scaling": {**long_rope(64), "long_mscale": None}}, "long_mscale is None, not a number"),
        ("qwen2_moe", {"shared_expert_intermediate_size": ...}, "lacks shared_expert_intermediate_size"),
        ("qwen2_moe", {"shared_expert_intermediate_size": 0}, "shared_expert_intermediate_size is 0, not a whole"),
        ("gpt_oss", {"swiglu_limit": 0}, "swiglu_limit is 0, not a number from"),
        ("gpt_oss", {"sliding_window": None}, "sliding_window is None, not a whole number"),
        ("gpt_oss", {"head_dim": ...}, "lacks head_dim"),
        ("gpt_oss", {"layer_types": ["full_attention"]}, "layer_types is .*, not a list of 3 times sliding_attention"),
        ("gpt_oss", {"layer_types": ["full_attention", "linear", "linear"]}, "layer_types is .*, not a list of 3"),
        ("granitemoeshared", {"shared_intermediate_size": -1}, "shared_intermediate_size is -1, not a whole"),
        ("qwen2_moe", {"qkv_bias": "yes"}, "qkv_bias is 'yes', neither true nor false"),
    ],
)
def test_fields_outside_their_limits(tmp_path: Path, family: str, changes: dict[str, Any], message: str) -> None:
    folder = write_family(tmp_path / "model", family)
    edit_json(folder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        read_model_config(folder)


@pytest.mark.parametrize(
    ("family", "field", "value", "name"),
    [
        ("olmoe", "intermediate_size", 48, "experts.0.gate_proj"),
        ("granitemoe", "intermediate_size", 48, "input_linear"),
        ("granitemoe", "num_local_experts", 5, "input_linear"),
        ("qwen2_moe", "shared_expert_intermediate_size", 48, "shared_expert.gate_proj"),
        ("qwen2_moe", "qkv_bias", False, "self_attn.k_proj.bias"),
        ("granitemoeshared", "shared_intermediate_size", 48, "shared_mlp.input_linear"),
        ("granitemoeshared", "shared_intermediate_size", 0, "shared_mlp"),
        ("gpt_oss", "intermediate_size", 48, "mlp.experts.gate_up_proj"),
        ("gpt_oss", "attention_bias", False, "self_attn.k_proj.bias"),
    ],
)
def test_weights_of_another_shape_are_refused(
    tmp_path: Path, family: str, field: str, value: object, name: str
) -> None:
    folder = write_family(tmp_path / "model", family)
    edit_json(folder / "config.json", **{field: value})
    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "'rope_factors_long.weight' is missing from 'model.gguf'"),
        ([1, 2, 3, 4, 5], r"is F32 \[5\] in 'model.gguf', which needs 4 F32 numbers"),
        ([1, 2, 3, np.nan], "holds factors that are not above 0"),
        ([1, 2, 3, 0], "holds factors that are not above 0"),
    ],
)
def test_factors_that_cannot_be(tmp_path: Path, content: list[float] | None, message: str) -> None:
    folder = write_family(tmp_path / "model", "phimoe", rope_parameters=long_rope(64))
    write_family_gguf(folder, tmp_path / "model.gguf", long_factors=content)
    with pytest.raises(CheckpointError, match=message):
        read_config(tmp_path / "model.gguf")


@pytest.mark.parametrize("key", ["embedding_scale", "residual_scale", "attention.scale"])
def test_a_factor_of_another_family_is_refused(tmp_path: Path, key: str) -> None:
    folder = write_family(tmp_path / "model", "olmoe")
    write_family_gguf(folder, tmp_path / "model.gguf", extra={key: (FLOAT32, 0.5)})
    with pytest.raises(UnsupportedModelError, match=f"olmoe.{key} is 0.5, which is not supported"):
        read_config(tmp_path / "model.gguf")
