import datetime
import time

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.chat_list import ENTRY_ROLE, SNIPPET_ROLE, ChatListModel, grouped
from app.history import ChatEntry
from app.history_search import MATCH_END, MATCH_START, Found
from app.language import tr

NOW = datetime.datetime(2026, 5, 20, 12, 0, tzinfo=datetime.UTC)


def entry(key: str, days_ago: float = 0, *, pinned: bool = False, folder: str = "") -> ChatEntry:
    return ChatEntry(key, f"Chat {key}", pinned, folder, NOW.timestamp() - days_ago * 86400)


def test_groups() -> None:
    entries = [
        entry("now"), entry("pin", 0.1, pinned=True, folder="Work"), entry("yesterday", 0.6), entry("b", 1, folder="b"),
        entry("a", 1, folder="A"), entry("week", 7), entry("old", 8),
    ]  # fmt: skip
    rows = [row.heading or (row.entry.key if row.entry else "") for row in grouped(entries, NOW)]
    assert rows == [
        "Pinned", "pin", "A", "a", "b", "b", "Today", "now", "Yesterday", "yesterday", "Previous 7 days", "week",
        "Older", "old",
    ]  # fmt: skip
    assert grouped([], NOW) == []


def test_a_search_replaces_the_groups_and_gives_them_back(qtbot: QtBot) -> None:
    model = ChatListModel()
    model.show_entries([entry("a"), entry("b")], NOW)
    assert model.rowCount() == 3
    model.show_found([Found("b", "Chat b", f"the {MATCH_START}word{MATCH_END}"), Found("gone", "x", "")])
    assert [model.index(row).data() for row in range(model.rowCount())] == [tr("%n chats found", 1), "Chat b"]
    assert model.index(1).data(SNIPPET_ROLE) == f"the {MATCH_START}word{MATCH_END}"
    assert model.index(1).data(Qt.ItemDataRole.AccessibleTextRole) == "Chat b, the word"
    model.show_found(None)
    assert model.row_of("a") > 0


def test_headings_cannot_be_chosen_and_names_can_be_edited(qtbot: QtBot) -> None:
    model = ChatListModel()
    model.show_entries([entry("a")], NOW)
    assert model.flags(model.index(0)) == Qt.ItemFlag.NoItemFlags
    with qtbot.waitSignal(model.renamed) as blocker:
        assert model.setData(model.index(1), "New", Qt.ItemDataRole.EditRole)
    assert blocker.args == ["a", "New"]
    with qtbot.assertNotEmitted(model.renamed):
        model.setData(model.index(1), "Chat a", Qt.ItemDataRole.EditRole)


def test_small_changes_do_not_reset_the_list(qtbot: QtBot) -> None:
    model = ChatListModel()
    model.show_entries([entry("a"), entry("b")], NOW)
    with qtbot.assertNotEmitted(model.modelReset), qtbot.waitSignal(model.dataChanged):
        model.show_entries([ChatEntry("a", "Renamed", False, "", NOW.timestamp()), entry("b")], NOW)  # noqa: FBT003
    assert model.index(1).data() == "Renamed"


def test_thousands_of_chats(qtbot: QtBot) -> None:
    model = ChatListModel()
    entries = [entry(str(i), i / 50) for i in range(5000)]
    started = time.thread_time()
    model.show_entries(entries, NOW)
    assert time.thread_time() - started < 1.0
    assert model.index(model.row_of("4999")).data(ENTRY_ROLE) is entries[4999]


@pytest.mark.parametrize(
    ("updated_s", "heading"),
    [(0.0, "Older"), (-1e9, "Older"), (1e11, "Today"), (1e30, "Today"), (-1e30, "Older"), (float("inf"), "Today")],
)
def test_moments_of_a_wrong_clock(updated_s: float, heading: str) -> None:
    rows = grouped([ChatEntry("a", "A", pinned=False, folder="", updated_s=updated_s)], NOW)
    assert rows[0].heading == heading
