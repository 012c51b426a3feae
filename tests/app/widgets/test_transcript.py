import time

import pytest
from PySide6.QtCore import QEvent, QObject, QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QPushButton, QScrollArea, QToolButton, QWidget
from pytestqt.qtbot import QtBot

from app.conversation import Message
from app.text_search import Needle
from app.theme import SPACE_XL, ThemeManager
from app.widgets.empty_state import general_questions
from app.widgets.find_bar import Match
from app.widgets.message_actions import MessageActions
from app.widgets.message_view import MessageView
from app.widgets.transcript import Transcript
from app.widgets.user_bubble import UserBubble


@pytest.fixture
def transcript(qtbot: QtBot, themes: ThemeManager) -> Transcript:
    transcript = Transcript()
    qtbot.addWidget(transcript)
    transcript.resize(700, 400)
    transcript.show()
    return transcript


def scroll_bar(transcript: Transcript):  # type: ignore[no-untyped-def]  # noqa: ANN201
    area = transcript.findChild(QScrollArea, "transcript")
    assert area is not None
    return area.verticalScrollBar()


def fill(transcript: Transcript, qtbot: QtBot, count: int = 6) -> None:
    for number in range(count):
        transcript.add_message(Message("user", f"Question {number}"))
        transcript.add_message(Message("assistant", f"Answer {number}.\n\n" + "Words. " * 60))
    qtbot.waitUntil(lambda: scroll_bar(transcript).maximum() > 0)
    qtbot.waitUntil(lambda: scroll_bar(transcript).value() == scroll_bar(transcript).maximum())


def jump_button(transcript: Transcript) -> QPushButton:
    button = transcript.findChild(QPushButton, "jump")
    assert button is not None
    return button


def test_empty_chats_invite(transcript: Transcript, qtbot: QtBot) -> None:
    assert len(transcript.empty_state.buttons) == 4
    with qtbot.waitSignal(transcript.question_chosen) as blocker:
        transcript.empty_state.buttons[2].click()
    assert blocker.args == ["How do I get Mixtral?"]
    transcript.empty_state.show_questions(for_guide=False)
    assert [button.text() for button in transcript.empty_state.buttons] == list(general_questions())


def test_new_text_is_followed_at_the_bottom(transcript: Transcript, qtbot: QtBot) -> None:
    fill(transcript, qtbot)
    transcript.views[-1].append("More.\n\n" * 30)
    qtbot.waitUntil(lambda: scroll_bar(transcript).value() == scroll_bar(transcript).maximum())
    assert jump_button(transcript).isHidden()


def test_new_text_does_not_move_a_reader_who_scrolled_up(transcript: Transcript, qtbot: QtBot) -> None:
    fill(transcript, qtbot)
    scroll_bar(transcript).setValue(100)
    assert not transcript.following
    assert jump_button(transcript).isVisible()
    before = scroll_bar(transcript).maximum()
    transcript.views[-1].append("More.\n\n" * 30)
    qtbot.waitUntil(lambda: scroll_bar(transcript).maximum() > before)
    assert scroll_bar(transcript).value() == 100
    jump_button(transcript).click()
    assert scroll_bar(transcript).value() == scroll_bar(transcript).maximum()
    assert jump_button(transcript).isHidden()


def test_one_notch_of_the_wheel_ends_following(transcript: Transcript, qtbot: QtBot) -> None:
    fill(transcript, qtbot)
    area = transcript.findChild(QScrollArea, "transcript")
    assert area is not None
    middle = QPointF(50, 50)
    event = QWheelEvent(
        middle, middle, QPoint(), QPoint(0, 120), Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase, False,  # noqa: FBT003
    )  # fmt: skip
    QApplication.sendEvent(area.viewport(), event)
    assert not transcript.following


def test_page_keys(transcript: Transcript, qtbot: QtBot) -> None:
    fill(transcript, qtbot)
    end = scroll_bar(transcript).value()
    transcript.scroll_by_page(-1)
    assert scroll_bar(transcript).value() < end
    transcript.scroll_by_page(1)
    assert transcript.following


def test_a_long_chat_builds_only_what_is_near(transcript: Transcript, qtbot: QtBot) -> None:
    messages = []
    for number in range(300):
        messages += [Message("user", f"Q{number}"), Message("assistant", "Some text.\n\n" * 5)]
    started = time.thread_time()
    transcript.show_messages(messages)
    qtbot.waitUntil(lambda: transcript.views[-1].built)
    assert time.thread_time() - started < 2.0
    qtbot.waitUntil(lambda: scroll_bar(transcript).value() == scroll_bar(transcript).maximum())
    assert sum(view.built for view in transcript.views) < 100
    scroll_bar(transcript).setValue(0)
    qtbot.waitUntil(lambda: transcript.views[0].built)


