import pytest
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLabel, QToolButton
from pytestqt.qtbot import QtBot

from app.conversation import Message
from app.theme import ThemeManager
from app.widgets.message_actions import MessageActions
from app.widgets.message_footer import status_text
from app.widgets.message_view import MessageView
from app.widgets.text_block import TextBlock
from engine.messages import ErrorReport, Timings, Usage

USAGE, TIMINGS = Usage(100, 0, 20), Timings(0.5, 300.0, 8.44)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Message("assistant", "", "partial"), "Thinking…"),
        (Message("assistant", "a", "partial"), "Writing…"),
        (Message("assistant", "a", "stopped"), "Stopped"),
        (Message("assistant", "a", usage=USAGE, timings=TIMINGS), "8.4 tokens/s  ·  first token after 500 ms"),
        (Message("assistant", "a", reason="length"), "Reached the reply limit"),
        (Message("assistant", "a", reason="context"), "The context is full: start a new chat with Ctrl+N"),
        (
            Message("assistant", "a", "failed", error=ErrorReport("x", "It broke.", "Retry it.")),
            "It broke. Retry it.",
        ),
        (
            Message("assistant", "a", "failed", error=ErrorReport("engine-stopped", "It died.", "Restart it.")),
            "Broke off: the engine stopped",
        ),
    ],
)
def test_the_line_below_a_reply(message: Message, text: str) -> None:
    assert status_text(message) == text


def test_it_is_built_when_asked(qtbot: QtBot, themes: ThemeManager) -> None:
    view = MessageView(Message("assistant", "Text"))
    qtbot.addWidget(view)
    assert not view.built
    assert view.minimumHeight() > 0
    view.build()
    view.build()
    assert view.markdown is not None
    assert len(view.markdown.blocks) == 1


def test_a_users_message_is_plain_and_as_wide_as_its_text(qtbot: QtBot, themes: ThemeManager) -> None:
    view = MessageView(Message("user", "<b>x</b> ![i](file:///etc/passwd)"))
    qtbot.addWidget(view)
    view.resize(600, 100)
    view.build()
    view.show()
    block = view.findChild(TextBlock)
    assert block is not None
    assert block.toPlainText() == "<b>x</b> ![i](file:///etc/passwd)"
    assert block.width() < 500
    assert view.markdown is None


def test_copy_takes_the_markdown(qtbot: QtBot, themes: ThemeManager) -> None:
    view = MessageView(Message("assistant", "**Text**"))
    qtbot.addWidget(view)
    view.build()
    copy = next(b for b in view.findChildren(QToolButton) if b.accessibleName() == "Copy this reply")
    copy.click()
    assert QGuiApplication.clipboard().text() == "**Text**"


def test_a_reply_that_failed_offers_what_helps_with_its_error(qtbot: QtBot, themes: ThemeManager) -> None:
    view = MessageView(Message("assistant", "", "failed", error=ErrorReport("out-of-memory", "Full.", "Lower it.")))
    qtbot.addWidget(view)
    view.build()
    remedy = next(button for button in view.findChildren(QToolButton) if button.text() == "Change VRAM budget…")
    assert remedy.isVisibleTo(view)
    with qtbot.waitSignal(view.acted, check_params_cb=lambda what, _text: what == "remedy"):
        remedy.click()
    view.set_retry_allowed(False)  # another message follows
    assert not remedy.isVisibleTo(view)


def test_retry_is_offered_after_a_failure(qtbot: QtBot, themes: ThemeManager) -> None:
    view = MessageView(Message("assistant", "", "failed", error=ErrorReport("x", "It broke.", "Retry it.")))
    qtbot.addWidget(view)
    view.build()
    retry = next(button for button in view.findChildren(QToolButton) if button.text() == "Retry")
    with qtbot.waitSignal(view.retry_requested):
        retry.click()


@pytest.mark.parametrize(("words", "below"), [("It broke.", False), ("The prompt has too many tokens. " * 4, True)])
def test_a_long_error_has_the_whole_width_and_its_buttons_below(
    qtbot: QtBot, themes: ThemeManager, words: str, below: bool
) -> None:
    view = MessageView(Message("assistant", "a", "failed", error=ErrorReport("x", words, "Retry it.")))
    qtbot.addWidget(view)
    view.resize(480, 200)
    view.build()
    view.show()
    label = next(label for label in view.findChildren(QLabel) if words[:9] in label.text())
    actions = view.findChild(MessageActions)
    assert actions is not None
    qtbot.waitUntil(lambda: (actions.y() >= label.height()) == below and label.width() > 100)
    assert (label.width() == 480) == below
