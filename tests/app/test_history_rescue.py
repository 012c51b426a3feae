import sqlite3
from pathlib import Path

import pytest

from app.history import History
from app.history_errors import NewerHistoryError
from app.history_rescue import back_up_if_old, backup_path, open_history, set_aside
from tests.app.test_history import dump, load, make_chat, save


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chats.db"


def write(path: Path, count: int) -> list[str]:
    """Chats in a closed file; returns their keys."""
    history = History(path)
    chats = [make_chat(f"Question {i}", "word " * 200) for i in range(count)]
    save(history, *chats)
    history.close()
    return [chat.key for chat in chats]


def aside_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob("chats.damaged-*.db"))


def test_a_sound_file_is_opened_without_a_word(path: Path) -> None:
    write(path, 3)
    history, notice = open_history(path)
    assert (notice, len(history.entries())) == ("", 3)
    history.close()
    assert aside_of(path) == []


def test_a_truncated_file_gives_what_it_has(path: Path) -> None:
    keys = write(path, 400)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    history, notice = open_history(path)
    found = {entry.key for entry in history.entries()}
    assert found <= set(keys)
    assert len(found) > 10
    assert f"{len(found)} chats" in notice
    (aside,) = aside_of(path)
    assert aside.stat().st_size == len(whole) * 3 // 4
    assert aside.name in notice
    assert history.search("question 3")
    history.close()
    history, notice = open_history(path)
    assert notice == ""
    history.close()


def test_a_hole_in_the_middle_costs_only_what_lay_there(path: Path) -> None:
    keys = write(path, 300)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 8192] = bytes(8192)
    path.write_bytes(data)
    history, notice = open_history(path)
    assert "damaged" in notice
    assert len(history.entries()) > len(keys) // 2
    history.close()


def test_a_file_full_of_nuls_comes_back_from_the_copy(path: Path) -> None:
    history = History(path)
    chat = make_chat("Hi", "Hello")
    save(history, chat)
    back_up_if_old(history)
    history.close()
    path.write_bytes(bytes(path.stat().st_size))
    history, notice = open_history(path)
    assert dump(load(history, chat)) == dump(chat)
    assert "1 chats" in notice
    assert aside_of(path)[0].read_bytes().count(0) == aside_of(path)[0].stat().st_size
    history.close()


def test_a_file_full_of_nuls_without_a_copy(path: Path) -> None:
    path.write_bytes(bytes(40960))
    history, notice = open_history(path)
    assert history.entries() == []
    assert "nothing of it could be read" in notice
    save(history, make_chat("Hi"))
    history.close()


def test_the_copy_is_renewed_once_a_day(path: Path) -> None:
    history = History(path)
    back_up_if_old(history)
    first = backup_path(path).stat().st_ino
    back_up_if_old(history)
    assert backup_path(path).stat().st_ino == first
    history.close()


def test_nothing_that_was_set_aside_is_overwritten(path: Path) -> None:
    for _ in range(3):
        path.write_bytes(b"x")
        set_aside(path)
    assert len(aside_of(path)) == 3


def test_a_newer_file_is_not_rescued(path: Path) -> None:
    History(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NewerHistoryError):
        open_history(path)
    assert aside_of(path) == []
