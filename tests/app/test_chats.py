"""All chats through the real window, with a file and with what goes wrong with it."""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog, QMessageBox
from pytestqt.qtbot import QtBot

from app.application import Application
from app.chats import LAST_CHAT, MOST_CRASHES, RESTORING
from app.conversation import Attachment
from app.engine_client import EngineState
from app.history import History
from app.history_schema import SCHEMA_VERSION
from app.settings import Settings, save_settings
from app.widgets.composer import ComposerMode
from engine.messages import Generate
from tests.app.chat_window import LONG, ask, mode, texts
from tests.app.fake_host import FakeHost
from tests.app.test_history import make_chat, save

Make = Callable[..., Application]


def notes(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    try:
        return dict(connection.execute("SELECT name, value FROM notes").fetchall())
    finally:
        connection.close()


# ---- keeping ----


def test_the_last_chat_is_there_at_the_next_start(start: Callable[[], Application], qtbot: QtBot) -> None:
    rooftop = start()
    ask(rooftop, qtbot, "What is an expert?")
    rooftop.chat.composer.set_draft("half a thou")
    rooftop.window.close()
    rooftop = start()
    qtbot.waitUntil(lambda: texts(rooftop) == ["What is an expert?", "Hello **world**."])
    assert rooftop.chat.composer.draft == "half a thou"
    assert [entry.name for entry in rooftop.chats.entries] == ["What is an expert?"]


def test_the_message_is_on_the_disk_before_the_engine_hears_of_it(
    start: Callable[[], Application], qtbot: QtBot, host: FakeHost, chats_path: Path
) -> None:
    rooftop = start()
    seen: list[list[str]] = []
    send = host.send

    def spy(request: object) -> None:
        if isinstance(request, Generate):
            connection = sqlite3.connect(chats_path)
            seen.append([text for (text,) in connection.execute("SELECT text FROM messages WHERE role = 'user'")])
            connection.close()
        send(request)  # type: ignore[arg-type]

    host.send = spy  # type: ignore[method-assign]
    ask(rooftop, qtbot, "Keep me")
    assert seen == [["Keep me"]]


def test_a_partial_reply_is_saved_while_it_is_written_and_has_broken_off_after_a_crash(
    start: Callable[[], Application], qtbot: QtBot, host: FakeHost, chats_path: Path, tmp_path: Path
) -> None:
    rooftop = start()
    host.hold_reply, host.reply = True, LONG
    rooftop.session.submit("Count")

    def saved() -> bool:
        history = History(chats_path)
        chat = history.load(rooftop.session.conversation.key)
        history.close()
        return chat is not None and len(chat.messages) == 2 and chat.messages[1].text.startswith("one two")

    qtbot.waitUntil(saved, timeout=5000)
    crashed = tmp_path / "crashed.db"
    for end in ("", "-wal"):  # what the disk holds at this moment
        crashed.with_name(crashed.name + end).write_bytes(chats_path.with_name(chats_path.name + end).read_bytes())
    history = History(crashed)
    chat = history.load(rooftop.session.conversation.key)
    assert chat is not None
    assert chat.messages[1].state == "failed"
    history.close()
    rooftop.session.stop()


def test_a_draft_belongs_to_its_chat(start: Callable[[], Application], qtbot: QtBot) -> None:
    rooftop = start()
    ask(rooftop, qtbot, "One")
    first = rooftop.session.conversation.key
    rooftop.chat.composer.set_draft("for the first")
    rooftop.window.new_chat_requested.emit()
    assert rooftop.chat.composer.draft == ""
    rooftop.chat.composer.set_draft("for the second")
    rooftop.chats.open(first)
    assert rooftop.chat.composer.draft == "for the first"
    assert "for the second" in [entry.name for entry in rooftop.chats.entries]
    second = next(entry.key for entry in rooftop.chats.entries if entry.name == "for the second")
    rooftop.chats.open(second)
    rooftop.chat.composer.clear_draft()
    rooftop.chats.open(first)
    assert [entry.key for entry in rooftop.chats.entries] == [first]


def test_files_of_a_draft_stay_with_its_chat(
    start: Callable[[], Application], qtbot: QtBot, chats_path: Path, host: FakeHost
) -> None:
    rooftop = start()
    composer = rooftop.chat.composer
    files: tuple[Attachment, ...] = (Attachment("notes.txt", "quagmire"),)
    composer.set_attachments(files)
    key = rooftop.session.conversation.key
    rooftop.window.new_chat_requested.emit()
    assert not composer.attachments
    assert composer.chips.texts == []
    assert [entry.name for entry in rooftop.chats.entries] == ["notes.txt"]
    rooftop.chats.open(key)
    assert composer.attachments == files
    rooftop.window.close()
    rooftop = start()
    qtbot.waitUntil(lambda: rooftop.session.conversation.key == key)
    assert rooftop.chat.composer.attachments == files
    rooftop.chat.composer._submit()
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert not rooftop.chat.composer.attachments
    request = [one for one in host.requests if isinstance(one, Generate)][-1]
    assert "quagmire" in request.messages[-1].content
    assert [entry.name for entry in rooftop.chats.entries] == ["notes.txt"], "the file names the chat that it began"
    rooftop.window.close()
    connection = sqlite3.connect(chats_path)
    assert connection.execute("SELECT * FROM draft_files").fetchall() == []
    connection.close()


def test_a_chat_that_ends_the_app_is_not_opened_for_ever(
    start: Callable[[], Application], qtbot: QtBot, chats_path: Path
) -> None:
    history = History(chats_path)
    chat = make_chat("Poison", "x")
    save(history, chat)
    history.set_note(LAST_CHAT, chat.key)
    history.set_note(RESTORING, "x" * MOST_CRASHES)
    history.close()
    rooftop = start()
    assert texts(rooftop) == []
    assert "not opened" in rooftop.chat.banners.banners["history"].text
    rooftop.window.close()
    assert notes(chats_path)[RESTORING] == ""


def test_two_windows_share_the_chats(start: Callable[[], Application], qtbot: QtBot, chats_path: Path) -> None:
    rooftop = start()
    ask(rooftop, qtbot, "Mine")
    other = History(chats_path)
    save(other, make_chat("Theirs"))
    other.close()
    rooftop.window.activated.emit()
    assert {entry.name for entry in rooftop.chats.entries} == {"Mine", "Theirs"}


# ---- what goes wrong ----


def test_a_damaged_file_is_told_and_set_aside(start: Callable[[], Application], qtbot: QtBot, chats_path: Path) -> None:
    chats_path.parent.mkdir()
    chats_path.write_bytes(bytes(50_000))
    rooftop = start()
    assert "damaged" in rooftop.chat.banners.banners["history"].text
    ask(rooftop, qtbot, "Hi")
    rooftop.window.close()
    history = History(chats_path)
    assert len(history.entries()) == 1
    history.close()
    assert [p.stat().st_size for p in chats_path.parent.glob("*damaged*.db")] == [50_000]


def test_a_newer_file_is_left_alone(start: Callable[[], Application], qtbot: QtBot, chats_path: Path) -> None:
    History(chats_path).close()
    connection = sqlite3.connect(chats_path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = chats_path.read_bytes()
    rooftop = start()
    banner = rooftop.chat.banners.banners["history"]
    assert "newer version" in banner.text
    assert [button.text() for button in banner.buttons] == ["Open folder"]
    ask(rooftop, qtbot, "Still works")
    rooftop.window.close()
    assert chats_path.read_bytes() == before


def test_without_a_place_to_write_chats_stay_in_memory_until_there_is_one(
    start: Callable[[], Application], qtbot: QtBot, chats_path: Path
) -> None:
    chats_path.parent.write_text("a file is in the way")
    rooftop = start()
    banner = rooftop.chat.banners.banners["history"]
    assert "in memory" in banner.text
    ask(rooftop, qtbot, "First")
    rooftop.window.new_chat_requested.emit()
    ask(rooftop, qtbot, "Second")
    chats_path.parent.unlink()
    banner.buttons[0].click()
    assert "history" not in rooftop.chat.banners.banners
    rooftop.window.close()
    history = History(chats_path)
    assert {entry.name for entry in history.entries()} == {"First", "Second"}
    history.close()


def test_a_disk_that_fills_up_loses_nothing(start: Callable[[], Application], qtbot: QtBot, chats_path: Path) -> None:
    rooftop = start()
    ask(rooftop, qtbot, "Before")
    writer = rooftop.chats._thread
    limits: list[int] = []

    def limit(history: History) -> None:
        connection = history._connection
        limits.append(connection.execute("PRAGMA page_count").fetchone()[0])
        connection.execute(f"PRAGMA max_page_count = {limits[0]}")

    writer.run(limit)
    ask(rooftop, qtbot, "word " * 6000)
    qtbot.waitUntil(lambda: "history" in rooftop.chat.banners.banners)
    banner = rooftop.chat.banners.banners["history"]
    assert "full" in banner.text
    big = rooftop.session.conversation.key
    rooftop.window.new_chat_requested.emit()
    assert rooftop.chats.open(big)
    writer.run(lambda history: history._connection.execute("PRAGMA max_page_count = 1000000").fetchall())
    banner.buttons[0].click()
    qtbot.waitUntil(lambda: rooftop.chats.unsaved == 0)
    rooftop.window.close()
    history = History(chats_path)
    loaded = history.load(big)
    assert loaded is not None
    assert [len(m.text) for m in loaded.messages][-2] == 29_999
    history.close()


# ---- several chats ----


def test_a_reply_goes_on_while_another_chat_is_shown(
    start: Callable[[], Application], qtbot: QtBot, host: FakeHost
) -> None:
    rooftop = start()
    host.hold_reply, host.reply = True, LONG
    rooftop.session.submit("Count")
    qtbot.waitUntil(lambda: texts(rooftop)[-1:] != [""] and len(texts(rooftop)) == 2)
    first = rooftop.session.conversation.key
    model = rooftop.window.sidebar.model
    assert "being written" in model.data(model.index(model.row_of(first)), Qt.ItemDataRole.AccessibleTextRole)
    rooftop.window.new_chat_requested.emit()
    assert mode(rooftop) is ComposerMode.SEND
    rooftop.chat.composer.set_draft("And now?")
    rooftop.chat.composer.send_requested.emit("And now?")
    assert mode(rooftop) is ComposerMode.QUEUED
    assert "another chat" in rooftop.chat.composer.hint
    host.release()
    qtbot.waitUntil(lambda: not rooftop.session.busy and not rooftop.session.queued)
    assert texts(rooftop) == ["And now?", LONG]
    rooftop.chats.open(first)
    assert texts(rooftop) == ["Count", LONG]
    assert "being written" not in model.data(model.index(model.row_of(first)), Qt.ItemDataRole.AccessibleTextRole)


def test_coming_back_to_a_reply_that_is_being_written(
    start: Callable[[], Application], qtbot: QtBot, host: FakeHost
) -> None:
    rooftop = start()
    host.hold_reply, host.reply = True, LONG
    rooftop.session.submit("Count")
    qtbot.waitUntil(lambda: rooftop.session.conversation.messages[-1].text != "")
    first = rooftop.session.conversation.key
    rooftop.window.new_chat_requested.emit()
    rooftop.chats.open(first)
    assert rooftop.chat.composer.mode is ComposerMode.STOP
    host.release()
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    markdown = rooftop.chat.transcript.views[-1].markdown
    assert markdown is not None
    assert markdown.source == LONG


def test_deleting_can_be_undone_and_stops_the_reply(
    start: Callable[[], Application], qtbot: QtBot, host: FakeHost, chats_path: Path
) -> None:
    rooftop = start()
    ask(rooftop, qtbot, "Keep")
    rooftop.window.new_chat_requested.emit()
    host.hold_reply, host.reply = True, LONG
    rooftop.session.submit("Count")
    qtbot.waitUntil(lambda: rooftop.session.conversation.messages[-1].text != "")
    key = rooftop.session.conversation.key
    rooftop.window.sidebar.delete_requested.emit(key)
    assert not rooftop.session.busy
    assert texts(rooftop) == ["Keep", "Hello **world**."]
    assert rooftop.chat.toast.text == "Chat deleted"
    rooftop.chat.toast.button.click()
    qtbot.waitUntil(lambda: rooftop.session.conversation.key == key)
    assert texts(rooftop)[0] == "Count"
    assert rooftop.session.conversation.messages[1].state == "stopped"
    rooftop.chats.delete(key)
    rooftop.window.close()
    history = History(chats_path)
    assert [entry.name for entry in history.entries()] == ["Keep"]
    assert history.load(key) is None
    history.close()


def confirm(rooftop: Application, name: str) -> None:
    """Answer the question before all chats are deleted."""
    box = rooftop.window.findChild(QMessageBox)
    assert box is not None
    assert box.text() == "Delete all 2 chats?"
    next(one for one in box.buttons() if one.text().replace("&", "") == name).click()
    box.close()


def test_deleting_all_is_asked_for_can_be_undone_and_leaves_nothing(
    start: Callable[[], Application], qtbot: QtBot, chats_path: Path
) -> None:
    rooftop = start()
    rooftop._desk.ask_delete_all(rooftop.window)
    assert rooftop.chat.toast.text == "There are no chats to delete."
    ask(rooftop, qtbot, "quagmire")
    rooftop.window.new_chat_requested.emit()
    ask(rooftop, qtbot, "xylophone")
    rooftop.window.sidebar.delete_all_requested.emit()
    confirm(rooftop, "Cancel")
    assert len(rooftop.chats.entries) == 2
    rooftop.window.sidebar.delete_all_requested.emit()
    confirm(rooftop, "Delete all")
    assert rooftop.chats.entries == []
    assert texts(rooftop) == []
    assert rooftop.chat.toast.text == "2 chats deleted"
    rooftop.chat.toast.button.click()
    qtbot.waitUntil(lambda: texts(rooftop)[:1] == ["xylophone"])
    assert {entry.name for entry in rooftop.chats.entries} == {"quagmire", "xylophone"}
    rooftop.chats.delete_all()
    rooftop.window.close()
    left = b"".join(file.read_bytes() for file in chats_path.parent.iterdir())
    assert b"quagmire" not in left
    assert b"xylophone" not in left
    assert start().chats.entries == []


def test_a_deleted_message_is_gone_from_the_file_when_the_app_is_closed(
    start: Callable[[], Application], qtbot: QtBot, chats_path: Path
) -> None:
    rooftop = start()
    ask(rooftop, qtbot, "Hi")
    ask(rooftop, qtbot, "xylophone")
    rooftop.session.delete_message(rooftop.session.conversation.messages[2])
    rooftop.window.close()
    assert b"xylophone" not in b"".join(file.read_bytes() for file in chats_path.parent.iterdir())


def test_the_last_chat_is_not_opened_where_nobody_wants_it(
    make_rooftop: Make, qtbot: QtBot, tmp_path: Path, chats_path: Path
) -> None:
    history = History(chats_path)
    chat = make_chat("Secret", "x")
    save(history, chat)
    history.set_note(LAST_CHAT, chat.key)
    history.close()
    save_settings(Settings(reopen_last_chat=False), tmp_path / "settings.json")
    rooftop = make_rooftop(history_path=chats_path, settings_path=tmp_path / "settings.json")
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    assert len(rooftop.chats.entries) == 1
    assert texts(rooftop) == []


# ---- files ----


def test_out_and_in_again(start: Callable[[], Application], qtbot: QtBot, tmp_path: Path) -> None:
    rooftop = start()
    ask(rooftop, qtbot, "Hi")
    desk = rooftop._desk
    desk.export_to(tmp_path / "x.json", rooftop.chats.every_chat())
    assert "x.json" in rooftop.chat.toast.text
    assert len(json.loads((tmp_path / "x.json").read_text())["chats"]) == 1
    desk.export_to(tmp_path / "x.md", rooftop.chats.every_chat())
    assert (tmp_path / "x.md").read_text().startswith("# Hi")
    (tmp_path / "bad.json").write_text("[")
    desk.import_from([tmp_path / "bad.json", tmp_path / "x.json"])
    assert len(rooftop.chats.entries) == 2
    assert texts(rooftop) == ["Hi", "Hello **world**."]
    assert "bad.json cannot be imported" in rooftop.chat.banners.banners["import"].text
    desk.export_to(tmp_path / "nowhere" / "x.json", rooftop.chats.every_chat())
    assert "cannot be written" in rooftop.chat.banners.banners["export"].text


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_home(start: Callable[[], Application], chats_path: Path) -> None:
    chats_path.parent.mkdir()
    chats_path.parent.chmod(0o500)
    rooftop = start()
    assert "in memory" in rooftop.chat.banners.banners["history"].text
    chats_path.parent.chmod(0o700)


@pytest.mark.parametrize(
    ("typed", "kind", "written"),
    [
        ("a.json", "(*.json)", "a.json"),
        ("a", "(*.json)", "a (2).json"),
        ("a.md", "(*.json)", "a.md"),
        ("a.json", "(*.md)", "a (2).md"),
        ("b.json", "(*.md)", "b.md"),
        ("b.c", "(*.md)", "b.c"),
    ],
)
def test_an_export_goes_where_the_dialog_was_told_and_nowhere_else(
    start: Callable[[], Application],
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    kind: str,
    written: str,
) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    for name in ("a.json", "a.md"):
        (folder / name).write_text("old")
    rooftop = start()
    ask(rooftop, qtbot, "First,  second")
    suggested: list[str] = []

    def answer(_parent: object, _title: str, name: str, _filters: str) -> tuple[str, str]:
        suggested.append(name)
        return str(folder / typed), kind

    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    rooftop.window.export_requested.emit(False)  # noqa: FBT003
    assert suggested == ["First second.json"]
    assert "First" in (folder / written).read_text()
    assert [name for name in ("a.json", "a.md") if (folder / name).read_text() != "old"] in ([], [written])
