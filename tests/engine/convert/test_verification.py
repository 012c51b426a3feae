"""A finished conversion, held against its checksums when the user asks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.__main__ import BAD_INPUT, main
from engine.convert import source as source_module
from engine.convert.conversion import convert
from engine.convert.journal import JOURNAL
from engine.convert.verification import verify
from engine.convert.workplace import WEIGHTS, unfinished_folder
from engine.errors import CheckpointError, ConfigurationError, OperationCancelledError
from tests.checkpoints import write_mixtral


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished conversion whose source is gone."""
    monkeypatch.setattr(source_module, "PIECE_BYTES", 8 << 10)
    model = write_mixtral(tmp_path / "model", layers=1, hidden=64, intermediate=32, experts=2, vocab_size=260)
    convert(model, tmp_path / "out", "q8")
    shutil.rmtree(model)
    return tmp_path / "out"


def journal_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def test_what_is_as_it_was_written_is_told(converted: Path) -> None:
    told: list[tuple[int, int]] = []
    found = verify(converted, lambda done, total: told.append((done, total)))
    pieces = journal_of(converted)[1:-1]
    assert (found.path, found.pieces, found.bytes) == (converted, len(pieces), sum(piece["nbytes"] for piece in pieces))
    assert found.pieces > 10
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (found.bytes, found.bytes)


@pytest.mark.parametrize("place", ["header", "first", "last"])
def test_a_bit_that_turned_is_found(converted: Path, place: str) -> None:
    path = converted / WEIGHTS
    content = bytearray(path.read_bytes())
    content[{"header": 10, "first": journal_of(converted)[1]["offset"], "last": -1}[place]] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"is damaged: {0 if place == 'header' else 1} of its"):
        verify(converted)


@pytest.mark.parametrize("change", [-1, 1])
def test_another_length_is_found(converted: Path, change: int) -> None:
    path = converted / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[:-1] if change < 0 else content + b"x")
    with pytest.raises(CheckpointError, match="is damaged"):
        verify(converted)


def test_missing_weights_are_said(converted: Path) -> None:
    (converted / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        verify(converted)


@pytest.mark.parametrize("content", [None, "", "[]\n", '{"rooftop": 1}\n', '{"rooftop": 4}\n{"total": {"bytes": 0}}\n'])
def test_a_folder_without_checksums_is_said(converted: Path, content: str | None) -> None:
    (converted / JOURNAL).unlink()
    if content is not None:
        (converted / JOURNAL).write_text(content)
    with pytest.raises(ConfigurationError, match="is no finished conversion"):
        verify(converted)


@pytest.mark.parametrize("field", ["offset", "nbytes", "crc32", "piece"])
@pytest.mark.parametrize("value", [-1, "x", None, 1.5])
def test_a_line_that_makes_no_sense_counts_as_not_written(converted: Path, field: str, value: object) -> None:
    lines = journal_of(converted)
    lines[1][field] = value
    (converted / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(CheckpointError, match="is damaged"):  # the header seems to end later
        verify(converted)


def test_an_unfinished_conversion_is_said(tmp_path: Path) -> None:
    model = write_mixtral(tmp_path / "model", layers=1, hidden=64, intermediate=32, experts=2, vocab_size=260)
    with pytest.raises(OperationCancelledError):
        convert(model, tmp_path / "out", "q8", cancelled=iter([False] * 4 + [True]).__next__)
    with pytest.raises(ConfigurationError, match="is no finished conversion"):
        verify(unfinished_folder(tmp_path / "out"))


def test_the_command(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--model", str(converted), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(converted)
    (converted / WEIGHTS).write_bytes(b"")
    assert main(["verify", "--model", str(converted)]) == BAD_INPUT
    error = capsys.readouterr().err
    assert "is damaged" in error
    assert len(error.splitlines()) == 1
