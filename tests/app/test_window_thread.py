from __future__ import annotations

import logging
import threading
from functools import partial

import pytest
import shiboken6
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.window_thread import WindowThread


def on_a_thread(window: WindowThread, *numbers: int, done: list[tuple[int, threading.Thread]]) -> None:
    """Ask from another thread for notes of the thread that makes them."""

    def note(number: int) -> None:
        done.append((number, threading.current_thread()))

    def ask() -> None:
        for number in numbers:
            window.do(partial(note, number))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()


def test_jobs_are_done_in_turn_on_the_windows_thread(qtbot: QtBot) -> None:
    done: list[tuple[int, threading.Thread]] = []
    window = WindowThread()
    on_a_thread(window, 1, 2, done=done)
    assert done == []
    qtbot.waitUntil(lambda: len(done) == 2)
    assert done == [(1, threading.main_thread()), (2, threading.main_thread())]


def test_what_waits_at_the_end_is_not_done(qapp: QApplication) -> None:
    done: list[tuple[int, threading.Thread]] = []
    window = WindowThread()
    on_a_thread(window, 1, done=done)
    assert not window.has_ended
    window.end()
    assert window.has_ended
    on_a_thread(window, 2, done=done)
    qapp.processEvents()
    assert done == []


def test_an_answer_after_qt_deleted_it_is_no_error(qapp: QApplication, caplog: pytest.LogCaptureFixture) -> None:
    done: list[tuple[int, threading.Thread]] = []
    window = WindowThread()
    shiboken6.delete(window)
    with caplog.at_level(logging.DEBUG, logger="app.window_thread"):
        on_a_thread(window, 1, done=done)
    assert caplog.messages == ["an answer came after the end"]
    assert done == []
