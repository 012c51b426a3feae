"""Conversions: every family round-trips, what is interrupted goes on, what is wrong is said."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Engine, EngineConfig
from engine.checkpoint.checkpoint import Checkpoint, open_checkpoint
from engine.checkpoint.gguf_file import read_gguf_header
from engine.checkpoint.model_folder import INDEX, SINGLE
from engine.checkpoint.tensor_names import expected_tensors
from engine.checkpoint.tensor_reader import TensorEntry
from engine.config import ModelConfig
from engine.convert import conversion as conversion_module
from engine.convert import reading_back
from engine.convert import source as source_module
from engine.convert.conversion import Progress, convert, find_unfinished
from engine.convert.drive_file import DriveFile
from engine.convert.journal import JOURNAL, Journal, PieceRecord
from engine.convert.source import open_source
from engine.convert.workplace import WEIGHTS, unfinished_folder
from engine.errors import (
    CheckpointError,
    ConfigurationError,
    DoesNotFitError,
    EngineFailure,
    OperationCancelledError,
    RooftopError,
)
from engine.kernels.encoder import as_float32
from engine.tokenizer import ChatTokenizer
from tests.checkpoints import write_mixtral, write_qwen3_moe, write_safetensors
from tests.engine.checkpoint.test_gguf_oracle import llama_logits, same_model
from tests.families import long_rope, write_family
from tests.gguf_files import Architecture, write_gguf_mixtral

# What a random matrix may lose, as a share of its root mean square.
LIMITS = {"F32": 0.0, "BF16": 2**-8, "Q8_0": 0.006, "Q4_1": 0.085, "Q4_K": 0.085}
CPU = EngineConfig(device="cpu", cpu_threads=1)


def weights_of(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    """A tensor in float32, whatever it is stored as."""
    entry = checkpoint.tensors[name]
    raw = np.empty(entry.nbytes, dtype=np.uint8)
    checkpoint.read(name, raw.data)
    if entry.format in ("F32", "F16", "BF16"):
        return as_float32(entry.format, raw).reshape(entry.shape)
    rows = raw.reshape(entry.shape[0], -1)
    decoded: NDArray[np.float32] = gguf.dequantize(rows, gguf.GGMLQuantizationType[entry.format])
    return decoded


def shape_of(config: ModelConfig) -> ModelConfig:
    """A config without what a conversion changes."""
    return replace(
        config,
        name="",
        dtype="float32",
        quantization=None,
        expert_formats=(),
        dense_packed_bytes=None,
        dense_blocks=(),
        embedding_format=None,
    )


def check_same(source: Path, converted: Path) -> set[str]:
    """Hold that a converted model is the source, each tensor within its format's limit; the formats that it has."""
    formats: set[str] = set()
    with open_checkpoint(source) as before, open_checkpoint(converted) as after:
        assert shape_of(after.config) == shape_of(before.config)
        for name, shape in expected_tensors(before.config):
            wanted, got = weights_of(before, name), weights_of(after, name)
            assert got.shape == shape
            stored = after.tensors[name].format
            lost = np.sqrt(np.square(wanted - got).sum() / max(np.square(wanted).sum(), 1e-30))
            assert lost <= LIMITS[stored], (name, stored, lost)
            formats.add(stored)
    return formats


