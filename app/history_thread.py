"""The thread that writes the chats: jobs go in, answers come back to the window's thread, in order.

    window: run(job, then) --queue--> thread: job(history) --signal--> window: then(result, error)

The window never waits for the disk. Where the chats are kept in memory only, jobs run at once and no thread exists.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, Signal

from app.history import History
from app.history_errors import HistoryError

log = logging.getLogger(__name__)

Job = Callable[[History], Any]
Then = Callable[[Any, HistoryError | None], None]
CLOSE_TIMEOUT_S = 10.0


class HistoryThread(QObject):
    """Carries out jobs on one `History`, one after the other.

    Args:
        history: For this thread's jobs alone, unless it is in memory.
        parent: The owner.
    """

    _answered = Signal(object)

    def __init__(self, history: History, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._history = history
        self._jobs: queue.SimpleQueue[tuple[Job, Then | None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._answered.connect(_tell)
        if history.path is not None:
            self._thread = threading.Thread(target=self._work, name="history", daemon=True)
            self._thread.start()

    def run(self, job: Job, then: Then | None = None) -> None:
        """Do a job after those before it; `then` hears of its result, or its error, on this thread."""
        if self._thread is None:
            _tell((then, *_carry_out(job, self._history)))
        else:
            self._jobs.put((job, then))

    def close(self) -> None:
        """Finish the jobs, without answers, and close the file; safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._answered.disconnect(_tell)
            self._jobs.put(None)
            thread.join(CLOSE_TIMEOUT_S)
        if thread is None or not thread.is_alive():
            self._history.close()

    def _work(self) -> None:
        while (entry := self._jobs.get()) is not None:
            job, then = entry
            self._answered.emit((then, *_carry_out(job, self._history)))


def _carry_out(job: Job, history: History) -> tuple[Any, HistoryError | None]:
    try:
        return job(history), None
    except HistoryError as error:
        log.warning("%s", error)
        return None, error


def _tell(answer: tuple[Then | None, Any, HistoryError | None]) -> None:
    then, result, error = answer
    if then is not None:
        then(result, error)
