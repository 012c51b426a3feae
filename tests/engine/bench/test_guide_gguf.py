"""The guide's GGUF files: the guide's own weights and words, whole or absent, in the formats that were asked for."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bench import guide_gguf
from engine.bench.guide_gguf import MIXED, PLAIN, guide_file
from engine.checkpoint.catalog import guide_path
from engine.checkpoint.checkpoint import Checkpoint, open_checkpoint
from engine.config import DTypeName
from engine.errors import ConfigurationError
from engine.tokenizer import ChatTokenizer
from resources.guide_training import corpus

gguf = pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guide") / "new"


def weights(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    """A tensor of floats."""
    entry = checkpoint.tensors[name]
    raw = np.empty(entry.nbytes, dtype=np.uint8)
    checkpoint.read(name, raw.data)
    floats = raw.view("<f4") if entry.format == "F32" else (raw.view("<u2").astype("<u4") << 16).view("<f4")
    return floats.reshape(entry.shape)


def formats(path: Path) -> dict[str, set[str]]:
    """The formats of each kind of tensor."""
    found: dict[str, set[str]] = {}
    for tensor in gguf.GGUFReader(path).tensors:
        kind = tensor.name.removesuffix(".weight").rpartition(".")[2]
        found.setdefault(kind, set()).add(tensor.tensor_type.name)
    return found


@pytest.mark.parametrize(("name", "dtype"), [("F32", "float32"), ("BF16", "bfloat16")])
def test_floats_hold_the_guides_own_weights_and_shape(folder: Path, name: str, dtype: DTypeName) -> None:
    with open_checkpoint(guide_path()) as guide, open_checkpoint(guide_file(folder, name)) as file:
        epsilon = float(np.float32(guide.config.rms_norm_eps))  # as the file holds it
        assert file.config == replace(guide.config, dtype=dtype, rms_norm_eps=epsilon)
        assert file.tensors.keys() == guide.tensors.keys()
        for tensor in guide.tensors:
            np.testing.assert_array_equal(weights(file, tensor), weights(guide, tensor), tensor)


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_file_holds_every_matrix_in_one_format(folder: Path, name: str) -> None:
    found = formats(guide_file(folder, name))
    floats = {kind for kind in found if kind.endswith("_norm")} | {"ffn_gate_inp"}
    assert len(floats) == 4
    for kind, held in found.items():
        assert held == {"F32" if kind in floats else name}, kind


@pytest.mark.parametrize(
    ("name", "experts", "down"), [("Q4_K_M", "Q4_K", {"Q5_0", "Q8_0"}), ("IQ4_NL", "IQ4_NL", {"IQ4_NL"})]
)
def test_a_mixed_file_is_llama_cpps_own_choice(folder: Path, name: str, experts: str, down: set[str]) -> None:
    pytest.importorskip("llama_cpp", reason="llama.cpp makes the mixes (pip install llama-cpp-python)")
    found = formats(guide_file(folder, name))
    assert found["ffn_gate_exps"] == found["ffn_up_exps"] == {experts}
    assert found["ffn_down_exps"] <= down
    assert found["output"] == {"Q6_K"}
    assert found["ffn_gate_inp"] == found["attn_norm"] == {"F32"}


def test_words_are_the_guides_own(folder: Path) -> None:
    ours, theirs = ChatTokenizer.open(guide_file(folder, "Q8_0")), ChatTokenizer.open(guide_path())
    assert ours.eos_ids == theirs.eos_ids
    for question in islice(corpus.load().held_out, 50):
        chat = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": question.text},
            {"role": "assistant", "content": "10 km\n  of `code`, 12345 🙂"},
            {"role": "user", "content": question.text.upper()},
        ]
        ids = ours.encode_chat(chat)
        assert ids == theirs.encode_chat(chat)
        assert ours.decode(ids) == theirs.decode(ids)


def test_a_file_that_is_there_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "guide-Q4_0.gguf"
    path.write_bytes(b"whole")
    assert guide_file(tmp_path, "Q4_0") == path
    assert path.read_bytes() == b"whole"


def test_an_unfinished_file_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(guide_gguf, "_add_vocabulary", full)
    with pytest.raises(OSError, match="No space"):
        guide_file(tmp_path, "F32")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "missing"), [("Q4_0", "gguf"), (next(iter(MIXED)), "llama_cpp")])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, missing: str) -> None:
    def find(package: str) -> Any:
        return None if package == missing else object()

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(ConfigurationError, match=missing):
        guide_file(tmp_path, name)
