import threading
from functools import partial
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.conversation import Conversation
from app.history import History
from app.history_errors import HistoryError
from app.history_thread import HistoryThread
from tests.app.test_history import make_chat


def save_chat(chat: Conversation, history: History) -> None:
    history.save(chat, chat.all_messages)


def test_jobs_run_elsewhere_in_order_and_answer_here(qtbot: QtBot, tmp_path: Path) -> None:
    thread = HistoryThread(History(tmp_path / "chats.db"))
    seen: list[tuple[object, object]] = []
    here = threading.current_thread()

    def then(result: object, error: object) -> None:
        assert threading.current_thread() is here
        seen.append((result, error))

    def answer(number: int, _history: History) -> tuple[int, bool]:
        return number, threading.current_thread() is here

    for number in range(3):
        thread.run(partial(answer, number), then)
    qtbot.waitUntil(lambda: len(seen) == 3)
    assert [result for result, _ in seen] == [(0, False), (1, False), (2, False)]
    thread.close()


def test_an_error_is_an_answer_and_the_thread_goes_on(qtbot: QtBot, tmp_path: Path) -> None:
    thread = HistoryThread(History(tmp_path / "chats.db"))
    seen: list[HistoryError | None] = []

    def fail(_history: History) -> None:
        raise HistoryError("It cannot be written.", "Make room.")

    thread.run(fail, lambda _result, error: seen.append(error))
    thread.run(lambda history: history.entries(), lambda _result, error: seen.append(error))
    qtbot.waitUntil(lambda: len(seen) == 2)
    assert isinstance(seen[0], HistoryError)
    assert seen[1] is None
    thread.close()


def test_closing_finishes_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    thread = HistoryThread(History(path))
    for number in range(20):
        chat = make_chat(f"Chat {number}")
        thread.run(partial(save_chat, chat))
    thread.close()
    thread.close()
    history = History(path)
    assert len(history.entries()) == 20
    history.close()


@pytest.mark.usefixtures("qapp")
def test_in_memory_a_job_is_done_at_once() -> None:
    thread = HistoryThread(History(None))
    seen: list[object] = []
    thread.run(lambda history: history.entries(), lambda result, _error: seen.append(result))
    assert seen == [[]]
    thread.close()
