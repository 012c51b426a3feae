import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.hub.record import (
    JOURNAL_FILE,
    MANIFEST,
    Forgotten,
    Journal,
    KeptBlock,
    Line,
    SeenTag,
    bytes_here,
    read_choice,
    write_choice,
)
from engine.hub.repository import Choice, RemoteFile
from tests.engine.test_held_files import Scanner

CHOICE = Choice("Q4_0", "GGUF", (RemoteFile("x/m.gguf", 50_000, "ab" * 32, "e"),), 50_000, "acme/m", "0" * 40, "mit")


def test_a_choice_comes_back_as_it_was(tmp_path: Path) -> None:
    write_choice(tmp_path / MANIFEST, CHOICE)
    assert read_choice(tmp_path / MANIFEST) == CHOICE
    assert [item.name for item in tmp_path.iterdir()] == [MANIFEST]
    assert read_choice(tmp_path / "none") is None


def test_a_choice_waits_for_a_scanner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanner = Scanner(monkeypatch, 3)
    write_choice(tmp_path / MANIFEST, CHOICE)
    assert len(scanner.waits) == 3
    assert read_choice(tmp_path / MANIFEST) == CHOICE


@pytest.mark.parametrize(
    "change",
    [
        {"files": []},
        {"files": [{"path": "../x.gguf", "size_bytes": 50_000, "sha256": None, "etag": ""}]},
        {"files": [{"path": "x.gguf", "size_bytes": -5, "sha256": None, "etag": ""}]},
        {"files": 5},
        {"repo_id": "../.."},
        {"repo_id": None},
        {"commit": "main"},
        {"title": 5},
        {"format": "pickle"},
        {"files": [{"path": "x.gguf", "size_bytes": 50_000, "sha256": "x", "etag": ""}]},
        {"total_bytes": 1},
        {"unknown": 1},
    ],
)
def test_a_manifest_of_strangers_is_no_download(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / MANIFEST
    write_choice(path, CHOICE)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert read_choice(path) is None


def test_the_journal_keeps_its_lines_in_order(tmp_path: Path) -> None:
    lines: list[Line] = [KeptBlock(0, 1, 2), SeenTag(0, '"v1"'), Forgotten(0), KeptBlock(0, 0, 4_000_000_000)]
    for part in (lines[:2], lines[2:]):
        journal = Journal(tmp_path)
        for line in part:
            journal.add(line)
        journal.close()
    assert list(Journal(tmp_path).lines()) == lines


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "5",
        '["block",0,1]',
        '["block",0,1,-2]',
        '["block",0,1,true]',
        '["other",0]',
        "[" * 9999,
        "\ud8ff",
    ],
)
def test_lines_that_are_none_are_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(f'["block",0,1,2]\n{text}\n["forget",0]'.encode(errors="surrogatepass"))
    assert list(Journal(tmp_path).lines()) == [KeptBlock(0, 1, 2), Forgotten(0)]


def test_how_much_is_here_is_known_without_reading_it(tmp_path: Path) -> None:
    assert bytes_here(tmp_path, CHOICE) == 0
    journal = Journal(tmp_path)
    for block in (0, 0, 2):
        journal.add(KeptBlock(0, block, 5))
    journal.close()
    assert bytes_here(tmp_path, CHOICE) == 2 * 16_384
    (tmp_path / "m.gguf").write_bytes(b"")
    assert bytes_here(tmp_path, replace(CHOICE)) == 50_000


@pytest.mark.parametrize(
    "line",
    [
        '["block","a",1,2]',
        '["block",0,"1",2]',
        '["block",0,1,"2"]',
        '["etag","x","e"]',
        '["etag",0,7]',
        '["forget","x"]',
        '["forget",true]',
        "[[],1]",
        "{}",
        "5",
    ],
)
def test_a_line_of_other_types_is_passed_over(tmp_path: Path, line: str) -> None:
    (tmp_path / JOURNAL_FILE).write_text(f'["block",0,1,2]\n{line}\n')
    assert list(Journal(tmp_path).lines()) == [KeptBlock(0, 1, 2)]