def test_what_is_on_screen_is_built_before_what_is_near(
    transcript: Transcript, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []
    build = MessageView.build

    def noted(view: MessageView) -> None:
        order.append(transcript.views.index(view))
        build(view)

    monkeypatch.setattr(MessageView, "build", noted)
    transcript.show_messages([Message("assistant", "Some text.\n\n" * 5) for _ in range(60)])
    qtbot.waitUntil(lambda: bool(order) and transcript.views[min(order)].y() < scroll_bar(transcript).value() - 400)
    assert sorted(order) == list(range(min(order), 60))
    assert order.index(59) < order.index(min(order))


def test_only_the_last_reply_can_be_regenerated(transcript: Transcript, qtbot: QtBot) -> None:
    fill(transcript, qtbot, 2)
    allowed = [
        {button.accessibleName() for button in view.findChildren(QToolButton) if button.isVisibleTo(view)}
        for view in transcript.views
        if view.message.role == "assistant"
    ]
    rest = {"Copy this reply", "Delete this message and what follows"}
    assert allowed == [rest, rest | {"Write this reply anew"}]


def test_removing_and_clearing(transcript: Transcript, qtbot: QtBot) -> None:
    fill(transcript, qtbot, 2)
    transcript.show_from(3, [])
    assert len(transcript.views) == 3
    transcript.show_from(2, [Message("user", "Other"), Message("user", "One more")])
    assert [view.message.text for view in transcript.views[2:]] == ["Other", "One more"]
    transcript.show_messages([])
    assert transcript.empty_state.isVisible()
    assert jump_button(transcript).isHidden()


def test_resizing_keeps_the_text_readable(transcript: Transcript, qtbot: QtBot) -> None:
    fill(transcript, qtbot)
    for width in (420, 1600, 700):
        transcript.resize(width, 400)
        qtbot.waitUntil(lambda: transcript.views[-1].width() <= 760)
        assert transcript.views[-1].geometry().right() <= width


def test_going_to_a_match_keeps_the_width(transcript: Transcript, qtbot: QtBot) -> None:
    fill(transcript, qtbot, count=3)
    widths: list[int] = []

    class Watcher(QObject):
        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Resize and isinstance(watched, QWidget):
                widths.append(watched.width())
            return False

    watcher = Watcher()
    view = transcript.views[1]
    view.installEventFilter(watcher)
    wide = view.width()
    transcript.mark(Needle("Answer 0"), Match(1, 0))
    transcript.resize(transcript.width(), 300)
    QApplication.processEvents()
    assert set(widths) <= {wide}


def test_a_reply_lies_nearer_to_its_question_than_the_next_question_to_it(transcript: Transcript, qtbot: QtBot) -> None:
    fill(transcript, qtbot)
    question, reply, following = transcript.views[:3]
    buttons = {view: view.findChild(MessageActions) for view in (question, reply)}
    bubbles = [view.findChild(UserBubble) for view in (question, following)]
    assert reply.y() == question.y() + question.height()
    bubble, row = bubbles[0], buttons[question]
    assert bubble is not None
    assert row is not None
    assert reply.y() - question.y() - bubble.geometry().bottom() - 1 == row.height()
    after = bubbles[1]
    assert after is not None
    assert following.y() + after.y() - (reply.y() + reply.height()) == SPACE_XL


def test_the_end_of_a_reply_moves_nothing(transcript: Transcript, qtbot: QtBot) -> None:
    fill(transcript, qtbot)
    message = Message("assistant", "Some words.", "partial")
    view = transcript.add_message(message)
    view.append("")
    qtbot.waitUntil(lambda: view.height() == view.sizeHint().height())
    writing = view.height()
    message.state = "complete"
    view.end()
    qtbot.waitUntil(lambda: any(b.isVisible() for b in view.findChildren(QToolButton)))
    QApplication.sendPostedEvents()
    assert view.sizeHint().height() == writing


def test_a_question_in_arabic_stays_in_its_bubble(transcript: Transcript, qtbot: QtBot) -> None:
    view = transcript.add_message(Message("user", "مرحبا كيف حالك؟"))
    bubble = view.findChild(UserBubble)
    assert bubble is not None
    qtbot.waitUntil(lambda: bubble.isVisible() and bubble.body.document().textWidth() == bubble.body.viewport().width())
    width = bubble.width()
    transcript.resize(720, 400)
    QApplication.sendPostedEvents()
    assert bubble.width() == width
    assert bubble.body.document().textWidth() == bubble.body.viewport().width()
