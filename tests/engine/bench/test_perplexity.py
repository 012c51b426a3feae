"""The fixed text, what is counted of it, and the table; the goals are held by tests/engine/test_quantised_guide.py."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bench import perplexity
from engine.bench.perplexity import WINDOW_TOKENS, Predictions, Row, Window, as_table, held_out_windows, predict
from engine.checkpoint.catalog import guide_path
from engine.tokenizer import ChatTokenizer
from resources.guide_training import corpus

VOCABULARY = 8


class FakeEngine:
    """Finds the token after the one that it reads `times` as likely as any other."""

    def __init__(self, times: float) -> None:
        self._times = times

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        likely = (np.array(tokens) + 1) % VOCABULARY
        logits = np.full((len(tokens), VOCABULARY), 1000, dtype=np.float32)  # their exponentials are no numbers
        logits[np.arange(len(tokens)), likely] += np.log(self._times)
        return logits


def test_the_text_is_chats_of_held_out_questions_and_known_answers() -> None:
    texts, tokenizer = corpus.load(), ChatTokenizer.open(guide_path())
    questions = {question.text.strip() for question in texts.held_out}
    answers = {answer for known in texts.answers_by_topic().values() for answer in known}
    windows = list(held_out_windows())
    assert windows == list(held_out_windows())
    assert len(windows) > 90
    assert sum(len(window.answers) for window in windows) > 15_000
    for window in islice(windows, 10):
        assert len(window.tokens) <= WINDOW_TOKENS
        assert set(window.openings) <= set(window.answers)
        turns = "".join(
            f"{'|' if place in window.openings else ''}{tokenizer.decode([token])}" if place in window.answers else ""
            for place, token in enumerate(window.tokens)
        )
        assert set(turns.split("|")[1:]) <= answers
        asked = [token for place, token in enumerate(window.tokens) if place not in window.answers]
        assert {text.strip() for text in _split(tokenizer, asked)} <= questions


def _split(tokenizer: ChatTokenizer, tokens: Sequence[int]) -> list[str]:
    """The questions between the special tokens."""
    parts: list[list[int]] = []
    for token in tokens:
        if not tokenizer.decode([token]):
            parts.append([])
        else:
            parts[-1].append(token)
    return [tokenizer.decode(part) for part in parts if part]


def test_only_answers_count_and_what_is_read_before_them() -> None:
    window = Window((1, 2, 7, 4, 5, 0, 1), answers=(3, 4, 6), openings=(3, 6))
    engine: Any = FakeEngine(times=9.0)
    found = predict(engine, [window])
    right, wrong = -np.log(9 / 16), -np.log(1 / 16)
    np.testing.assert_allclose(found.losses, [wrong, right, right], atol=1e-4)
    np.testing.assert_array_equal(found.choices, [0, 5, 1])
    np.testing.assert_array_equal(found.opening, [True, False, True])
    assert found.perplexity == pytest.approx(np.exp((wrong + 2 * right) / 3), rel=1e-4)
    assert found.opening_perplexity == pytest.approx(np.exp((wrong + right) / 2), rel=1e-4)


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary_is_large() -> None:
    engine: Any = FakeEngine(times=1.0)
    found = predict(engine, [Window((1, 2, 7, 4), (1, 2, 3), (1,))] * 2)
    assert found.perplexity == pytest.approx(VOCABULARY)
    assert found.opening_perplexity == pytest.approx(VOCABULARY)


def test_the_table_compares_with_the_bundled_guide() -> None:
    opening = np.array([True, False])
    base = Row("bundled", 16.0, Predictions(np.log([4.0, 1.0]), np.array([3, 4]), opening))
    other = Row("Q4_0", 4.541, Predictions(np.log([4.1, 1.0]), np.array([3, 5]), opening))
    assert as_table(base, [other]).split("\n") == [
        "          bits  perplexity   change  first token   change     same",
        "bundled  16.00      2.0000   +0.00%       4.0000   +0.00%  100.00%",
        "Q4_0      4.54      2.0248   +1.24%       4.1000   +2.50%   50.00%",
    ]


def test_the_command_prints_a_line_per_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gguf")
    assert perplexity.main(["F32", "Q8_0", "--windows", "1", "--models", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["bundled", "16.00"], ["F32", "32.00"], ["Q8_0", "8.53"]]
    assert {path.name for path in tmp_path.iterdir()} == {"guide-F32.gguf", "guide-Q8_0.gguf"}


def test_the_command_measures_the_kv_cache_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert perplexity.main(["--kv-precision", "q8", "--windows", "1"]) == 0
    names = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert names == [["bundled", "16.00"], ["KV", "q8"]]


def test_the_command_refuses_what_is_no_format(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        perplexity.main(["Q9"])
    assert stopped.value.code == 2
    assert "'Q9' is no format" in capsys.readouterr().err


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert perplexity.main(["Q8_0", "--windows", "1", "--models", "/nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
