"""Reading and writing through the real window: thoughts, finding, files, the context and what is left out of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QPlainTextEdit
from pytestqt.qtbot import QtBot

from app.application import Application
from app.conversation import Attachment, Message
from app.widgets.attachment_chips import AttachmentChips, TextDialog
from app.widgets.message_view import MAX_SHOWN_CHARS, MessageView
from app.widgets.thoughts_view import ThoughtsView
from app.widgets.user_bubble import MAX_BUBBLE_CHARS, ShowAllButton
from engine.messages import CountTokens, ErrorReport, Failed, Generate, LeftOut
from tests.app.fake_host import FakeHost

THOUGHT = "<think>\nThey greet me.\nI greet back.\n</think>\n\nHello!"


def ask(rooftop: Application, qtbot: QtBot, text: str = "Hi") -> None:
    rooftop.chat.composer.set_draft(text)
    rooftop.chat.composer._submit()
    qtbot.waitUntil(lambda: not rooftop.session.busy)


def thoughts(rooftop: Application) -> ThoughtsView:
    return rooftop.chat.transcript.views[-1].findChildren(ThoughtsView)[0]


def generated(host: FakeHost) -> Generate:
    return next(request for request in reversed(host.requests) if isinstance(request, Generate))


# ---- thoughts -------------------------------------------------------------------------------------------------------


def test_thoughts_are_folded_and_can_be_read(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    host.reply = THOUGHT
    ask(rooftop, qtbot)
    view = rooftop.chat.transcript.views[-1]
    assert view.markdown is not None
    assert view.markdown.source == "Hello!"
    fold = thoughts(rooftop)
    assert fold.isVisible()
    assert fold.title.startswith("Thought for")
    assert fold.body is None
    fold.unfold()
    assert fold.body is not None
    assert "I greet back." in fold.body.source
    ask(rooftop, qtbot, "Again")
    assert [turn.content for turn in generated(host).messages] == ["Hi", "Hello!", "Again"]


def test_while_thinking_the_latest_line_is_shown(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    host.reply, host.hold_reply, host.tokens_per_poll = "<think>One.\n\nTwo three four five</think> Done.", True, 3
    rooftop.session.submit("Hi")
    qtbot.waitUntil(lambda: rooftop.session.conversation.messages[-1].text.endswith("three "))
    fold = thoughts(rooftop)
    assert (fold.title, fold.preview) == ("Thinking…", "Two three")
    assert rooftop.chat.transcript.views[-1].markdown is not None
    assert rooftop.chat.transcript.views[-1].markdown.source == ""
    host.release()
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert fold.title.startswith("Thought for")
    assert rooftop.chat.transcript.views[-1].markdown.source == "Done."


def test_thoughts_of_an_older_chat_are_counted_in_words(qtbot: QtBot, rooftop: Application) -> None:
    rooftop.chat.transcript.show_messages([Message("assistant", THOUGHT)])
    qtbot.waitUntil(lambda: rooftop.chat.transcript.views[0].built)
    assert thoughts(rooftop).title == "Thought for 6 words"


# ---- finding --------------------------------------------------------------------------------------------------------


def find(rooftop: Application, qtbot: QtBot, text: str) -> QLineEdit:
    rooftop.chat.find_bar.open_bar()
    edit = rooftop.chat.find_bar.findChild(QLineEdit)
    assert edit is not None
    edit.setText(text)
    qtbot.waitUntil(lambda: not rooftop.chat.find_bar.searching)
    return edit


def test_find_goes_from_match_to_match_in_a_long_chat(rooftop: Application, qtbot: QtBot) -> None:
    messages = []
    for number in range(200):
        needle = " **need**le" if number % 20 == 0 else ""
        messages += [
            Message("user", f"Question {number}"),
            Message("assistant", f"Answer{needle}.\n\n" + "Words. " * 40),
        ]
    rooftop.chat.transcript.show_messages(messages)
    bar = rooftop.chat.find_bar
    edit = find(rooftop, qtbot, "NEEDLE")
    assert bar.count_text.endswith(" of 10")
    seen = set()
    for _ in range(10):
        QTest.keyClick(edit, Qt.Key.Key_Return)
        seen.add(bar.count_text)
        assert bar._current is not None
        view = rooftop.chat.transcript.views[bar._current.message]
        assert view.built
        rect = view.reveal()
        assert rect is not None
        scroll = rooftop.chat.transcript._scroll
        y = view.y() + rect.y() - scroll.verticalScrollBar().value()
        assert 0 <= y < scroll.viewport().height()
    assert len(seen) == 10
    last = bar.count_text
    QTest.keyClick(edit, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClick(edit, Qt.Key.Key_Return)
    assert bar.count_text == last


def test_find_says_when_there_is_nothing_and_escape_leaves(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    ask(rooftop, qtbot)
    edit = find(rooftop, qtbot, "zebra")
    assert rooftop.chat.find_bar.count_text == "No matches"
    edit.setText("hello")
    qtbot.waitUntil(lambda: rooftop.chat.find_bar.count_text == "1 of 1")
    marked = rooftop.chat.transcript.views[-1].markdown
    assert marked is not None
    assert len(marked.blocks[0].extraSelections()) == 1  # type: ignore[union-attr]
    QTest.keyClick(edit, Qt.Key.Key_Escape)
    assert rooftop.chat.find_bar.isHidden()
    assert marked.blocks[0].extraSelections() == []  # type: ignore[union-attr]
    assert rooftop.window.focusWidget() is rooftop.chat.composer.focusProxy()


def test_a_match_in_folded_thoughts_unfolds_them(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    host.reply = THOUGHT
    ask(rooftop, qtbot)
    find(rooftop, qtbot, "greet back")
    assert rooftop.chat.find_bar.count_text == "1 of 1"
    assert thoughts(rooftop).unfolded


def test_new_messages_are_counted_too(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    host.reply = "word word"
    ask(rooftop, qtbot)
    find(rooftop, qtbot, "word")
    assert rooftop.chat.find_bar.count_text == "1 of 2"
    ask(rooftop, qtbot, "more")
    qtbot.waitUntil(lambda: rooftop.chat.find_bar.count_text == "1 of 4")


# ---- files ----------------------------------------------------------------------------------------------------------


def test_files_are_attached_sent_and_shown(rooftop: Application, qtbot: QtBot, host: FakeHost, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk")
    with qtbot.waitSignal(rooftop.chat._reader.loaded):
        rooftop.chat.attach([path])
    composer = rooftop.chat.composer
    qtbot.waitUntil(lambda: composer.chips.texts == ["notes.txt  ·  3 tokens"])
    ask(rooftop, qtbot, "What?")
    assert composer.attachments == ()
    assert composer.chips.isHidden()
    assert generated(host).messages[-1].content == "File: notes.txt\n```\nremember the milk\n```\n\nWhat?"
    chips = rooftop.chat.transcript.views[-2].findChild(AttachmentChips)
    assert chips is not None
    assert chips.texts == ["notes.txt"]
    chips._chips[0]._open.click()
    dialog = rooftop.window.findChild(TextDialog)
    assert dialog is not None
    shown = dialog.findChild(QPlainTextEdit)
    assert shown is not None
    assert shown.isReadOnly()
    assert shown.toPlainText() == "remember the milk"
    dialog.reject()


def test_a_file_that_cannot_be_read_is_a_banner(rooftop: Application, qtbot: QtBot, tmp_path: Path) -> None:
    with qtbot.waitSignal(rooftop.chat._reader.refused):
        rooftop.chat.attach([tmp_path / "missing.txt"])
    assert "missing.txt" in rooftop.chat.banners.banners["attachment"].text
    assert rooftop.chat.composer.attachments == ()


def test_a_file_can_be_removed_and_sent_alone(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    composer = rooftop.chat.composer
    composer.set_attachments((Attachment("a.txt", "a"), Attachment("b.txt", "b")))
    composer.chips._chips[0]._remove.click()
    assert [file.name for file in composer.attachments] == ["b.txt"]
    composer._submit()
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert generated(host).messages[-1].content == "File: b.txt\n```\nb\n```"


def drop(rooftop: Application, paths: list[Path]) -> bool:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    event = QDropEvent(
        QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    rooftop.window.dropEvent(event)
    return event.isAccepted()


def test_a_dropped_file_is_attached_and_a_dropped_model_opened(
    rooftop: Application, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "code.py"
    path.write_text("x = 1")
    with qtbot.waitSignal(rooftop.chat._reader.loaded):
        assert drop(rooftop, [path])
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    with qtbot.waitSignal(rooftop.window.model_chosen) as chosen:
        assert drop(rooftop, [model])
    assert chosen.args == [str(model)]
    assert [file.name for file in rooftop.chat.composer.attachments] == ["code.py"]


def test_files_are_pasted_and_a_long_text_becomes_one(rooftop: Application, qtbot: QtBot, tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text("x = 1")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    QGuiApplication.clipboard().setMimeData(data)
    edit = rooftop.chat.composer.focusProxy()
    assert edit is not None
    with qtbot.waitSignal(rooftop.chat._reader.loaded):
        QTest.keyClick(edit, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    QGuiApplication.clipboard().setText("x" * 50_000)
    QTest.keyClick(edit, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    assert rooftop.chat.composer.draft == ""
    assert [len(file.text) for file in rooftop.chat.composer.attachments] == [5, 50_000]


@pytest.mark.parametrize("text", ["", "What is this?", "a.txt"])
def test_files_wait_with_their_message_for_the_model(
    make_rooftop: Callable[..., Application], qtbot: QtBot, host: FakeHost, text: str
) -> None:
    host.hold_load = True
    rooftop = make_rooftop()
    rooftop.chat.composer.set_attachments((Attachment("a.txt", "a"),))
    rooftop.chat.composer.set_draft(text)
    rooftop.chat.composer._submit()
    assert rooftop.session.queued
    host.release()
    qtbot.waitUntil(lambda: any(isinstance(request, Generate) for request in host.requests))
    assert generated(host).messages[-1].content == f"File: a.txt\n```\na\n```\n\n{text}".strip()


# ---- the context ----------------------------------------------------------------------------------------------------


def test_the_meter_counts_what_the_next_prompt_holds(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    meter = rooftop.chat.composer.meter
    rooftop.chat.composer.set_draft("one two three")
    rooftop.chat.composer.set_attachments((Attachment("a.txt", "four five"),))
    qtbot.waitUntil(lambda: meter.text() == f"10 of {host.context_tokens:,} tokens")
    meter.click()
    assert meter.popup is not None
    assert dict(meter.popup.rows(meter._use))["Draft"] == 3  # type: ignore[arg-type]
    assert dict(meter.popup.rows(meter._use))["Attached files"] == 2  # type: ignore[arg-type]
    meter.popup.close()
    counts = sum(isinstance(request, CountTokens) for request in host.requests)
    for _ in range(50):
        rooftop.chat.composer.set_draft("typed letter by letter")
    qtbot.waitUntil(lambda: meter.text().startswith("11 of"))
    assert sum(isinstance(request, CountTokens) for request in host.requests) <= counts + 2


TOO_LONG = Failed(ErrorReport("prompt-too-long", "The prompt has 900 tokens.", "Shorten it."))


def test_a_prompt_that_is_too_long_can_be_trimmed(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    ask(rooftop, qtbot, "First")
    host.next_reply = [TOO_LONG]
    ask(rooftop, qtbot, "Second")
    banner = rooftop.chat.banners.banners["too-long"]
    assert [button.text() for button in banner.buttons] == ["Leave out the oldest messages and send", "Edit"]
    host.next_reply = [LeftOut(2, 30)]
    banner.buttons[0].click()
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert generated(host).overflow == "drop_oldest"
    reply = rooftop.session.conversation.messages[-1]
    assert (reply.state, reply.left_out) == ("complete", 2)
    labels = [label.text() for label in rooftop.chat.transcript.views[-1].findChildren(QLabel)]
    assert any("Written without 2 older messages" in text for text in labels)
    assert "too-long" not in rooftop.chat.banners.banners


def test_a_question_that_is_too_long_comes_back_to_be_edited(
    rooftop: Application, qtbot: QtBot, host: FakeHost
) -> None:
    host.next_reply = [TOO_LONG]
    rooftop.chat.composer.set_attachments((Attachment("a.txt", "a"),))
    ask(rooftop, qtbot, "Much too long")
    rooftop.chat.composer.set_draft("already typing")
    banner = rooftop.chat.banners.banners["too-long"]
    assert [button.text() for button in banner.buttons] == ["Edit"]
    banner.buttons[0].click()
    assert rooftop.chat.composer.draft == "Much too long\n\nalready typing"
    assert [file.name for file in rooftop.chat.composer.attachments] == ["a.txt"]
    assert rooftop.session.conversation.messages == []
    assert rooftop.chat.transcript.views == []
    assert rooftop.chat.transcript.empty_state.isVisible()


def test_the_setting_is_what_the_engine_hears(
    make_rooftop: Callable[..., Application], qtbot: QtBot, host: FakeHost, tmp_path: Path
) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"overflow": "drop_middle"}')
    rooftop = make_rooftop(settings_path=path)
    qtbot.waitUntil(lambda: rooftop.client.model_ready)
    ask(rooftop, qtbot)
    assert generated(host).overflow == "drop_middle"


# ---- hostile and huge -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_ten_megabytes_in_one_line_are_laid_out_in_part(qtbot: QtBot, rooftop: Application, role: str) -> None:
    text = "x" * 10_000_000
    rooftop.chat.transcript.show_messages([Message(role, text)])  # type: ignore[arg-type]
    view: MessageView = rooftop.chat.transcript.views[0]
    qtbot.waitUntil(lambda: view.built)
    shown = sum(len(block.search_text()) for block in view._marked_blocks())
    assert shown <= max(MAX_SHOWN_CHARS, MAX_BUBBLE_CHARS) + 1000  # and the breaks between pieces
    more = view.findChild(ShowAllButton)
    assert more is not None
    qtbot.waitUntil(more.isVisible)
    more.click()
    dialog = rooftop.window.findChild(TextDialog)
    assert dialog is not None
    viewer = dialog.findChild(QPlainTextEdit)
    assert viewer is not None
    assert viewer.document().characterCount() > 10_000_000
    dialog.reject()


HOSTILE = [
    "\u202e" * 2000 + "abc",
    "a\u0300" * 5000,
    "\u200b" * 20_000,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 2000,
    "$" * 20_000,
    "> " * 2000 + "x",
    "- " * 1000 + "x",
    "[" * 5000,
    "*" * 5000,
    "\u05d0\u05d1 " * 4000,
    "<think>" * 3000,
    "| a " * 300 + "|\n" + "|---" * 300 + "|\n",
    "```\n" * 3000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stream_and_stay_whole(qtbot: QtBot, rooftop: Application, host: FakeHost, text: str) -> None:
    host.reply, host.tokens_per_poll = text, 2000
    rooftop.session.submit(text[:3000])
    qtbot.waitUntil(lambda: not rooftop.session.busy, timeout=20_000)
    assert rooftop.session.conversation.messages[-1].text.strip() == text.strip()
    assert rooftop.chat.transcript.views[-1].built


def test_far_messages_give_their_widgets_up(rooftop: Application, qtbot: QtBot) -> None:
    transcript = rooftop.chat.transcript
    transcript.show_messages([Message("assistant", f"Number {n}.\n\n" + "Words. " * 60) for n in range(300)])
    bar = transcript._scroll.verticalScrollBar()
    qtbot.waitUntil(lambda: transcript.views[-1].built and bar.value() == bar.maximum())
    most = 0
    for value in range(bar.maximum(), 0, -2000):
        bar.setValue(value)
        qtbot.waitUntil(lambda: not transcript._build_timer.isActive())
        most = max(most, sum(view.built for view in transcript.views))
    bar.setValue(0)
    qtbot.waitUntil(lambda: transcript.views[0].built and not transcript.views[150].built)
    assert most < 120
    qtbot.waitUntil(lambda: not transcript._build_timer.isActive() and not transcript._ahead_timer.isActive())
    QApplication.processEvents()  # what is new has its height then
    heights = [view.height() for view in transcript.views[:5]]
    transcript._build_near_view()
    assert [view.height() for view in transcript.views[:5]] == heights


def test_a_bubble_that_fills_a_line_follows_a_narrower_window(
    rooftop: Application, qtbot: QtBot, host: FakeHost
) -> None:
    rooftop.window.resize(1280, 800)
    rooftop.window.show_panel(visible=True)
    host.reply = "Words. " * 80
    ask(rooftop, qtbot, "What is an expert of a model, and why is it on the CPU?")
    scroll = rooftop.chat.transcript._scroll
    wide = scroll.viewport().width()
    rooftop.window.resize(760, 560)
    qtbot.waitUntil(lambda: scroll.viewport().width() < wide - 200)
    QApplication.processEvents()
    content = scroll.widget()
    assert content is not None
    assert content.width() == scroll.viewport().width()
