"""Reading back behind the writing, held against the file read in one go."""

from __future__ import annotations

import hashlib
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from engine.convert import source as source_module
from engine.convert import verification as verification_module
from engine.convert.journal import PieceRecord
from engine.convert.source import Piece, open_source
from engine.convert.verification import Verification
from tests.checkpoints import write_mixtral


@pytest.fixture
def pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """Of a small model, with reads that end within pieces."""
    monkeypatch.setattr(source_module, "PIECE_BYTES", 8 << 10)
    monkeypatch.setattr(verification_module, "_READ_BYTES", 3_000)
    model = write_mixtral(tmp_path / "model", layers=1, hidden=64, intermediate=32, experts=2, vocab_size=260)
    return list(open_source(model, "q8").pieces())


@pytest.fixture
def file(tmp_path: Path, pieces: list[Piece]) -> Path:
    """A file as long as theirs."""
    path = tmp_path / "weights"
    path.write_bytes(b"".join(hashlib.sha256(b"%d" % line).digest() for line in range(-(-pieces[-1].end // 32))))
    path.write_bytes(path.read_bytes()[: pieces[-1].end])
    return path


def recorded(path: Path, piece: Piece) -> PieceRecord:
    return PieceRecord(piece.number, zlib.crc32(path.read_bytes()[piece.offset : piece.end]), 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_it_is_the_same_however_the_pieces_come(file: Path, pieces: list[Piece], step: int) -> None:
    records: dict[int, PieceRecord] = {}
    told: list[int] = []
    with closing(Verification(file, iter(pieces), records)) as verification:
        for first in range(0, len(pieces), step):
            records |= {piece.number: recorded(file, piece) for piece in pieces[first : first + step]}
            verification.follow()
        assert verification.finish(told.append) == hashlib.sha256(file.read_bytes()).hexdigest()
        assert verification.bad == []
    assert sum(told) == pieces[-1].end
    assert min(told) >= 0


def test_every_piece_that_differs_is_named(file: Path, pieces: list[Piece]) -> None:
    records = {piece.number: recorded(file, piece) for piece in pieces}
    wrong = [3, len(pieces) - 1]
    for number in wrong:
        records[number] = replace(records[number], crc32=records[number].crc32 ^ 1)
    with closing(Verification(file, iter(pieces), records)) as verification:
        assert verification.finish(lambda _: None) == hashlib.sha256(file.read_bytes()).hexdigest()
        assert verification.bad == wrong


def test_a_file_cut_short_differs_where_it_ends(file: Path, pieces: list[Piece]) -> None:
    records = {piece.number: recorded(file, piece) for piece in pieces}
    file.write_bytes(file.read_bytes()[: pieces[-3].offset + 1])
    with closing(Verification(file, iter(pieces), records)) as verification:
        verification.finish(lambda _: None)
        assert verification.bad == [piece.number for piece in pieces[-3:]]


def test_a_drive_that_fails_behind_is_told_at_the_next_step(file: Path, pieces: list[Piece]) -> None:
    records = {piece.number: recorded(file, piece) for piece in pieces}
    with closing(Verification(file, iter(pieces), records)) as verification:
        verification._file.close()
        verification._file = file.parent.joinpath("new").open("wb", buffering=0)
        with pytest.raises(OSError, match="not open for reading"):
            verification.finish(lambda _: None)


def test_closed_it_reads_no_further(file: Path, pieces: list[Piece]) -> None:
    records = {piece.number: recorded(file, piece) for piece in pieces}
    verification = Verification(file, iter(pieces), records)
    verification.close()
    verification.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        verification.follow()
