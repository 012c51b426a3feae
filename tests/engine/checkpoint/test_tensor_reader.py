"""Reads into the caller's buffer that survive a changing file, from one thread or many."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint.safetensors_file import read_header
from engine.checkpoint.tensor_reader import MAX_IDLE_FILES, TensorReader
from engine.errors import CheckpointError
from tests.checkpoints import write_safetensors


@pytest.fixture(params=[False, True], ids=["cached", "direct"])
def direct(request: pytest.FixtureRequest) -> bool:
    """Whether files are read past the system's cache."""
    return bool(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound file with the tensors a [2, 3] and b [4], float32."""
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"a": np.ones((2, 3), np.float32), "b": np.arange(4, dtype=np.float32)})
    return path


def test_a_file_cut_after_it_was_opened(path: Path, direct: bool) -> None:
    entries = read_header(path)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CheckpointError, match=r"'model.safetensors' is truncated: it ends 1 bytes too early"):
        TensorReader(direct).read(entries["b"], bytearray(16))


def test_a_file_gone_after_it_was_opened(path: Path, direct: bool) -> None:
    entries = read_header(path)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"'model.safetensors' is missing"):
        TensorReader(direct).read(entries["b"], bytearray(16))


def test_mistakes_of_the_caller(path: Path, direct: bool) -> None:
    entry = read_header(path)["b"]
    reader = TensorReader(direct)
    with pytest.raises(ValueError, match="b is 16 bytes long, the buffer 15"):
        reader.read(entry, bytearray(15))
    reader.close()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read(entry, bytearray(16))


def test_few_files_stay_open(tmp_path: Path, direct: bool) -> None:
    reader = TensorReader(direct)
    for number in range(2 * MAX_IDLE_FILES):
        path = tmp_path / f"{number}.safetensors"
        write_safetensors(path, {"a": np.full(4, number, np.float32)})
        buffer = np.empty(4, np.float32)
        reader.read(read_header(path)["a"], buffer.data)
        assert (buffer == number).all()
    assert len(reader._idle) == MAX_IDLE_FILES
    reader.close()
    assert not reader._idle


def test_threads_read_the_same_file_at_once(tmp_path: Path, direct: bool) -> None:
    path = tmp_path / "many.safetensors"
    arrays = {f"t{number:02}": np.full(2048, number, np.float32) for number in range(32)}
    write_safetensors(path, arrays)
    entries = read_header(path)
    reader = TensorReader(direct)

    def reads_itself(name: str) -> bool:
        buffer = np.empty(2048, np.float32)
        reader.read(entries[name], buffer.data)
        return bool((buffer == arrays[name]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(reads_itself, list(arrays) * 8))
    reader.close()
