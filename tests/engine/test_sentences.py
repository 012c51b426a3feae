"""Sentences as data: English strings that remember how they were made, and nothing that reaches a user without."""

from __future__ import annotations

import ast
import copy
import io
import json
import pickle
from pathlib import Path

import pytest

import engine
from engine.errors import ConfigurationError
from engine.messages import ErrorReport, Failed
from engine.pipe import read_message, write_message
from engine.sentences import Number, Sentence, Value, from_json, join, said_by, say, say_count, to_json
from tests.words import unmarked, unmarked_in


def test_a_sentence_is_its_english_text() -> None:
    sentence = say("{free} of {total} are free.", free=Number("5.2"), total=say("{size} GiB", size=8))
    assert sentence == "5.2 of 8 GiB are free."
    assert json.dumps([sentence]) == '["5.2 of 8 GiB are free."]'
    assert (sentence.template, dict(sentence.values)["free"]) == ("{free} of {total} are free.", "5.2")
    assert not Sentence()


@pytest.mark.parametrize(
    ("amount", "words"), [(1, "1 expert on disk"), (0, "0 experts on disk"), (7, "7 experts on disk")]
)
def test_a_count_chooses_the_form(amount: int, words: str) -> None:
    sentence = say_count("1 expert on {where}", "%n experts on {where}", amount, where="disk")
    assert (sentence, sentence.amount, sentence.template) == (words, amount, "%n experts on {where}")


def test_parts_are_joined_and_stay_what_they_are() -> None:
    parts = [say("One."), "a {name}", say("Two.")]
    joined = join(parts, "\n")
    assert joined == "One.\na {name}\nTwo."
    assert [value for _, value in joined.values] == parts


def test_all_of_it_survives_the_pipe_and_copies() -> None:
    sentence = say_count("1 of {size}", "%n of {size}", 3, size=say("{number} GiB", number=Number("1.5")))
    for other in (pickle.loads(pickle.dumps(sentence)), copy.deepcopy(sentence)):  # noqa: S301 - our own bytes
        assert (other, other.template, other.values, other.amount) == (
            "3 of 1.5 GiB", "%n of {size}", sentence.values, 3
        )  # fmt: skip
        inner = dict(other.values)["size"]
        assert isinstance(inner, Sentence)
        assert isinstance(dict(inner.values)["number"], Number)


def test_a_report_crosses_the_pipe_as_data() -> None:
    number = say("{number} {unit}", number=Number("1.5"), unit="GiB")
    error = ConfigurationError(say("{size} is too much.", size=number), say("Take less."))
    pipe = io.BytesIO()
    write_message(pipe, Failed(ErrorReport.of(error)))
    pipe.seek(0)
    event = read_message(pipe)
    assert isinstance(event, Failed)
    assert event == Failed(ErrorReport.of(error))
    message = event.error.message
    assert isinstance(message, Sentence)
    assert message.values == (("size", number),)


def test_what_an_error_says_stays_a_sentence() -> None:
    error = ConfigurationError(say("{name} is 0.", name="top_k"), say("Choose another."))
    assert isinstance(said_by(error), Sentence)
    assert said_by(OSError("no space")) == "no space"


# ---- nothing reaches a user but as a sentence -----------------------------------------------------------------------

# Whose words are for the terminal or for scripts; and long lists of names.
NOT_FOR_THE_WINDOW = (
    "__main__.py",
    "plan_text.py",
    "bench/",
    "hub/command.py",
    "convert/command.py",
    "convert/report.py",
    "convert/tokenizer_probes.py",
    "template_sandbox.py",
    "gguf_pre_tokenizers.py",
)
# Marks of what torch and Linux say, names of what is kept, a type, and the help of a command line's options.
NO_SENTENCES = {
    "CUDA error", "CUDA driver error", "cuDNN error", "out of memory", "model name", "rooftop engine",
    "may not be sent", "cores", "threads |", "layers", "active", "torch", "handed", "int4",
    "kernels", "experts on disk", "or", "no GPU",
    "int | float | bool | str | list[str] | array[Any]",
    "end the reply there", "0 for the most likely token", "draw from this share of the probability",
    "draw from the N most likely; 0 for all", "draw from those this likely beside the best", "1 for none",
    "fix the draw", "end before this text; may be given again", "reply in JSON that this schema allows",
    "reply as this Lark grammar allows",
    "python -m engine.worker", "a GPU component to take torch from",
}  # fmt: skip


def test_no_words_bypass_the_marker() -> None:
    root = Path(engine.__file__).parent
    assert unmarked_in(root, NOT_FOR_THE_WINDOW, NO_SENTENCES) == [], "say() makes a sentence that can be translated"


@pytest.mark.parametrize(
    "line", ['raise E(f"{name} is wrong.", "Mend it.")', 'x = "is " + what', 'say("{a}", a="not a text")']
)
def test_words_that_bypass_it_are_found(line: str) -> None:
    assert list(unmarked(ast.parse(line)))


@pytest.mark.parametrize(
    "line", ['raise E(say("{name} is wrong.", name=name))', 'raise ValueError("not a text")', 'log.info("it is so")']
)
def test_words_that_do_not_are_not(line: str) -> None:
    assert not list(unmarked(ast.parse(line)))


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        7,
        Number("1,234.5"),
        say("{free} of {total}", free=say("{n} GiB", n=Number("5.2")), total=8),
        say_count("one file of {name}", "%n files of {name}", 3, name="Mix"),
    ],
)
def test_a_sentence_goes_through_json_and_is_the_same(value: Value) -> None:
    again = from_json(json.loads(json.dumps(to_json(value))))
    assert again == value
    assert type(again) is type(value)
    assert to_json(again) == to_json(value)


@pytest.mark.parametrize("content", [None, [1], {}, {"text": "x"}, {"text": "", "template": "", "values": 3}])
def test_what_is_no_sentence_is_refused(content: object) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)):
        from_json(content)