def mixtral(folder: Path, experts_per_token: int = 2) -> Path:
    return write_mixtral(
        folder,
        hidden=256,
        intermediate=96,
        heads=4,
        shards=2,
        dtype="bfloat16",
        experts_per_token=experts_per_token,
    )


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "mixtral": mixtral,
    "mixtral, tied, float16": lambda folder: write_mixtral(folder, tied=True, dtype="float16", sliding_window=64),
    "qwen3_moe": write_qwen3_moe,
    "olmoe": lambda folder: write_family(folder, "olmoe", norm_topk_prob=True, clip_qkv=3.0),
    "qwen2_moe": lambda folder: write_family(folder, "qwen2_moe", norm_topk_prob=True),
    "granitemoe": lambda folder: write_family(folder, "granitemoe", dtype="bfloat16"),
    "granitemoeshared": lambda folder: write_family(folder, "granitemoeshared"),
    "gpt_oss": lambda folder: write_family(folder, "gpt_oss", dtype="bfloat16"),
    "phimoe": lambda folder: write_family(folder, "phimoe", rope_parameters=long_rope(64)),
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_is_the_same_model_afterwards(family: str, tmp_path: Path) -> None:
    """Also where llama.cpp's metadata could not say it: the config and the tokenizer lie beside the weights."""
    source = FAMILIES[family](tmp_path / "source")
    for kind in ("bf16", "q8", "q4"):
        target = tmp_path / kind
        done = convert(source, target, kind)
        formats = check_same(source, target)
        assert done.path == target
        assert {"bf16": {"F32", "BF16"}, "q8": {"F32", "BF16", "Q8_0"}}.get(kind, formats) >= formats
        text = "Hello, w\u00f6rld"
        assert ChatTokenizer.open(target).encode(text) == ChatTokenizer.open(source).encode(text)
    assert ChatTokenizer.open(tmp_path / "q4").eos_ids == ChatTokenizer.open(source).eos_ids
    rendered = [ChatTokenizer.open(path).render_chat([{"role": "user", "content": "Hi"}]) for path in (source, target)]
    assert rendered[0] == rendered[1]


def test_the_engine_computes_with_what_was_converted(tmp_path: Path) -> None:
    """Beside a model in fp32 whose weights are those that the blocks mean; all experts run: no routing can flip."""
    source = mixtral(tmp_path / "source", experts_per_token=4)
    for kind in ("bf16", "q8", "q4"):
        convert(source, tmp_path / kind, kind)
        meant = tmp_path / f"{kind}-meant"
        shutil.copytree(source, meant)
        (meant / INDEX).unlink()
        with open_checkpoint(tmp_path / kind) as checkpoint:
            tensors = {name: weights_of(checkpoint, name) for name in checkpoint.tensors}
        write_safetensors(meant / SINGLE, tensors)
        wanted, got = logits_of(meant), logits_of(tmp_path / kind)
        assert float((wanted * got).sum() / np.sqrt((wanted**2).sum() * (got**2).sum())) > 0.999


def logits_of(model: Path) -> NDArray[np.float64]:
    with Engine.load(str(model), CPU) as engine:
        return engine.logits(list(range(40))).astype(np.float64)


@pytest.mark.parametrize("splits", [1, 3])
def test_a_gguf_file_in_floats_keeps_its_metadata(tmp_path: Path, splits: int) -> None:
    source = write_gguf_mixtral(tmp_path / "source.gguf", splits=splits)
    convert(source, tmp_path / "out", "q8")
    check_same(source, tmp_path / "out")
    check_same(source, tmp_path / "out" / WEIGHTS)
    assert ChatTokenizer.open(tmp_path / "out").encode("hell") == ChatTokenizer.open(source).encode("hell")


def test_the_losses_told_are_the_losses_there_are(tmp_path: Path) -> None:
    source = mixtral(tmp_path / "source")
    done = convert(source, tmp_path / "out", "q4")
    told = {loss.name: loss for loss in done.tensors}
    with open_checkpoint(source) as before, open_checkpoint(tmp_path / "out") as after:
        for name, in_file in (
            ("lm_head.weight", "output.weight"),
            ("model.layers.1.self_attn.o_proj.weight", "blk.1.attn_output.weight"),
        ):
            wanted, got = weights_of(before, name), weights_of(after, name)
            lost = float(np.sqrt(np.square(wanted - got).sum() / np.square(wanted).sum()))
            assert told[in_file].relative_rmse == pytest.approx(lost, rel=1e-3)
            assert told[in_file].relative_rmse < 0.97 * told[in_file].rounded_relative_rmse
    kinds = {(kind.name, kind.format) for kind in done.kinds}
    assert kinds == {
        ("embedding", "Q8_0"), ("head", "Q8_0"), ("norms, routers", "F32"), ("attention", "Q4_K"),
        ("experts", "Q4_K"), ("experts", "Q4_1"),
    }  # fmt: skip
    assert sum(kind.weights for kind in done.kinds) * 2 == done.source_bytes


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the journal, whose lines may come in other bundles."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != JOURNAL}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model, of which each piece is committed by itself."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and power is not lost here
    monkeypatch.setattr(source_module, "PIECE_BYTES", 16 << 10)
    monkeypatch.setattr(conversion_module, "COMMIT_S", 0.0)
    return write_mixtral(tmp_path / "source", layers=1, hidden=64, intermediate=32, experts=2, vocab_size=260)


