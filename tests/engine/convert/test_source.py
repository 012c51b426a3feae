"""What a conversion reads and where it puts it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.convert import source as source_module
from engine.convert.source import open_source
from engine.errors import CheckpointError, RooftopError, UnsupportedModelError
from engine.quant.formats import FORMATS
from tests.checkpoints import edit_json, write_mixtral, write_qwen3_moe
from tests.gguf_files import write_gguf_mixtral
from tests.int4 import write_int4


def test_pieces_cover_the_file_and_the_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "PIECE_BYTES", 1500)
    source = open_source(write_mixtral(tmp_path / "m", hidden=64, intermediate=96, shards=3), "q4")
    pieces = list(source.pieces())
    assert [piece.number for piece in pieces] == list(range(len(pieces)))
    position = len(source.header)
    for piece in pieces:
        assert position <= piece.offset < position + 32  # nothing but padding between
        position = piece.offset + piece.nbytes
    assert position == source.target_bytes
    assert sum(piece.source.nbytes for piece in pieces) == source.source_bytes
    for piece in pieces:
        rows, columns = piece.source.shape
        assert piece.nbytes == rows * FORMATS[piece.target.format].row_bytes(columns)
        assert piece.target.heads or piece.source.nbytes <= max(1500, piece.source.nbytes // rows)


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    folder = write_qwen3_moe(tmp_path / "m")
    before = open_source(folder, "q8").fingerprint()
    assert {entry[0] for entry in before} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert open_source(folder, "q8").fingerprint() == before
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert open_source(folder, "q8").fingerprint() != before


@pytest.mark.parametrize("kind", ["gguf", "gptq"])
def test_what_is_quantised_already_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "gguf":
        path = write_gguf_mixtral(tmp_path / "m.gguf", formats=[("F32", "F32", "F32"), ("F32", "F32", "Q8_0")])
    else:
        path = tmp_path / "m"
        write_int4(write_mixtral(tmp_path / "f", hidden=64, intermediate=64), path, "gptq")
    with pytest.raises(UnsupportedModelError, match="quantised already"):
        open_source(path, "q4")


def test_a_family_of_transformers_decoder_is_refused_by_name(tmp_path: Path) -> None:
    """Its weights have no place in a GGUF file that this engine reads."""
    folder = write_qwen3_moe(tmp_path / "m", layers=1)
    config = {"model_type": "glm4_moe", "n_routed_experts": 4}
    edit_json(folder / "config.json", num_local_experts=..., num_experts=..., **config)
    with pytest.raises(UnsupportedModelError, match="glm4_moe, which cannot be converted"):
        open_source(folder, "q4")


def refuse(folder: Path) -> RooftopError:
    with pytest.raises(RooftopError) as caught:
        open_source(folder, "q4")
    assert caught.value.message.endswith(".")
    assert caught.value.remedy.endswith(".")
    return caught.value


def test_unusable_models_are_refused_with_a_remedy(tmp_path: Path) -> None:
    assert "There is no folder" in str(refuse(tmp_path / "none"))
    dense = write_mixtral(tmp_path / "dense")
    edit_json(dense / "config.json", model_type="llama", num_local_experts=..., num_experts_per_tok=...)
    assert "dense model" in str(refuse(dense))
    shards = write_mixtral(tmp_path / "shards", shards=3)
    (shards / "model-00002-of-00003.safetensors").unlink()
    assert isinstance(refuse(shards), CheckpointError)
    cut = write_mixtral(tmp_path / "cut")
    os.truncate(cut / "model.safetensors", 5000)
    assert "truncated" in str(refuse(cut))
