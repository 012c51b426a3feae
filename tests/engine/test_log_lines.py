from __future__ import annotations

import logging

import pytest

from engine.errors import CheckpointError
from engine.log_lines import LogFormatter, describe, trace_text, without_secrets

DIARY = "I have an illness that nobody may know of"


def raise_with_a_cause() -> None:
    try:
        {"": ""}[DIARY]
    except KeyError as error:
        raise ValueError(f'cannot use "{DIARY}" here') from error


def test_a_trace_has_places_and_kinds_but_not_what_was_quoted() -> None:
    with pytest.raises(ValueError, match="cannot use") as caught:
        raise_with_a_cause()
    text = trace_text(caught.value)
    assert DIARY not in text.replace(f"raise ValueError(f'cannot use \"{{{DIARY}}}\" here')", "")
    assert "in raise_with_a_cause" in text
    assert text.index("KeyError") < text.index('ValueError: cannot use "..." here')


def test_a_record_with_an_exception_goes_through_it() -> None:
    record = logging.LogRecord("app", logging.ERROR, __file__, 1, "It broke with %s", ("hf_abcdefghijkl",), None)
    record.exc_info = (KeyError, KeyError(DIARY), None)
    line = LogFormatter().format(record)
    assert DIARY not in line
    assert "hf_abc" not in line
    assert "ERROR app: It broke with <hidden>" in line
    assert "KeyError: '...'" in line


def test_our_own_sentences_and_the_systems_words_stay_whole() -> None:
    ours = CheckpointError("'model.gguf' is damaged.", "Download it again.")
    assert describe(ours) == "CheckpointError: 'model.gguf' is damaged. Download it again."
    assert describe(OSError(28, "No space left on device", DIARY)) == "OSError: No space left on device"
    assert len(describe(ValueError("x" * 5000))) < 400


def test_a_chain_that_turns_in_a_circle_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert trace_text(first).count("ValueError") == 2


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Authorization: Bearer abc.def-123 sent", "Authorization: Bearer <hidden> sent"),
        ("https://me:secret@host/x", "https://<hidden>@host/x"),
        ("GET /f?X-Amz-Signature=00ff&a=1", "GET /f?X-Amz-Signature=<hidden>&a=1"),
        ("token=hf_0123456789", "token=<hidden>"),
        ("12 tokens/s, 3 tokens", "12 tokens/s, 3 tokens"),
    ],
)
def test_tokens_are_hidden(text: str, rest: str) -> None:
    assert without_secrets(text) == rest
