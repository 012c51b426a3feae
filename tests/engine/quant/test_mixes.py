"""The mixes of formats are those of llama.cpp's own quantiser."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from engine.bench.models import WRITTEN, Shape, model_file, tensors
from engine.quant.mixes import MIXES, Place, tensor_format

DOWN = "blk.{}.ffn_down_exps.weight"
# Eight experts and layers enough for every rule; few experts, shared values, and columns that K formats do not divide.
EIGHT = Shape("eight", "llama", 256, 256, 16, 8, 2, 4, 2, 64, vocabulary=288)
OTHER = Shape("other", "qwen3moe", 256, 288, 8, 2, 1, 8, 2, 32, vocabulary=288)


def _formats(mix: str, name: str, layers: int, experts: int = 64) -> list[str]:
    return [tensor_format(mix, name.format(layer), 768, Place(layer, layers, experts, 8)) for layer in range(layers)]


def test_more_bits_go_to_the_ends_and_to_every_third_layer() -> None:
    wanted = ["Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q6_K", "Q6_K"]
    assert _formats("Q4_K_M", DOWN, 12) == wanted
    assert _formats("Q4_K_M", "blk.{}.attn_v.weight", 12) == wanted
    assert set(_formats("Q4_K_M", "blk.{}.ffn_up_exps.weight", 12)) == {"Q4_K"}


@pytest.mark.parametrize("mix", ["Q4_0", "Q4_K_M", "Q6_K"])
def test_eight_experts_get_the_best_keys_and_values(mix: str) -> None:
    for kind in ("attn_k", "attn_v"):
        assert set(_formats(mix, f"blk.{{}}.{kind}.weight", 8, experts=8)) == {"Q8_0"}


def test_the_logits_get_six_bits_at_least() -> None:
    place = Place(0, 8, 8, 4)
    outputs = {mix: tensor_format(mix, "output.weight", 2048, place) for mix in ("Q4_0", "Q4_K_M", "Q6_K", "Q8_0")}
    assert outputs == {"Q4_0": "Q6_K", "Q4_K_M": "Q6_K", "Q6_K": "Q6_K", "Q8_0": "Q8_0"}
    assert tensor_format("Q4_K_M", "token_embd.weight", 2048, place) == "Q4_K"


@pytest.mark.parametrize("name", ["blk.0.attn_norm.weight", "output_norm.weight", "blk.3.ffn_gate_inp.weight"])
def test_norms_and_routers_stay_floats(name: str) -> None:
    assert tensor_format("Q4_0", name, 2048, Place(0, 8, 8, 4)) == "F32"


def test_columns_that_a_format_does_not_divide_get_another() -> None:
    for columns in (32, 288):
        assert tensor_format("Q4_K_S", DOWN.format(7), columns, Place(7, 8, 4, 1)) == "Q5_0"


@pytest.mark.parametrize(
    ("shape", "mix"),
    [
        *((EIGHT, mix) for mix in ("Q4_0", "Q3_K_M", "Q4_K_S", "Q4_K_M", "Q6_K")),
        *((OTHER, mix) for mix in WRITTEN if mix != "F16"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_quantiser_itself_chooses_the_same(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, shape: Shape, mix: str
) -> None:
    gguf, llama_cpp = pytest.importorskip("gguf"), pytest.importorskip("llama_cpp")
    source = model_file(tmp_path_factory.getbasetemp() / "floats", shape, "F16")
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = MIXES[mix].file_type, 1
    out = tmp_path / "quantised.gguf"
    assert llama_cpp.llama_model_quantize(bytes(source), bytes(out), ctypes.byref(settings)) == 0
    chosen = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(out).tensors}
    assert {tensor.name: tensor.format for tensor in tensors(shape, mix)} == chosen
