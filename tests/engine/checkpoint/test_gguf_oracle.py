"""GGUF as others understand it: the `gguf` package's reader, llama.cpp, and transformers on the same weights."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engine.checkpoint.checkpoint import open_checkpoint
from engine.checkpoint.gguf_file import read_gguf_header
from tests.checkpoints import write_mixtral, write_qwen3_moe
from tests.gguf_files import ARRAY, Architecture, Shape, gguf_model, write_gguf

TOKENS = [1, 17, 200, 42, 99, 5, 64, 250]
MIXES: dict[str, dict[str, Any]] = {
    "floats": {"formats": [("F16", "BF16", "F32")], "dense_format": "F16"},
    "blocks": {"formats": [("Q4_K", "Q4_K", "Q6_K"), ("Q5_0", "Q4_0", "Q8_0")], "dense_format": "Q4_K"},
}

both = pytest.mark.parametrize("architecture", ["llama", "qwen3moe"])


def llama_logits(path: Path) -> NDArray[np.float32]:
    """What llama.cpp computes for `TOKENS`: [T, V]."""
    llama_cpp = pytest.importorskip("llama_cpp")
    model = llama_cpp.Llama(model_path=str(path), n_ctx=64, n_threads=1, n_gpu_layers=0, logits_all=True, verbose=False)
    model.eval(TOKENS)
    logits = np.array(model.scores[: len(TOKENS)])
    model.close()
    return logits


def transformers_logits(folder: Path) -> NDArray[np.float32]:
    """What transformers computes for `TOKENS`: [T, V]."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, experts_implementation="eager"
    )
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.tensor([TOKENS])).logits[0].numpy()
    return logits


def same_model(tmp_path: Path, architecture: Architecture) -> tuple[Path, Path]:
    """One model as a safetensors folder and as a GGUF file."""
    options: Any = {"hidden": 64, "intermediate": 32, "heads": 4, "kv_heads": 2, "head_dim": 16}
    folder = (write_mixtral if architecture == "llama" else write_qwen3_moe)(tmp_path / "safetensors", **options)
    weights = load_file(folder / "model.safetensors")
    rms_norm_eps = 1e-5 if architecture == "llama" else 1e-6
    shape = Shape(**options, rms_norm_eps=rms_norm_eps)
    return folder, write_gguf(tmp_path / "m.gguf", architecture, shape=shape, weights=weights)


@both
def test_the_same_model_from_both_kinds_of_files(tmp_path: Path, architecture: Architecture) -> None:
    folder, file = same_model(tmp_path, architecture)
    with open_checkpoint(folder) as ours, open_checkpoint(file) as theirs:
        for name in ("name", "rms_norm_eps"):
            object.__setattr__(theirs.config, name, getattr(ours.config, name))
        assert ours.config == theirs.config
        assert ours.tensors.keys() == theirs.tensors.keys()
        for name, entry in ours.tensors.items():
            assert (entry.shape, entry.format) == (theirs.tensors[name].shape, theirs.tensors[name].format)
            pair = np.empty(entry.nbytes, np.uint8), np.empty(entry.nbytes, np.uint8)
            ours.read(name, pair[0].data)
            theirs.read(name, pair[1].data)
            np.testing.assert_array_equal(*pair, name)


@both
def test_llama_cpp_computes_what_transformers_computes(tmp_path: Path, architecture: Architecture) -> None:
    """So the tests' writer tells the truth: names, order of rows, shapes, metadata."""
    folder, file = same_model(tmp_path, architecture)
    expected, actual = transformers_logits(folder), llama_logits(file)
    np.testing.assert_array_equal(actual.argmax(-1), expected.argmax(-1))
    np.testing.assert_allclose(actual, expected, atol=0.02 * float(np.abs(expected).max()))


@both
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("splits", [1, 3])
def test_llama_cpp_loads_what_is_written_here(
    tmp_path: Path, architecture: Architecture, mix: str, splits: int
) -> None:
    logits = llama_logits(write_gguf(tmp_path / "m.gguf", architecture, splits=splits, **MIXES[mix]))
    assert np.isfinite(logits).all()
    assert logits.std() > 0.1


@both
def test_headers_are_read_as_the_gguf_package_reads_them(tmp_path: Path, architecture: Architecture) -> None:
    gguf = pytest.importorskip("gguf")
    file = write_gguf(tmp_path / "m.gguf", architecture, **MIXES["blocks"])
    ours, theirs = read_gguf_header(file), gguf.GGUFReader(file)
    assert {tensor.name for tensor in theirs.tensors} == ours.tensors.keys()
    for tensor in theirs.tensors:
        entry = ours.tensors[tensor.name]
        assert entry.format == tensor.tensor_type.name
        assert entry.shape == tuple(int(size) for size in tensor.shape[::-1])
        assert (entry.offset, entry.nbytes) == (tensor.data_offset, tensor.n_bytes)
    keys = {key for key in theirs.fields if not key.startswith("GGUF.")}
    assert keys == ours.metadata.keys()
    for key in keys:
        value = ours.metadata[key]
        known = value.tolist() if isinstance(value, array) else value
        assert known == theirs.fields[key].contents(), key


def test_the_gguf_package_writes_what_is_read_here(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    model = gguf_model("llama", formats=[("Q4_K", "Q4_K", "Q6_K")])
    for key, (_, value) in model.metadata[1:]:
        writer.add_key_value(key, list(value[1]) if isinstance(value, tuple) else value, *_types(gguf, key, model))
    for tensor in model.tensors:
        kind = gguf.GGMLQuantizationType(tensor.kind)
        rows = np.frombuffer(tensor.data, np.uint8).reshape(*tensor.shape[:-1], -1)
        writer.add_tensor(tensor.name, rows, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (tmp_path / "ours.gguf").write_bytes(model.encode())
    ours, theirs = read_gguf_header(tmp_path / "ours.gguf"), read_gguf_header(tmp_path / "m.gguf")
    assert {name: (entry.format, entry.shape, entry.nbytes) for name, entry in ours.tensors.items()} == {
        name: (entry.format, entry.shape, entry.nbytes) for name, entry in theirs.tensors.items()
    }
    with open_checkpoint(tmp_path / "ours.gguf") as one, open_checkpoint(tmp_path / "m.gguf") as other:
        assert one.config == other.config


def _types(gguf: Any, key: str, model: Any) -> tuple[Any, ...]:
    """The type of a key's value, and of an array's items, in the `gguf` package's terms."""
    kind, value = dict(model.metadata)[key]
    types = gguf.GGUFValueType
    return (types(kind), types(value[0])) if kind == ARRAY else (types(kind),)
