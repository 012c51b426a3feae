from PySide6.QtCore import QObject
from pytestqt.qtbot import QtBot

from app.announcer import Announcer, announce_politely, spoken_reply
from app.application import Application
from app.conversation import Message
from engine.messages import ErrorReport
from tests.app.fake_host import FakeHost
from tests.app.test_application import ask


def listen(rooftop: Application) -> list[str]:
    heard: list[str] = []

    def hear(source: QObject, text: str) -> None:
        assert source is rooftop.chat
        heard.append(text)

    Announcer(rooftop.chat, rooftop.session, rooftop.chat.banners, hear)
    return heard


def test_a_reply_is_read_once_when_it_is_complete(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    heard = listen(rooftop)
    host.reply, host.tokens_per_poll = "The **answer** is `42`.", 1
    ask(rooftop, qtbot, "What?")
    qtbot.waitUntil(lambda: rooftop.session.conversation.messages[-1].text != "")
    assert heard == []
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert heard == ["Reply: The answer is 42."]


def test_a_stopped_reply_is_not_read_again_with_its_numbers(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    heard = listen(rooftop)
    host.hold_reply, host.reply = True, "one two three four five six seven eight nine ten"
    ask(rooftop, qtbot, "Count")
    qtbot.waitUntil(lambda: rooftop.session.conversation.messages[-1].text != "")
    with qtbot.waitSignal(rooftop.client.finished):
        rooftop.chat.composer.escape()
    assert len(heard) == 1
    assert heard[0].startswith("Stopped: one two")


def test_notices_are_read(rooftop: Application) -> None:
    heard = listen(rooftop)
    rooftop.chat.banners.show_banner("memory", "Another program took 3 GiB.")
    assert heard == ["Another program took 3 GiB."]


def test_formulas_are_read_as_their_source_and_thoughts_are_not_read() -> None:
    text = "<think>Hm.</think>So $x_1$ is\n\n- **one**\n- two\n\n$$\\frac{1}{2}$$"
    assert spoken_reply(Message("assistant", text)).split() == [
        "Reply:",
        "So",
        "$x_1$",
        "is",
        "one",
        "two",
        r"$$\frac{1}{2}$$",
    ]


def test_a_failed_reply_says_why() -> None:
    error = ErrorReport("engine-stopped", "The engine stopped.", "Restart it.")
    assert spoken_reply(Message("assistant", "Half a", "failed", error=error)) == "Half a The engine stopped."


def test_html_in_a_reply_is_read_as_text_and_loads_nothing() -> None:
    text = spoken_reply(Message("assistant", "<img src='file:///etc/passwd'>A ![b](file:///x)"))
    assert "A" in text


def test_qt_takes_the_announcement(rooftop: Application) -> None:
    announce_politely(rooftop.chat, "Reply: done")
