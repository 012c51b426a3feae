"""The tensors of a GGUF file under the engine's own names: stacked or not, in order or not, complete or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint.checkpoint import open_checkpoint
from engine.checkpoint.tensor_names import attention, expected_tensors, expert_tensor
from engine.errors import CheckpointError, UnsupportedModelError
from engine.quant.formats import FORMATS
from tests.gguf_files import Architecture, Gguf, Shape, Tensor, gguf_model

SMALL = Shape(hidden=64, intermediate=32, heads=4, kv_heads=2, head_dim=16)
FORMATS_OF_LAYERS = [("Q4_0", "Q5_1", "Q8_0"), ("IQ4_NL", "Q4_1", "F16")]


def write(tmp_path: Path, model: Gguf) -> Path:
    """A file with this content."""
    path = tmp_path / "m.gguf"
    path.write_bytes(model.encode())
    return path


@pytest.mark.parametrize("architecture", ["llama", "qwen3moe"])
@pytest.mark.parametrize("stacked", [True, False])
def test_every_expert_is_a_tensor_of_its_own(tmp_path: Path, architecture: Architecture, stacked: bool) -> None:
    model = gguf_model(architecture, SMALL, formats=FORMATS_OF_LAYERS, stacked=stacked)
    with open_checkpoint(write(tmp_path, model)) as checkpoint:
        expected = dict(expected_tensors(checkpoint.config))
        assert {name: entry.shape for name, entry in checkpoint.tensors.items()} == expected
        for layer, formats in enumerate(FORMATS_OF_LAYERS):
            for word, part, stored in zip(("gate", "up", "down"), ("w1", "w3", "w2"), formats, strict=True):
                for expert in range(SMALL.experts):
                    entry = checkpoint.tensors[expert_tensor(layer, expert, part)]  # type: ignore[arg-type]
                    in_file = f"blk.{layer}.ffn_{word}" + ("_exps.weight" if stacked else f".{expert}.weight")
                    assert (entry.name, entry.format) == (in_file, stored)
                    data = model.tensor(in_file).data
                    size = FORMATS[stored].row_bytes(entry.shape[1]) * entry.shape[0]
                    buffer = bytearray(size)
                    checkpoint.read(expert_tensor(layer, expert, part), buffer)  # type: ignore[arg-type]
                    assert buffer == (data[expert * size :][:size] if stacked else data)


@pytest.mark.parametrize(("part", "heads"), [("q", 4), ("k", 2)])
@pytest.mark.parametrize("stored", ["F32", "Q8_0"])
def test_rows_of_queries_and_keys_are_put_in_order(tmp_path: Path, part: str, heads: int, stored: str) -> None:
    """Rows 0, 8, 1, 9, ... of a head of 16 are those of its two halves in turn."""
    model = gguf_model("llama", SMALL, dense_format=stored)
    tensor = model.tensor(f"blk.0.attn_{part}.weight")
    in_file = np.frombuffer(tensor.data, np.uint8).reshape(heads * 16, -1)
    with open_checkpoint(write(tmp_path, model)) as checkpoint:
        name = attention(0, part)  # type: ignore[arg-type]
        assert checkpoint.tensors[name].permuted_heads == heads
        held = np.zeros_like(in_file)
        checkpoint.read(name, held.reshape(-1).data)
    for head in range(heads):
        for row in range(16):
            place = 16 * head + 2 * (row % 8) + row // 8
            np.testing.assert_array_equal(held[16 * head + row], in_file[place])


@pytest.mark.parametrize(
    "kind", [bytearray, lambda size: np.empty(size, np.uint8), lambda size: np.empty(size // 4, "<f4")]
)
def test_any_kind_of_buffer_will_do(tmp_path: Path, kind: Callable[[int], bytearray]) -> None:
    with open_checkpoint(write(tmp_path, gguf_model("llama", SMALL))) as checkpoint:
        entry = checkpoint.tensors[attention(1, "q")]
        buffer, other = kind(entry.nbytes), bytearray(entry.nbytes)
        checkpoint.read(attention(1, "q"), buffer)
        checkpoint.read(attention(1, "q"), other)
        assert bytes(memoryview(buffer)) == bytes(other)


def test_qwen_is_in_order(tmp_path: Path) -> None:
    with open_checkpoint(write(tmp_path, gguf_model("qwen3moe", SMALL))) as checkpoint:
        assert all(entry.permuted_heads is None for entry in checkpoint.tensors.values())


def test_dimensions_of_one_may_be_left_out(tmp_path: Path) -> None:
    shape = Shape(hidden=64, intermediate=32, heads=4, kv_heads=2, head_dim=16, experts=1, experts_per_token=1)
    model = gguf_model("llama", shape)
    for tensor in model.tensors:
        while tensor.shape[0] == 1:
            tensor.shape = tensor.shape[1:]
    with open_checkpoint(write(tmp_path, model)) as checkpoint:
        expected = dict(expected_tensors(checkpoint.config))
        assert {name: entry.shape for name, entry in checkpoint.tensors.items()} == expected


def rename(old: str, new: str) -> Callable[[Gguf], None]:
    """Give a tensor another name."""
    return lambda model: setattr(model.tensor(old), "name", new)


def reshape(name: str, *shape: int) -> Callable[[Gguf], None]:
    """Give a tensor another shape."""
    return lambda model: setattr(model.tensor(name), "shape", shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename("token_embd.weight", "x"), "Tensor 'token_embd.weight' is missing from 'm.gguf'"),
        (rename("output_norm.weight", "x"), "Tensor 'output_norm.weight' is missing from 'm.gguf'"),
        (rename("blk.1.attn_k.weight", "blk.2.attn_k.weight"), "Tensor 'blk.1.attn_k.weight' is missing"),
        (rename("blk.1.ffn_up_exps.weight", "x"), "Tensor 'blk.1.ffn_up_exps.weight' is missing"),
        (reshape("token_embd.weight", 64, 300), r"token_embd.weight' in 'm.gguf' has shape \[64, 300\].* \[64, 64\]"),
        (reshape("token_embd.weight", 19200), r"'token_embd.weight' has shape \[19200\] in 'm.gguf'"),
        (reshape("blk.0.attn_q.weight", 32, 128), r"'blk.0.attn_q.weight' .* \[32, 128\].* asks for \[64, 64\]"),
        (reshape("blk.0.attn_norm.weight", 64, 1), r"has shape \[64, 1\], the file's metadata asks for \[64\]"),
        (reshape("blk.0.ffn_gate_exps.weight", 2, 64, 64), r"\[2, 64, 64\], .* asks for \[4, 32, 64\]"),
        (reshape("blk.0.ffn_gate_exps.weight", 4, 64, 32), r"\[4, 64, 32\], .* asks for \[4, 32, 64\]"),
    ],
)
def test_tensors_of_another_model(tmp_path: Path, change: Callable[[Gguf], None], message: str) -> None:
    model = gguf_model("llama", SMALL)
    change(model)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(write(tmp_path, model))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blk.0.attn_q.bias", "holds tensor 'blk.0.attn_q.bias', which is not part of a mixtral model"),
        ("blk.0.attn_q_norm.weight", "'blk.0.attn_q_norm.weight', which is not part of a mixtral"),
        ("blk.0.ffn_gate_shexp.weight", "which is not part of a mixtral"),
        ("blk.2.attn_norm.weight", "'blk.2.attn_norm.weight', which is not part of a mixtral"),
        ("blk.0.ffn_gate.0.weight", "'blk.0.ffn_gate_exps.weight', which is not|'blk.0.ffn_gate.1.weight' is missing"),
        ("rope_freqs.weight", "factors for a scaled rotary embedding"),
        ("rope_factors_long.weight", "factors for a scaled rotary embedding"),
        ("anything", "holds tensor 'anything', which is not part of a mixtral"),
    ],
)
def test_tensors_that_would_be_left_out(tmp_path: Path, name: str, message: str) -> None:
    model = gguf_model("llama", SMALL)
    model.tensors.append(Tensor(name, (32, 64), bytes(32 * 64 * 4), 0))
    with pytest.raises((UnsupportedModelError, CheckpointError), match=message):
        open_checkpoint(write(tmp_path, model))


def test_tables_that_can_be_computed_are_ignored(tmp_path: Path) -> None:
    model = gguf_model("llama", SMALL)
    model.tensors.append(Tensor("blk.0.attn_rot_embd.weight", (8,), bytes(32), 0))
    open_checkpoint(write(tmp_path, model)).close()


def test_experts_of_a_layer_in_different_formats(tmp_path: Path) -> None:
    model = gguf_model("llama", SMALL, formats=[("Q4_0", "Q4_0", "Q4_0")], stacked=False)
    tensor = model.tensor("blk.1.ffn_up.2.weight")
    tensor.kind = FORMATS["IQ4_NL"].gguf_id
    with pytest.raises(UnsupportedModelError, match="up tensors of layer 1's experts are stored as Q4_0 and as IQ4_NL"):
        open_checkpoint(write(tmp_path, model))


def test_more_experts_than_can_be_right(tmp_path: Path) -> None:
    model = gguf_model("llama", SMALL)
    model.set("llama.block_count", (4, 512))
    model.set("llama.expert_count", (4, 1024))
    with pytest.raises(CheckpointError, match="has 524288 experts, more than can be right"):
        open_checkpoint(write(tmp_path, model))
