import pytest
from pytestqt.qtbot import QtBot

from app.chat_session import ChatSession
from app.conversation import Draft
from app.engine_client import EngineClient, EngineState
from engine.config import EngineConfig
from engine.messages import ErrorReport, Failed, Generate
from tests.app.fake_host import FakeHost


@pytest.fixture
def client(qtbot: QtBot, host: FakeHost) -> EngineClient:
    return EngineClient(lambda: host)


@pytest.fixture
def session(client: EngineClient) -> ChatSession:
    return ChatSession(client)


def load(client: EngineClient, qtbot: QtBot) -> None:
    client.load("guide", EngineConfig())
    qtbot.waitUntil(lambda: client.state is EngineState.READY)


def test_without_a_model_nothing_is_sent(session: ChatSession) -> None:
    assert not session.submit("Hi")
    assert session.conversation.messages == []
    assert not session.queued


def test_blank_messages_and_messages_in_between_are_refused(
    session: ChatSession, client: EngineClient, qtbot: QtBot
) -> None:
    load(client, qtbot)
    assert not session.submit("  \n ")
    assert session.submit("Hi")
    assert not session.submit("Too early")
    assert len(session.conversation.messages) == 2


def test_the_users_message_is_in_the_chat_before_the_engine_hears_it(
    session: ChatSession, client: EngineClient, qtbot: QtBot, host: FakeHost
) -> None:
    load(client, qtbot)
    sent: list[bool] = []
    session.message_added.connect(lambda _: sent.append(any(isinstance(r, Generate) for r in host.requests)))
    session.submit("Hi")
    assert sent == [False, False]


def test_a_reply_that_fails_keeps_its_text(
    session: ChatSession, client: EngineClient, qtbot: QtBot, host: FakeHost
) -> None:
    load(client, qtbot)
    host.hold_reply, host.reply = True, "one two three four five six seven eight nine ten"
    session.submit("Count")
    qtbot.waitUntil(lambda: session.conversation.messages[-1].text != "")
    host._generating = False
    host._events.append(Failed(ErrorReport("out-of-memory", "Memory ran out.", "Lower the budget.")))
    qtbot.waitUntil(lambda: not session.busy)
    reply = session.conversation.messages[-1]
    assert (reply.state, reply.text[:7]) == ("failed", "one two")
    assert reply.error is not None
    assert client.state is EngineState.READY
    host.hold_reply = False
    session.regenerate()
    qtbot.waitUntil(lambda: not session.busy)
    assert session.conversation.messages[-1].state == "complete"
    assert len(session.conversation.messages) == 2


def test_a_new_chat_while_a_reply_is_written(
    session: ChatSession, client: EngineClient, qtbot: QtBot, host: FakeHost
) -> None:
    load(client, qtbot)
    host.hold_reply = True
    session.submit("Count")
    first = session.conversation
    session.new_chat()
    assert session.conversation.messages == []
    assert session.busy
    assert not session.writing_here
    assert not session.submit("Mine")
    assert session.queued == Draft("Mine")
    host.release()
    qtbot.waitUntil(lambda: not session.queued and not session.busy)
    assert [message.text for message in first.messages] == ["Count", host.reply]
    assert [message.text for message in session.conversation.messages] == ["Mine", host.reply]


def test_a_load_that_fails_gives_a_waiting_message_back(
    session: ChatSession, client: EngineClient, qtbot: QtBot, host: FakeHost
) -> None:
    host.hold_load = True
    client.load("guide", EngineConfig())
    assert not session.submit("Early")
    assert session.queued == Draft("Early")
    host.die()
    qtbot.waitUntil(lambda: client.state is EngineState.FAILED)
    assert not session.queued
    assert session.conversation.messages == []


def test_retrying_starts_an_engine_that_is_gone(
    session: ChatSession, client: EngineClient, qtbot: QtBot, host: FakeHost
) -> None:
    load(client, qtbot)
    host.hold_reply = True
    session.submit("Count")
    host.die()
    qtbot.waitUntil(lambda: client.state is EngineState.FAILED)
    host.__init__(reply="Back.")  # type: ignore[misc]
    session.regenerate()
    assert client.state is EngineState.STARTING
    qtbot.waitUntil(lambda: client.state is EngineState.READY and not session.busy)
    assert [message.text for message in session.conversation.messages] == ["Count", "Back."]


def test_nothing_to_stop_or_regenerate(session: ChatSession, host: FakeHost) -> None:
    session.stop()
    session.regenerate()
    assert host.requests == []
