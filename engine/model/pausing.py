"""Lets somebody else's function pause in the middle, as a generator does, though it knows of no pauses.

It runs on a thread of its own for as long as it takes. Wherever it comes to work that is ours, that thread waits while
the caller's does the work and then pauses: only one of the two ever runs, and what our work touches (executor, streams,
counters) never leaves the caller's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Answer = TypeVar("Answer")
Result = TypeVar("Result")
Ask = Callable[[Callable[[], Answer]], Answer]


class _BrokenOff(BaseException):
    """The caller goes no further."""


def pausing(function: Callable[[Ask[Answer]], Result]) -> Generator[None, None, Result]:
    """Run a function that pauses after each piece of work that it asks for.

    Args:
        function: Called on a thread of its own with `ask`, which has some work done on the thread that takes the steps
            and gives what came of it. Thread-local states (torch's inference mode) must be set within.

    Yields:
        None after each piece of work.

    Returns:
        What the function returns.

    Raises:
        BaseException: What the function or the work raised. The thread has ended then, as when the steps are closed.
    """
    asked: SimpleQueue[Callable[[], Answer] | None] = SimpleQueue()  # None when the function has ended
    answers: SimpleQueue[Answer | _BrokenOff] = SimpleQueue()

    def ask(work: Callable[[], Answer]) -> Answer:
        asked.put(work)
        answer = answers.get()
        if isinstance(answer, _BrokenOff):
            raise answer
        return answer

    with ThreadPoolExecutor(1, "pausing") as thread:
        running = thread.submit(function, ask)
        running.add_done_callback(lambda _: asked.put(None))
        try:
            while (work := asked.get()) is not None:
                answer = work()
                yield
                answers.put(answer)
        finally:
            answers.put(_BrokenOff())  # nobody reads it once the function has ended
    return running.result()
