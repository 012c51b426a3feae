"""Pieces read back from a file, held against the file as a whole."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from engine.convert import reading_back
from engine.convert.journal import PieceRecord
from engine.convert.reading_back import read_back

SIZES = (1, 4096, 5000, 3000, 12_345, 7)


@pytest.fixture(autouse=True)
def _in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_back, "_READ_BYTES", 3000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(random.Random(0).randbytes(30_000))
    return path


@pytest.fixture
def records(file: Path) -> list[PieceRecord]:
    """Of pieces with a gap before each."""
    content, found, offset = file.read_bytes(), [], 0
    for piece, size in enumerate(SIZES):
        offset += 32
        crc = zlib.crc32(content[offset : offset + size])
        found.append(PieceRecord(piece, offset, size, crc, 0.0, 0.0, 0.0, 0.0))
        offset += size
    return found


def test_all_are_good_in_the_files_order(file: Path, records: list[PieceRecord]) -> None:
    assert list(read_back(file, reversed(records))) == [(record, True) for record in records]


@pytest.mark.parametrize("place", ["offset", "end"])
def test_one_byte_is_noticed_in_its_piece(file: Path, records: list[PieceRecord], place: str) -> None:
    content = bytearray(file.read_bytes())
    wrong = records[4]
    content[wrong.offset if place == "offset" else wrong.offset + wrong.nbytes - 1] ^= 1
    file.write_bytes(content)
    assert [record for record, is_good in read_back(file, records) if not is_good] == [wrong]


def test_bytes_between_pieces_are_nobodys(file: Path, records: list[PieceRecord]) -> None:
    content = bytearray(file.read_bytes())
    content[records[3].offset - 1] ^= 1
    file.write_bytes(content)
    assert all(is_good for _, is_good in read_back(file, records))


def test_a_file_cut_short_differs_where_it_ends(file: Path, records: list[PieceRecord]) -> None:
    file.write_bytes(file.read_bytes()[: records[3].offset + 1])
    assert [is_good for _, is_good in read_back(file, records)] == [True] * 3 + [False] * 3


def test_zeros_in_place_of_weights_are_noticed(file: Path, records: list[PieceRecord]) -> None:
    """A power cut may leave a file of its full length without its bytes."""
    file.write_bytes(bytes(30_000))
    assert not any(is_good for _, is_good in read_back(file, records))


def test_a_piece_without_bytes_is_what_it_was(file: Path, records: list[PieceRecord]) -> None:
    empty = replace(records[0], nbytes=0, crc32=0)
    assert list(read_back(file, [empty])) == [(empty, True)]
