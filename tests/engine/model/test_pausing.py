"""A function that knows of no pauses pauses at its work, on a thread of its own that always ends."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from engine.model.pausing import Ask, pausing


def doubled(ask: Ask[int]) -> list[int]:
    """Asks for three numbers, and says what it was given."""
    return [2 * ask(lambda number=number: number) for number in range(3)]  # type: ignore[misc]


def finish(steps: Generator[None, None, list[int]]) -> tuple[int, list[int]]:
    """Pauses, and the result."""
    pauses = 0
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            return pauses, ended.value
        pauses += 1


def threads() -> list[str]:
    """Threads of this file's making that live."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pausing")]


def test_each_piece_of_work_is_done_and_followed_by_a_pause() -> None:
    assert finish(pausing(doubled)) == (3, [0, 2, 4])
    assert not threads()


def test_work_is_done_on_the_thread_that_takes_the_steps_and_the_function_on_another() -> None:
    def function(ask: Ask[int]) -> list[int]:
        return [ask(threading.get_ident), threading.get_ident()]

    _, (work, own) = finish(pausing(function))
    assert work == threading.get_ident() != own


def test_the_function_stands_still_during_a_pause() -> None:
    heard: list[str] = []

    def function(ask: Ask[int]) -> list[int]:
        ask(lambda: 0)
        heard.append("went on")
        return []

    steps = pausing(function)
    next(steps)
    assert not heard
    assert finish(steps) == (0, [])
    assert heard == ["went on"]


def test_an_error_of_the_work_unwinds_the_function_and_is_raised() -> None:
    unwound: list[type[BaseException]] = []

    def function(ask: Ask[int]) -> list[int]:
        try:
            return [ask(lambda: 1 // 0)]
        except BaseException as error:
            unwound.append(type(error))
            raise

    with pytest.raises(ZeroDivisionError):
        finish(pausing(function))
    assert len(unwound) == 1
    assert not issubclass(unwound[0], Exception), "nothing in between takes it for an error of its own"
    assert not threads()


def test_an_error_of_the_function_is_raised_after_its_pauses() -> None:
    def function(ask: Ask[int]) -> list[int]:
        ask(lambda: 0)
        raise LookupError("gone")

    steps = pausing(function)
    next(steps)
    with pytest.raises(LookupError, match="gone"):
        next(steps)
    assert not threads()


def test_steps_that_are_closed_end_the_thread() -> None:
    steps = pausing(doubled)
    next(steps)
    assert threads()
    steps.close()
    assert not threads()
