"""What can be done with the messages of a chat, through the real window."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPlainTextEdit
from pytestqt.qtbot import QtBot

from app.application import Application
from app.engine_client import EngineState
from engine.config import SamplingParams
from engine.messages import Generate
from tests.app.chat_window import LONG, ask, button, texts, view_of
from tests.app.fake_host import FakeHost


def test_regenerating_makes_a_version_and_the_arrows_choose(
    start: Callable[[], Application], qtbot: QtBot, host: FakeHost
) -> None:
    rooftop = start()
    ask(rooftop, qtbot, "Hi")
    host.reply = "Another."
    button(rooftop.chat.transcript.views[-1], "Write").click()
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert texts(rooftop) == ["Hi", "Another."]
    view = rooftop.chat.transcript.views[-1]
    assert button(view, "Previous").isVisibleTo(view)
    button(view, "Previous").click()
    assert texts(rooftop) == ["Hi", "Hello **world**."]
    ask(rooftop, qtbot, "More")
    button(view_of(rooftop, "Hello **world**."), "Next").click()
    assert texts(rooftop) == ["Hi", "Another."]
    rooftop.window.close()
    rooftop = start()
    qtbot.waitUntil(lambda: texts(rooftop) == ["Hi", "Another."])
    button(view_of(rooftop, "Another."), "Previous").click()
    assert texts(rooftop) == ["Hi", "Hello **world**.", "More", "Another."]


def test_editing_a_message_makes_a_branch(start: Callable[[], Application], qtbot: QtBot, host: FakeHost) -> None:
    rooftop = start()
    ask(rooftop, qtbot, "Hi")
    ask(rooftop, qtbot, "More")
    view = view_of(rooftop, "Hi")
    button(view, "Edit").click()
    field = view.findChild(QPlainTextEdit)
    assert field is not None
    QTest.keyClick(field, Qt.Key.Key_Escape)
    assert not any(one.isVisible() for one in view.findChildren(QPlainTextEdit))
    button(view, "Edit").click()
    field = view.findChildren(QPlainTextEdit)[-1]
    field.setPlainText("Bye")
    host.reply = "See you."
    QTest.keyClick(field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert texts(rooftop) == ["Bye", "See you."]
    generate = [request for request in host.requests if isinstance(request, Generate)][-1]
    assert [message.content for message in generate.messages] == ["Bye"]
    button(view_of(rooftop, "Bye"), "Previous").click()
    assert texts(rooftop) == ["Hi", "Hello **world**.", "More", "Hello **world**."]


def test_a_stopped_reply_goes_on_in_the_same_message(
    start: Callable[[], Application], qtbot: QtBot, host: FakeHost
) -> None:
    rooftop = start()
    host.hold_reply, host.reply = True, LONG
    rooftop.session.submit("Count")
    qtbot.waitUntil(lambda: rooftop.session.conversation.messages[-1].text != "")
    rooftop.session.stop()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    begun = rooftop.session.conversation.messages[-1].text
    host.hold_reply, host.reply = False, "and on."
    view = rooftop.chat.transcript.views[-1]
    button(view, "Continue").click()
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert texts(rooftop) == ["Count", begun + "and on."]
    request = [one for one in host.requests if isinstance(one, Generate)][-1]
    assert request.continue_reply
    assert request.messages[-1].content == begun
    view = rooftop.chat.transcript.views[-1]
    assert view.markdown is not None
    assert view.markdown.source == begun + "and on."
    assert not button(view, "Continue").isVisibleTo(view)


def test_deleting_a_message_can_be_undone(start: Callable[[], Application], qtbot: QtBot, chats_path: Path) -> None:
    rooftop = start()
    ask(rooftop, qtbot, "Hi")
    ask(rooftop, qtbot, "More")
    button(view_of(rooftop, "More"), "Delete").click()
    assert texts(rooftop) == ["Hi", "Hello **world**."]
    assert "2 messages deleted" in rooftop.chat.toast.text
    rooftop.chat.toast.button.click()
    assert texts(rooftop) == ["Hi", "Hello **world**.", "More", "Hello **world**."]
    button(view_of(rooftop, "Hi"), "Delete").click()
    assert texts(rooftop) == []
    rooftop.window.close()
    connection = sqlite3.connect(chats_path)
    assert connection.execute("SELECT count(*) FROM messages").fetchone()[0] == 0
    connection.close()


def test_nothing_is_changed_while_a_reply_is_written(
    start: Callable[[], Application], qtbot: QtBot, host: FakeHost
) -> None:
    rooftop = start()
    host.hold_reply, host.reply = True, LONG
    rooftop.session.submit("Count")
    qtbot.waitUntil(lambda: rooftop.session.conversation.messages[-1].text != "")
    view = rooftop.chat.transcript.views[0]
    assert not button(view, "Delete").isVisibleTo(view)
    rooftop.session.delete_message(rooftop.session.conversation.messages[0])
    assert not rooftop.session.edit(rooftop.session.conversation.messages[0], "x")
    assert len(rooftop.session.conversation.messages) == 2
    rooftop.session.stop()


def test_the_system_prompt_and_the_sampling_come_from_outside(
    start: Callable[[], Application], qtbot: QtBot, host: FakeHost
) -> None:
    rooftop = start()
    asked: list[str] = []

    def options(chat: object) -> tuple[str, SamplingParams]:
        asked.append(rooftop.session.conversation.options)
        return "Be brief.", SamplingParams(max_tokens=7)

    rooftop.session.set_reply_options(options)
    rooftop.session.conversation.options = '{"preset": "x"}'
    ask(rooftop, qtbot, "Hi")
    request = [r for r in host.requests if isinstance(r, Generate)][-1]
    assert (request.messages[0].role, request.messages[0].content) == ("system", "Be brief.")
    assert request.sampling.max_tokens == 7
    assert set(asked) == {'{"preset": "x"}'}
