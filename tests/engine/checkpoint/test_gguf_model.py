"""Split GGUF models: found from any of their files, and held against each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.checkpoint.checkpoint import open_checkpoint, read_config
from engine.checkpoint.gguf_model import MAX_SPLITS, read_gguf, split_paths, stem
from engine.errors import CheckpointError
from tests.gguf_files import ARRAY, INT32, STRING, UINT16, Gguf, Shape, Value, gguf_model, split, write_gguf_mixtral

SMALL = Shape(hidden=32, intermediate=32, head_dim=8)


@pytest.fixture
def parts() -> list[Gguf]:
    """A sound model in three files."""
    return split(gguf_model(shape=SMALL), 3)


def write(tmp_path: Path, parts: list[Gguf]) -> Path:
    """Write the files of a model; the first."""
    for number, part in enumerate(parts, 1):
        (tmp_path / f"m-{number:05d}-of-{len(parts):05d}.gguf").write_bytes(part.encode())
    return tmp_path / f"m-00001-of-{len(parts):05d}.gguf"


def test_any_file_of_a_split_model_stands_for_it(tmp_path: Path) -> None:
    whole = write_gguf_mixtral(tmp_path / "m.gguf", shape=SMALL)
    first = write_gguf_mixtral(tmp_path / "split" / "m.gguf", shape=SMALL, splits=3)
    paths = split_paths(first)
    assert [path.name for path in paths] == [f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    with open_checkpoint(whole) as one:
        for path in [*paths, first.parent]:
            with open_checkpoint(path) as other:
                assert one.config == other.config == read_config(path)
                assert one.tensors.keys() == other.tensors.keys()
                for name, entry in one.tensors.items():
                    pair = bytearray(entry.nbytes), bytearray(entry.nbytes)
                    one.read(name, pair[0])
                    other.read(name, pair[1])
                    assert pair[0] == pair[1]
        assert {entry.file for entry in other.tensors.values()} == set(paths)


def test_a_split_of_one(tmp_path: Path) -> None:
    assert read_gguf(write(tmp_path, split(gguf_model(shape=SMALL), 1))).tensors


def test_names_without_numbers() -> None:
    assert split_paths(Path("a/m.gguf")) == [Path("a/m.gguf")]
    assert stem("m.Q4_K_M.GGUF") == "m.Q4_K_M"
    assert stem("m-00002-of-00007.gguf") == "m"
    assert stem("m-2-of-7.gguf") == "m-2-of-7"


@pytest.mark.parametrize(
    "name", ["m-00000-of-00003.gguf", "m-00004-of-00003.gguf", f"m-00001-of-{MAX_SPLITS + 1:05d}.gguf"]
)
def test_impossible_numbers(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"calls itself file .* which cannot be"):
        split_paths(Path(name))


def test_a_missing_file(tmp_path: Path, parts: list[Gguf]) -> None:
    first = write(tmp_path, parts)
    (tmp_path / "m-00002-of-00003.gguf").unlink()
    with pytest.raises(CheckpointError, match=r"'m-00002-of-00003.gguf' is missing from"):
        read_gguf(first)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "split.no",
            (UINT16, 2),
            r"'m-00002-of-00003.gguf' holds split.no 2 and split.count 3, its name asks for 1 and 3",
        ),
        ("split.no", None, r"holds split.no 0 and split.count 3, its name"),
        ("split.no", (STRING, "1"), r"holds split.no '1' and"),
        ("split.count", (UINT16, 4), "split.count 4, its name asks for 1 and 3"),
        ("split.count", None, "split.count 1, its name asks for 1 and 3"),
        ("split.tensors.count", (INT32, 4000), "is part of a model of 4000 tensors, but the files here hold"),
        ("split.tensors.count", (INT32, -1), "is part of a model of -1 tensors"),
        ("split.tensors.count", (STRING, "x"), "is part of a model of 'x' tensors"),
        ("general.architecture", (STRING, "llama4"), "belongs to another model than 'm-00001-of-00003.gguf'"),
    ],
)
def test_a_file_that_is_out_of_place(
    tmp_path: Path, parts: list[Gguf], key: str, value: tuple[int, object] | None, message: str
) -> None:
    parts[1].set(key, value)
    with pytest.raises(CheckpointError, match=message):
        read_gguf(write(tmp_path, parts))


def test_a_tensor_in_two_files(tmp_path: Path, parts: list[Gguf]) -> None:
    parts[1].tensors[0] = parts[0].tensors[0]
    with pytest.raises(CheckpointError, match=r"'token_embd.weight' is in 'm-00001-.*' and again in 'm-00002-"):
        read_gguf(write(tmp_path, parts))


def test_one_file_of_a_split_model_under_another_name(tmp_path: Path, parts: list[Gguf]) -> None:
    (tmp_path / "m.gguf").write_bytes(parts[0].encode())
    with pytest.raises(CheckpointError, match=r"holds split.no 0 and split.count 3, its name asks for 0 and 1"):
        read_gguf(tmp_path / "m.gguf")


def test_the_files_of_two_models(tmp_path: Path, parts: list[Gguf]) -> None:
    other = split(gguf_model(shape=Shape(hidden=32, intermediate=32, head_dim=8, layers=3)), 3)
    with pytest.raises(CheckpointError, match=r"is in .* and again in|is part of a model of"):
        read_gguf(write(tmp_path, [parts[0], other[1], parts[2]]))


@pytest.mark.parametrize("key", ["split.no", "split.count", "split.tensors.count", "general.name"])
@pytest.mark.parametrize("value", [(ARRAY, (UINT16, [1, 3])), (ARRAY, (UINT16, [])), (ARRAY, (STRING, ["a", "b"]))])
def test_arrays_where_numbers_belong(tmp_path: Path, parts: list[Gguf], key: str, value: Value) -> None:
    parts[1].set(key, value)
    with pytest.raises(CheckpointError, match=f"{key}|is part of a model of"):
        read_gguf(write(tmp_path, parts))


def test_a_first_file_without_tensors(tmp_path: Path) -> None:
    """As llama.cpp's `gguf-split --no-tensor-first-split` writes it, and many publishers with it."""
    parts = split(gguf_model(shape=SMALL), 3)
    parts[1].tensors, parts[0].tensors = parts[0].tensors + parts[1].tensors, []
    with open_checkpoint(write(tmp_path, parts)) as checkpoint:
        assert len({entry.file for entry in checkpoint.tensors.values()}) == 2
