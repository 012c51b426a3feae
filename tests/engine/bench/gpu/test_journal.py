"""The journal: what is done stays done, what crashed twice is left alone, what was cut off does no harm."""

from __future__ import annotations

from pathlib import Path

from engine.bench.gpu.journal import Journal


def test_what_is_done_is_there_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "j.jsonl"
    journal = Journal(path)
    journal.start("a")
    journal.finish("a", {"speed": 1.5})
    assert Journal(path).results == journal.results == {"a": {"speed": 1.5}}
    assert not Journal(path).crashed("a")


def test_a_step_that_takes_the_process_with_it_is_tried_twice(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    Journal(path).start("a")
    assert not Journal(path).crashed("a")
    Journal(path).start("a")
    assert Journal(path).crashed("a")
    assert Journal(path).all_crashed == ["a"]


def test_a_step_that_was_stopped_on_purpose_is_not_to_blame(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    for _ in range(5):
        journal = Journal(path)
        journal.start("a")
        journal.interrupt("a")
    assert not Journal(path).crashed("a")


def test_lines_that_are_no_entries_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    Journal(path).finish("a", {"x": 1})
    with path.open("a") as file:
        file.write('[]\n3\n{"key"\n{"other": 1}\n{"key": "b", "res')
    assert Journal(path).results == {"a": {"x": 1}}


def test_a_line_after_one_that_was_cut_off_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"key": "b", "res')
    Journal(path).finish("c", {"x": 1})
    assert Journal(path).results == {"c": {"x": 1}}
