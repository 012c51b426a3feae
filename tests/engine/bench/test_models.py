"""Random model files: whole or absent, of the formats that were asked for, and llama.cpp runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.bench import models
from engine.bench.models import SHAPES, SIZES, WRITTEN, Shape, model_bytes, model_file, model_path, tensors
from engine.bench.random_weights import Bytes, RandomWeights
from engine.bench.routing import Topics
from engine.checkpoint.checkpoint import read_config
from tests.engine.bench.tiny import MIXTRAL, QWEN3

gguf = pytest.importorskip("gguf")


@pytest.mark.parametrize("mix", ["Q4_0", "Q4_K_M", "Q8_0"])
@pytest.mark.parametrize("shape", [MIXTRAL, QWEN3], ids=lambda shape: shape.name)
def test_a_file_holds_the_tensors_that_were_asked_for(tmp_path: Path, shape: Shape, mix: str) -> None:
    path = model_file(tmp_path / "new", shape, mix)
    held = gguf.GGUFReader(path).tensors
    # GGUF gives the columns first.
    found = [(tensor.name, tensor.tensor_type.name, tuple(map(int, tensor.shape[::-1]))) for tensor in held]
    assert found == [(tensor.name, tensor.format, tensor.shape) for tensor in tensors(shape, mix)]
    assert sum(int(tensor.n_bytes) for tensor in held) == model_bytes(shape, mix)
    assert ("blk.1.attn_q_norm.weight" in {name for name, *_ in found}) == (shape is QWEN3)


def test_norms_are_near_one(tmp_path: Path) -> None:
    held = {tensor.name: tensor.data for tensor in gguf.GGUFReader(model_file(tmp_path, QWEN3, "Q4_0")).tensors}
    for name in ("output_norm.weight", "blk.0.attn_k_norm.weight"):
        assert np.abs(held[name] - 1).mean() < 0.2


@pytest.mark.parametrize(
    ("shape", "mix"),
    [*((MIXTRAL, mix) for mix in WRITTEN), *((QWEN3, mix) for mix in ("Q4_0", "Q8_0", "Q4_K_M"))],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_llama_cpp_computes_finite_logits_of_it(
    tmp_path_factory: pytest.TempPathFactory, shape: Shape, mix: str
) -> None:
    pytest.importorskip("llama_cpp")
    from engine.bench.peers import LlamaCpp

    peer = LlamaCpp(str(model_file(tmp_path_factory.getbasetemp() / "tiny", shape, mix)), 1, 64)
    logits = np.array(peer.last_logits([1, 300, 17, 400]))
    peer.close()
    assert logits.shape == (shape.vocabulary,)
    assert np.isfinite(logits).all()
    assert 0.3 < logits.std() < 3


def test_a_file_that_is_there_is_used_again(tmp_path: Path) -> None:
    path = model_path(tmp_path, MIXTRAL, "Q4_0")
    path.write_bytes(b"whole")
    assert model_file(tmp_path, MIXTRAL, "Q4_0") == path
    assert path.read_bytes() == b"whole"


def test_an_unfinished_file_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(weights: RandomWeights, tensor: models.Tensor) -> Bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "_content", full)
    with pytest.raises(OSError, match="No space"):
        model_file(tmp_path, MIXTRAL, "Q4_0")
    assert not list(tmp_path.iterdir())


def test_the_real_shapes_are_of_the_sizes_that_are_measured() -> None:
    for shape in SHAPES.values():
        assert shape.vocabulary == 32000
        assert shape.context_tokens >= 4096
        for mix in ("Q4_0", "Q8_0", "Q4_K_M", "Q6_K"):
            assert 1.5e9 < model_bytes(shape, mix) < 4.5e9
            assert {tensor.format for tensor in tensors(shape, mix)} >= {"F32"}


@pytest.mark.parametrize("shape", SIZES["small"], ids=lambda shape: shape.name)
def test_the_engine_reads_what_a_shape_says_of_its_file(tmp_path: Path, shape: Shape) -> None:
    read, said = read_config(model_file(tmp_path, shape, "Q4_K_M")), shape.config("Q4_K_M")
    assert read.fingerprint == said.fingerprint
    assert read.expert_formats == said.expert_formats
    assert read.dense_parameters == said.dense_parameters
    assert read.kv_bytes_per_token("auto") == said.kv_bytes_per_token("auto")
    assert (read.layers, read.experts_per_token) == (said.layers, said.experts_per_token)


def test_a_routed_file_carries_its_routing(tmp_path: Path) -> None:
    shape = SIZES["small"][1]
    assert shape.routing is not None
    path = model_file(tmp_path, shape, "Q4_K_M")
    assert shape.routing.label in path.name
    held = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    topics = Topics(shape.routing, shape.hidden)
    router = held["blk.2.ffn_gate_inp.weight"].data
    assert np.array_equal(router, topics.router(2, shape.experts))
    for name, rows in ((models.EMBEDDING, topics.embedding), (models.HEAD, topics.head)):
        decoded = gguf.quants.dequantize(held[name].data, held[name].tensor_type)
        expected = rows(0, shape.vocabulary)
        assert np.linalg.norm(decoded - expected) < 0.02 * np.linalg.norm(expected)


def test_the_full_shapes_are_as_large_as_the_real_models() -> None:
    mixtral, qwen3 = (model_bytes(shape, "Q4_K_M") for shape in SIZES["full"])
    assert mixtral == pytest.approx(28.4e9, rel=0.02)
    assert qwen3 == pytest.approx(18.6e9, rel=0.02)
    for shape, billions in zip(SIZES["full"], (46.7, 30.5), strict=True):
        config = shape.config("Q4_K_M")
        weights = config.dense_parameters + config.total_experts * config.expert_parameters
        assert weights == pytest.approx(billions * 1e9, rel=0.01)
