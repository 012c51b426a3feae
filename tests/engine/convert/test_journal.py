"""The journal: what counts after a crash, and whose it is."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.convert.journal import JOURNAL, Identity, Journal, PieceRecord, read_journal
from engine.errors import ConfigurationError

IDENTITY = Identity("q4", "ab12", [["model.safetensors", 100, 5, "cd"]], "/models/one")


@pytest.fixture(autouse=True)
def _without_waiting_for_the_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def record(piece: int) -> PieceRecord:
    return PieceRecord(piece, 100 * piece, 100, 7 * piece, 0.5, 100.0, 0.1, 0.2)


def written(folder: Path, pieces: int) -> bytes:
    """A journal of so many pieces, as it lies on the drive."""
    journal = Journal.open(folder, IDENTITY)
    for piece in range(pieces):
        journal.add([record(piece)])
    journal.close()
    return (folder / JOURNAL).read_bytes()


def test_what_was_told_is_known_again(tmp_path: Path) -> None:
    written(tmp_path, 3)
    journal = Journal.open(tmp_path, IDENTITY)
    assert journal.records == {piece: record(piece) for piece in range(3)}
    journal.drop([1])
    journal.finish({"bytes": 300})
    journal.close()
    again = Journal.open(tmp_path, IDENTITY)
    assert sorted(again.records) == [0, 2]
    assert again.total == {"bytes": 300}
    again.close()


def test_cut_anywhere_only_whole_lines_count(tmp_path: Path) -> None:
    whole = written(tmp_path, 3)
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(0, len(whole), 7):
        (tmp_path / JOURNAL).write_bytes(whole[:length])
        journal = Journal.open(tmp_path, IDENTITY)
        journal.add([record(9)])
        journal.close()
        again = Journal.open(tmp_path, IDENTITY)
        kept = sum(end <= length for end in ends)
        assert sorted(again.records) == [*range(kept - 1), 9] if kept else [9]
        again.close()


def test_lines_of_nonsense_count_as_not_written(tmp_path: Path) -> None:
    whole = written(tmp_path, 2)
    (tmp_path / JOURNAL).write_bytes(whole + b'\0\0\0\n{"piece": 5}\n[]\n')
    journal = Journal.open(tmp_path, IDENTITY)
    assert sorted(journal.records) == [0, 1]
    journal.close()


@pytest.mark.parametrize(
    "other",
    [
        replace(IDENTITY, format="q8"),
        replace(IDENTITY, layout="cd34"),
        replace(IDENTITY, files=[["model.safetensors", 100, 6, "cd"]]),
    ],
)
def test_another_conversion_is_refused(tmp_path: Path, other: Identity) -> None:
    before = written(tmp_path, 1)
    with pytest.raises(ConfigurationError, match="another model"):
        Journal.open(tmp_path, other)
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_the_same_files_elsewhere_are_the_same(tmp_path: Path) -> None:
    written(tmp_path, 1)
    Journal.open(tmp_path, replace(IDENTITY, source="/mnt/one")).close()


def test_only_one_process_at_a_time(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, IDENTITY)
    with pytest.raises(ConfigurationError, match="is running"):
        Journal.open(tmp_path, IDENTITY)
    journal.close()
    Journal.open(tmp_path, IDENTITY).close()


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from engine.convert.journal import Identity, Journal\n"
        "journal = Journal.open(Path(sys.argv[1]), Identity('q4', 'ab12', [['model.safetensors', 100, 5, 'cd']]))\n"
        "os.abort()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False)
    assert done.returncode < 0
    Journal.open(tmp_path, IDENTITY).close()


def test_what_a_folder_says_of_its_conversion(tmp_path: Path) -> None:
    assert read_journal(tmp_path) is None
    written(tmp_path, 1)
    found = read_journal(tmp_path)
    assert found is not None
    assert (found["format"], found["source"]) == ("q4", "/models/one")
    for foreign in (b"", b"\0\n", b"[1]\n", b'{"rooftop": 99}\n', b"\xff\xfe\n"):
        (tmp_path / JOURNAL).write_bytes(foreign)
        assert read_journal(tmp_path) is None
