"""Sentences as data: English strings that remember how they were made, and nothing that reaches a user without."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
from engine.errors import ConfigurationError
from engine.sentences import Number, Sentence, join, said_by, say, say_count

ENGINE = Path(engine.__file__).parent


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


def test_what_an_error_says_stays_a_sentence() -> None:
    error = ConfigurationError(say("{name} is 0.", name="top_k"), say("Choose another."))
    assert isinstance(said_by(error), Sentence)
    assert said_by(OSError("no space")) == "no space"


# ---- nothing reaches a user but as a sentence -------------------------------------------------------------------------

# Whose words are for the terminal, for scripts or for a log.
NOT_FOR_THE_WINDOW = ("__main__.py", "bench/", "template_sandbox.py", "tokenizer.py", "gguf_pre_tokenizers.py", "hub/command.py")
# Marks of what torch and Linux say, names of what is kept, and the help of a command line's options.
NO_SENTENCES = {
    "CUDA error", "CUDA driver error", "cuDNN error", "out of memory", "model name", "rooftop engine", "no GPU", "int | float | bool | str | list[str] | array[Any]", "may not be sent",
    "cores,", "threads |", "layers,", "active", "torch", "handed", "int4", "kernels", "experts on disk", "or",
    "end the reply there", "for the most likely token", "draw from this share of the probability",
    "draw from the N most likely; 0 for all", "draw from those this likely beside the best", "1 for none",
    "fix the draw", "end before this text; may be given again", "reply in JSON that this schema allows",
    "reply as this Lark grammar allows", "0 for the most likely token",
}  # fmt: skip
# Errors that are never shown: mistakes of ours, and reasons to try another way.
INTERNAL = {
    "ValueError", "TypeError", "AssertionError", "LookupError", "AttributeError", "HandOffError", "UnpicklingError",
}  # fmt: skip
SILENT_CALLS = INTERNAL | {"say", "say_count", "debug", "info", "warning", "exception", "compile"}
WORDS = re.compile(r"[a-zA-Z]{2,}[,:;]? [a-z]{2,}|(^| )[a-z]{2,}( |,$)| [a-z]{2,}\.$|^[a-zA-Z]{2,} $")


def spoken(node: ast.AST) -> Iterator[ast.Constant]:
    """Texts with words in them that no marker holds."""
    if isinstance(node, ast.Call):
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name in SILENT_CALLS:
            for keyword in node.keywords:  # values may be words too
                yield from spoken(keyword.value)
            return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) or isinstance(node, ast.Assert):
        return
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and WORDS.search(node.value):
            yield node
        return
    for child in ast.iter_child_nodes(node):
        yield from spoken(child)


def test_no_words_bypass_the_marker() -> None:
    found = []
    for path in sorted(ENGINE.rglob("*.py")):
        name = path.relative_to(ENGINE).as_posix()
        if name.startswith(NOT_FOR_THE_WINDOW):
            continue
        for node in spoken(ast.parse(path.read_text(encoding="utf-8"))):
            if str(node.value).strip(" ,.;:()'") not in NO_SENTENCES:
                found.append(f"engine/{name}:{node.lineno}: {node.value!r}")
    assert found == [], "say() makes a sentence that can be translated"


@pytest.mark.parametrize(
    "line", ['raise E(f"{name} is wrong.", "Mend it.")', 'x = "is " + what', 'say("{a}", a="not a text")']
)
def test_words_that_bypass_it_are_found(line: str) -> None:
    assert list(spoken(ast.parse(line)))