@pytest.fixture
def whole(source: Path, tmp_path: Path) -> dict[str, bytes]:
    """What an undisturbed conversion of it makes."""
    return contents(convert(source, tmp_path / "whole", "q4").path)


def test_cancelled_it_goes_on_where_it_stopped(source: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    target, last = tmp_path / "out", 0
    for _ in range(4):
        seen: list[Progress] = []

        def is_enough() -> bool:
            return sum(progress.phase == "converting" for progress in seen) >= 3  # noqa: B023 - asked at once

        with pytest.raises(OperationCancelledError, match=r"stopped at \d+%"):
            convert(source, target, "q4", seen.append, is_enough)
        assert max([0, *(progress.done_bytes for progress in seen if progress.phase == "verifying")]) == last
        last = seen[-1].done_bytes
        unfinished = find_unfinished(target)
        assert unfinished is not None
        assert (unfinished.source, unfinished.format) == (source, "q4")
        assert not target.exists()
    convert(source, target, "q4")
    assert contents(target) == whole
    assert find_unfinished(target) is None
    assert not unfinished_folder(target).exists()


def test_progress_goes_from_nothing_to_everything(source: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    convert(source, tmp_path / "out", "q8", seen.append)
    done = [progress.done_bytes for progress in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1].total_bytes
    assert list(dict.fromkeys(progress.phase for progress in seen)) == ["converting"]


def test_a_finished_conversion_is_found_again(source: Path, tmp_path: Path) -> None:
    first = convert(source, tmp_path / "out", "q4")
    again = convert(source, tmp_path / "out", "q4")
    assert replace(again, seconds=first.seconds) == first
    with pytest.raises(ConfigurationError, match="exists already"):
        convert(source, tmp_path / "out", "q8")


def test_another_model_or_format_does_not_go_on(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(OperationCancelledError):
        convert(source, target, "q4", cancelled=lambda: True)
    before = (unfinished_folder(target) / JOURNAL).read_bytes()
    with pytest.raises(ConfigurationError, match="another model"):
        convert(source, target, "q8")
    os.utime(source / "model.safetensors", ns=(1, 1))
    with pytest.raises(ConfigurationError, match="another model"):
        convert(source, target, "q4")
    assert (unfinished_folder(target) / JOURNAL).read_bytes() == before


def test_a_model_that_changes_meanwhile_is_not_finished(source: Path, tmp_path: Path) -> None:
    def change(progress: Progress) -> None:
        if progress.done_bytes == progress.total_bytes:
            os.utime(source / "config.json", ns=(1, 1))

    with pytest.raises(CheckpointError, match="changed while"):
        convert(source, tmp_path / "out", "q4", change)
    assert not (tmp_path / "out").exists()


def fail_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, code: int) -> list[int]:
    """Let the n-th call of a method fail as the system would; how often it was called so far."""
    real, calls = getattr(owner, name), [0]

    def call(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    monkeypatch.setattr(owner, name, call)
    return calls


@pytest.mark.parametrize(("owner", "name"), [(DriveFile, "_put"), (Journal, "_append"), (os, "fsync")])
def test_a_full_drive_at_any_moment_is_said_and_costs_nothing(
    owner: Any, name: str, source: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 200):
        target = tmp_path / str(number)
        with monkeypatch.context() as patch:
            calls = fail_at(patch, owner, name, number, errno.ENOSPC)
            if not _is_refused(source, target):
                assert calls[0] < number
                return
        assert not target.exists() or contents(target) == whole  # there, if only the last sync failed
        convert(source, target, "q4")
        assert contents(target) == whole
    raise AssertionError("it never ended")


def _is_refused(source: Path, target: Path) -> bool:
    """Whether a conversion ends with the drive being full, which must be told with what to do."""
    try:
        convert(source, target, "q4")
    except DoesNotFitError as error:
        return "is full" in error.message and "goes on where it stopped" in error.remedy
    return False


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EACCES])
def test_a_failing_drive_is_said(code: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, os, "fsync", 5, code)
    with pytest.raises(EngineFailure, match="cannot be written"):
        convert(source, tmp_path / "out", "q4")


def test_too_little_space_is_refused_with_numbers_and_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100 << 20, 99 << 20, 1 << 20))
    with pytest.raises(DoesNotFitError, match=r"needs 16\.\d MiB more .* 1\.0 MiB are free") as caught:
        convert(source, tmp_path / "out", "q4")
    assert caught.value.needed_bytes > caught.value.available_bytes == 1 << 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_what_reads_back_wrong_is_made_again(source: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(OperationCancelledError):
        convert(source, target, "q4", cancelled=iter([False] * 20 + [True]).__next__)
    path = unfinished_folder(target) / WEIGHTS
    damaged = bytearray(path.read_bytes())
    damaged[-40] ^= 1
    path.write_bytes(damaged)
    seen: list[Progress] = []
    convert(source, target, "q4", seen.append)
    phases = [progress.phase for progress in seen]
    assert list(dict.fromkeys(phases)) == ["verifying", "converting"]
    assert phases.count("converting") == 1 + sum(1 for _ in open_source(source, "q4").pieces()) - phases.count(
        "verifying"
    )
    assert contents(target) == whole


def test_weights_that_went_missing_are_made_again(source: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(OperationCancelledError):
        convert(source, target, "q4", cancelled=iter([False] * 20 + [True]).__next__)
    (unfinished_folder(target) / WEIGHTS).unlink()
    convert(source, target, "q4")
    assert contents(target) == whole


def test_nothing_that_was_just_written_is_read_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = reading_back._crc_of

    def counted(file: FileIO, record: PieceRecord, buffer: memoryview) -> int | None:
        read.append(record.piece)
        return real(file, record, buffer)

    monkeypatch.setattr(reading_back, "_crc_of", counted)
    with pytest.raises(OperationCancelledError):
        convert(source, tmp_path / "out", "q4", cancelled=iter([False] * 20 + [True]).__next__)
    assert read == []
    convert(source, tmp_path / "out", "q4")
    assert read == list(range(20))


def test_nothing_that_is_there_is_overwritten(source: Path, tmp_path: Path) -> None:
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    file.write_text("mine")
    for target in (full, file):
        with pytest.raises(ConfigurationError, match="exists already"):
            convert(source, target, "q4")
    blocked = tmp_path / "blocked.unfinished"
    blocked.mkdir()
    (blocked / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="no unfinished conversion"):
        convert(source, tmp_path / "blocked", "q4")
    assert (full / "mine.txt").read_text() == file.read_text() == (blocked / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("damage", ["missing", "shorter"])
def test_a_finished_conversion_without_its_weights_is_not_done(source: Path, tmp_path: Path, damage: str) -> None:
    path = convert(source, tmp_path / "out", "q4").path / WEIGHTS
    content = path.read_bytes()
    path.unlink()
    if damage == "shorter":
        path.write_bytes(content[:-1])
    with pytest.raises(ConfigurationError, match="exists already"):
        convert(source, tmp_path / "out", "q4")


@pytest.mark.parametrize("name", ["x" * 300, "x" * 250, "a\0b", "there/x"])
def test_a_name_that_no_folder_can_have_is_said(source: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "there").write_text("a file")
    with pytest.raises(RooftopError) as caught:
        convert(source, tmp_path / name, "q4")
    assert caught.value.remedy


def test_a_drive_that_cannot_be_asked_for_its_space_is_said(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(shutil, "disk_usage", gone)
    with pytest.raises(EngineFailure, match="cannot be written"):
        convert(source, tmp_path / "out", "q4")


def test_an_empty_folder_is_taken(source: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert(source, tmp_path / "out", "q4")
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("inside", ["", "q4"])
def test_the_models_own_folder_is_refused(source: Path, inside: str) -> None:
    before = contents(source)
    with pytest.raises(ConfigurationError, match="own folder"):
        convert(source, source / inside, "q4")
    assert contents(source) == before


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    source = write_mixtral(tmp_path / "source")
    with open_checkpoint(source) as checkpoint:
        tensors = {name: weights_of(checkpoint, name).copy() for name in checkpoint.tensors}
    tensors["model.layers.1.self_attn.v_proj.weight"][3, 3] = np.nan
    write_safetensors(source / "model.safetensors", tensors)
    for kind in ("q4", "bf16"):
        with pytest.raises(CheckpointError, match=r"layers\.1\.self_attn\.v_proj"):
            convert(source, tmp_path / kind, kind)


def test_a_source_cut_meanwhile_is_said(source: Path, tmp_path: Path) -> None:
    def cut(_progress: Progress) -> None:
        os.truncate(source / "model.safetensors", 3000)

    with pytest.raises(RooftopError, match="truncated"):
        convert(source, tmp_path / "out", "q4", cut, threads=1)


def test_a_folder_without_its_config_is_told_as_any_gguf_file(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out", "q4")
    (tmp_path / "out" / "config.json").unlink()
    with pytest.raises(RooftopError) as caught:
        open_checkpoint(tmp_path / "out")
    assert caught.value.remedy


def test_the_journal_says_when_all_is_there(source: Path, tmp_path: Path) -> None:
    done = convert(source, tmp_path / "out", "q4")
    last = (tmp_path / "out" / JOURNAL).read_text().splitlines()[-1]
    assert json.loads(last) == {"total": {"bytes": (done.path / WEIGHTS).stat().st_size}}


ARCHITECTURES = pytest.mark.parametrize("architecture", ["llama", "qwen3moe"])


@ARCHITECTURES
def test_a_folder_becomes_what_a_gguf_file_of_the_same_model_becomes(
    tmp_path: Path, architecture: Architecture
) -> None:
    """So names, order of rows and stacks are those of llama.cpp's converter."""
    folder, file = same_model(tmp_path, architecture)
    ours, theirs = (
        read_gguf_header(convert(source, tmp_path / f"{source.suffix}q4", "q4").path / WEIGHTS).tensors
        for source in (folder, file)
    )
    assert ours.keys() == theirs.keys()
    for name, entry in ours.items():
        other = theirs[name]
        assert (entry.format, entry.shape) == (other.format, other.shape)
        assert read_tensor(entry) == read_tensor(other), name


def read_tensor(entry: TensorEntry) -> bytes:
    with entry.file.open("rb") as file:
        file.seek(entry.offset)
        return file.read(entry.nbytes)


@ARCHITECTURES
def test_llama_cpp_runs_what_was_a_gguf_file(tmp_path: Path, architecture: Architecture) -> None:
    _, file = same_model(tmp_path, architecture)
    wanted = llama_logits(file).astype(np.float64)
    got = llama_logits(convert(file, tmp_path / "q8", "q8").path / WEIGHTS).astype(np.float64)
    assert float((wanted * got).sum() / np.sqrt((wanted**2).sum() * (got**2).sum())) > 0.999
