"""Which files hold the weights, and what a folder without them is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.checkpoint.model_folder import (
    MAX_SHARDS,
    MAX_TOKENIZER_BYTES,
    check_folder,
    check_tokenizer,
    find_config,
    find_gguf,
    find_shards,
)
from engine.errors import CheckpointError
from tests.checkpoints import write_mixtral


def test_a_single_file_promises_by_its_header(tmp_path: Path) -> None:
    assert find_shards(write_mixtral(tmp_path)) == {"model.safetensors": None}


def test_an_index_says_what_is_where(tmp_path: Path) -> None:
    shards = find_shards(write_mixtral(tmp_path, shards=3))
    assert sorted(shards) == [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    assert shards["model-00001-of-00003.safetensors"][:1] == ["model.embed_tokens.weight"]  # type: ignore[index]


def test_a_single_file_wins_over_an_index(tmp_path: Path) -> None:
    write_mixtral(tmp_path, shards=2)
    write_mixtral(tmp_path, shards=1)
    assert find_shards(tmp_path) == {"model.safetensors": None}


def test_folders_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    (tmp_path / "empty").mkdir()
    for path, message in [
        (tmp_path / "absent", "There is no folder"),
        (tmp_path / "empty", "is empty"),
        (file, "is a file, neither a model folder nor a .gguf file"),
        (tmp_path / "a\0b", "There is no folder|cannot be read"),
        (tmp_path / ("x" * 300), "There is no folder|cannot be read"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            check_folder(path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["pytorch_model.bin"], "only pickle files, which can run code"),
        (["consolidated.00.pth"], "only pickle files"),
        (["model.PT", "notes.txt"], "only pickle files"),
        (["holiday.jpg"], "config.json is missing from"),
        (["model.safetensors"], "config.json is missing from"),
    ],
)
def test_folders_without_a_config(tmp_path: Path, files: list[str], message: str) -> None:
    for file in files:
        (tmp_path / file).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=message):
        find_config(tmp_path)


def test_a_gguf_file_or_the_folder_with_it(tmp_path: Path) -> None:
    file = tmp_path / "m.GGUF"
    file.touch()
    (tmp_path / "config.json").touch()
    assert find_gguf(file) == find_gguf(tmp_path) == file
    (tmp_path / "empty").mkdir()
    for path, message in [
        (tmp_path / "n.gguf", "There is no folder or file"),
        (tmp_path / "empty", "is empty"),
        (tmp_path / ("x" * 300 + ".gguf"), "There is no folder|cannot be read"),
        (tmp_path / "a\0b.gguf", "There is no folder|cannot be read"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            find_gguf(path)


def test_a_split_gguf_model_is_one(tmp_path: Path) -> None:
    for number in (2, 3):
        (tmp_path / f"m-0000{number}-of-00003.gguf").touch()
    assert find_gguf(tmp_path) == tmp_path / "m-00002-of-00003.gguf"


def test_several_gguf_models(tmp_path: Path) -> None:
    for name in ("b.Q8_0.gguf", "a.Q4_K_M-00001-of-00002.gguf", "a.Q4_K_M-00002-of-00002.gguf", "c.gguf", "d.gguf"):
        (tmp_path / name).touch()
    names = "'a.Q4_K_M-00001-of-00002.gguf', 'b.Q8_0.gguf', 'c.gguf' and 1 more"
    with pytest.raises(CheckpointError, match=f"holds 4 GGUF models: {names}") as caught:
        find_gguf(tmp_path)
    assert caught.value.remedy == "Give one of the files."


@pytest.mark.parametrize("shards", [1, 2])
def test_safetensors_win_over_gguf(tmp_path: Path, shards: int) -> None:
    write_mixtral(tmp_path, shards=shards)
    (tmp_path / "m.gguf").touch()
    assert find_gguf(tmp_path) is None


@pytest.mark.parametrize("file", ["pytorch_model.bin", "consolidated.safetensors"])
def test_a_config_without_weights(tmp_path: Path, file: str) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / file).touch()
    with pytest.raises(CheckpointError, match="pickle" if file.endswith("bin") else "Neither model.safetensors nor"):
        find_shards(tmp_path)


def test_a_download_cut_short(tmp_path: Path) -> None:
    write_mixtral(tmp_path, shards=4)
    for number in (2, 3):
        (tmp_path / f"model-0000{number}-of-00004.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"2 of 4 files named in .* missing, the first is 'model-00002-of-00004.safetensors'"
    ):
        find_shards(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "has no weight_map"),
        ({"weight_map": {}}, "has no weight_map"),
        ({"weight_map": ["a"]}, "has no weight_map"),
        ({"weight_map": {"a": "../x.safetensors"}}, "'../x.safetensors', which is not a plain"),
        ({"weight_map": {"a": ["x.safetensors"]}}, "not a plain"),
        ({"weight_map": {str(i): f"{i}.safetensors" for i in range(MAX_SHARDS + 1)}}, "names over 1024 files"),
    ],
)
def test_an_index_that_is_damaged_or_unsafe(tmp_path: Path, index: object, message: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        find_shards(tmp_path)


def test_the_tokenizer(tmp_path: Path) -> None:
    check_tokenizer(write_mixtral(tmp_path))
    file = tmp_path / "tokenizer.json"
    with file.open("wb") as sparse:
        sparse.truncate(MAX_TOKENIZER_BYTES + 1)
    with pytest.raises(CheckpointError, match=r"tokenizer.json is .* bytes long"):
        check_tokenizer(tmp_path)
    file.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"tokenizer.json is 0 bytes long"):
        check_tokenizer(tmp_path)
    file.unlink()
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(CheckpointError, match=r"tokenizer.json is missing from"):
        check_tokenizer(tmp_path)
