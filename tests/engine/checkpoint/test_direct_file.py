"""Reads past the cache of files give the same bytes, wherever they begin; where there are none, it is read as ever."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.checkpoint.checkpoint import open_checkpoint
from engine.checkpoint.direct_file import BLOCK_BYTES, PIECE_BYTES, DirectFile
from engine.checkpoint.safetensors_file import read_header
from engine.checkpoint.tensor_reader import TensorReader
from engine.checkpoint.untrusted import fill
from engine.errors import CheckpointError
from tests.checkpoints import write_mixtral, write_safetensors

SIZE_BYTES = 2 * PIECE_BYTES + 12345
ENDS = (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 7, SIZE_BYTES)


@pytest.fixture
def content() -> bytes:
    """No two blocks of it are alike."""
    return np.random.default_rng(0).bytes(SIZE_BYTES)


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    """A file of it."""
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("first", ENDS[:-1])
def test_any_piece_of_a_file(path: Path, content: bytes, first: int) -> None:
    with DirectFile(path) as file:
        for end in (end for end in ENDS if end > first):
            buffer = bytearray(end - first)
            fill(file, path, first, memoryview(buffer))
            assert buffer == content[first:end]


def test_past_the_end(path: Path) -> None:
    with DirectFile(path) as file, pytest.raises(CheckpointError, match="ends 5 bytes too early"):
        fill(file, path, SIZE_BYTES - 7, memoryview(bytearray(12)))
    with DirectFile(path) as file:
        file.seek(SIZE_BYTES + 3 * BLOCK_BYTES)
        assert file.readinto(bytearray(8)) == 0


def test_it_closes_its_file(path: Path) -> None:
    before = psutil.Process().num_fds()
    file = DirectFile(path)
    assert psutil.Process().num_fds() == before + 1
    file.close()
    file.close()
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize("refused_at", ["open", "preadv"])
def test_a_drive_without_such_reads_is_read_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused_at: str
) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"a": np.arange(4, dtype=np.float32)})
    entry = read_header(path)["a"]
    before, plain = psutil.Process().num_fds(), os.open

    def open_unless_direct(name: str, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return plain(name, flags, *rest)

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, refused_at, open_unless_direct if refused_at == "open" else refuse)
    reader, buffer = TensorReader(direct=True), np.empty(4, np.float32)
    reader.read(entry, buffer.data)
    assert buffer.tolist() == [0, 1, 2, 3]
    reader.close()
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize(("ram_share", "direct"), [(1.9, True), (2.1, False)])
def test_models_that_do_not_fit_into_the_cache_beside_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ram_share: float, direct: bool
) -> None:
    folder = write_mixtral(tmp_path)
    with open_checkpoint(folder) as checkpoint:
        size_bytes = checkpoint.total_bytes
    ram = psutil.virtual_memory()._replace(total=int(ram_share * size_bytes))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: ram)
    opened: list[Path] = []

    class Watched(DirectFile):
        def __init__(self, path: Path) -> None:
            opened.append(path)
            super().__init__(path)

    monkeypatch.setattr("engine.checkpoint.tensor_reader.DirectFile", Watched)
    with open_checkpoint(folder) as checkpoint:
        name = next(iter(checkpoint.tensors))
        checkpoint.read(name, bytearray(checkpoint.tensors[name].nbytes))
    assert bool(opened) == direct
