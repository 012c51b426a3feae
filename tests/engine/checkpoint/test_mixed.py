"""A shape and the name of a mix tell what llama.cpp's quantiser writes of a model, tensor by tensor."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.bench.models import SIZES, model_file
from engine.checkpoint.checkpoint import read_config
from engine.checkpoint.mixed import with_mix
from engine.checkpoint.model_config import read_model_config
from engine.config import ModelConfig
from engine.quant.mixes import MIXES
from tests.families import write_family
from tests.family_gguf import write_family_gguf

# Wide enough for the K formats, and layers enough for the rules to tell them apart.
WIDE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 4}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "olmoe": ("Q4_K_M", {"num_key_value_heads": 4, "num_experts": 8}),
    "granitemoe": ("Q4_K_M", {"tie_word_embeddings": True}),
    "granitemoeshared": ("Q4_K_M", {"shared_intermediate_size": 512}),
    "qwen2_moe": ("Q4_K_M", {"moe_intermediate_size": 256, "shared_expert_intermediate_size": 512}),
    "phimoe": ("Q4_K_M", {}),
    "gpt_oss": ("MXFP4", {"intermediate_size": 64}),
}


def placed(config: ModelConfig) -> ModelConfig:
    """What placement looks at: without factors, which a GGUF file holds in 32 bits."""
    kinds = replace(
        config.traits, long_rope=None, embedding_scale=1, residual_scale=1, attention_scale=1, logit_scale=1
    )
    return replace(config, name="", family="", rms_norm_eps=0.0, rope_theta=0.0, traits=kinds)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_quantiser_writes_the_same(tmp_path: Path, family: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    mix, changes = FAMILIES[family]
    folder = write_family(tmp_path / "model", family, **{**WIDE, **changes})
    source, out = tmp_path / "floats.gguf", tmp_path / "quantised.gguf"
    write_family_gguf(folder, source)
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = MIXES[mix].file_type, 1
    assert llama_cpp.llama_model_quantize(bytes(source), bytes(out), ctypes.byref(settings)) == 0
    assert placed(with_mix(read_model_config(folder), mix)) == placed(read_config(out))


@pytest.mark.parametrize("shape", SIZES["small"], ids=lambda shape: shape.name)
def test_a_file_of_mixtral_or_qwen_is_as_said(tmp_path: Path, shape: Any) -> None:
    found = read_config(model_file(tmp_path, replace(shape, routing=None), "Q4_K_M"))
    floats = replace(found, quantization=None, expert_formats=(), dense_packed_bytes=None, dense_blocks=(),
                     embedding_format=None)  # fmt: skip
    assert with_mix(floats, "Q4_K_M") == found
