"""What the engine says to people, as data: an English text that remembers how it was made.

A `Sentence` is a plain string for whoever wants English: the terminal, `--json`, logs, tests. Whoever speaks another
language looks its template up and fills in the same values: `say("{free} of {total}", free=..., total=...)` is
"5.2 GiB of 8 GiB" here, and in German whatever the translation of the template makes of these two values. A value may
be a sentence too; a `Number` and an int are written the language's way; any other string stays as it is, such as a
file's name or what the operating system says.

Templates are literals, so that `resources.translations.update` finds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Value = str | int
Values = tuple[tuple[str, Value], ...]


class Number(str):
    """A number in English notation, such as "1,234.5", which other languages write otherwise."""

    __slots__ = ()


class Sentence(str):
    """An English text with its template and values; immutable, picklable, and in all else a string.

    Attributes:
        template: The text that translations are looked up by, with `{names}`, and `%n` where there is an amount.
        values: What the names stand for.
        amount: What `%n` stands for, which chooses between singular and plural; -1 where there is none.
    """

    __slots__ = ("amount", "template", "values")

    template: str
    values: Values
    amount: int

    def __new__(cls, text: str = "", template: str = "", values: Values = (), amount: int = -1) -> Sentence:
        """Use `say`, `say_count` or `join`."""
        sentence = super().__new__(cls, text)
        sentence.template, sentence.values, sentence.amount = template, values, amount
        return sentence

    def __reduce__(self) -> tuple[type[Sentence], tuple[str, str, Values, int]]:
        """All of it crosses the pipe."""
        return Sentence, (str(self), self.template, self.values, self.amount)


def say(template: str, /, **values: Value) -> Sentence:
    """A sentence, or a part of one.

    Args:
        template: A literal, English, with `{names}` and nothing else in braces.
        values: What the names stand for.
    """
    return Sentence(template.format(**values), template, tuple(values.items()))


def say_count(one: str, many: str, amount: int, /, **values: Value) -> Sentence:
    """A sentence about a number of things.

    Args:
        one: A literal, for an amount of 1.
        many: A literal, for any other; `%n` is the amount. Translations are looked up by this one.
        amount: At least 0.
        values: As for `say`.
    """
    words = (one if amount == 1 else many).replace("%n", str(amount))
    return Sentence(words.format(**values), many, tuple(values.items()), amount)


def join(parts: Iterable[str], separator: str = " ") -> Sentence:
    """Sentences or parts of them one after the other; each is translated by itself."""
    values = tuple((f"part{number}", part) for number, part in enumerate(parts))
    template = separator.join(f"{{{name}}}" for name, _ in values)
    return Sentence(separator.join(part for _, part in values), template, values)


def said_by(error: BaseException) -> str:
    """What an error says: its sentence where it was made with one, else its text."""
    said = error.args[0] if error.args else ""
    return said if isinstance(said, Sentence) else str(error)


def to_json(value: Value) -> Any:  # noqa: ANN401 - as JSON is
    """A sentence, or a value of one, for JSON; it keeps what it can be translated by."""
    if isinstance(value, Sentence):
        inside = [[name, to_json(one)] for name, one in value.values]
        return {"text": str(value), "template": value.template, "values": inside, "amount": value.amount}
    return {"number": str(value)} if isinstance(value, Number) else value


def from_json(content: Any) -> Value:  # noqa: ANN401
    """What `to_json` was given.

    Raises:
        TypeError, ValueError, KeyError: It was not given this.
    """
    if not isinstance(content, dict):
        if not isinstance(content, str | int):
            raise TypeError("not a text")
        return content
    if "number" in content:
        return Number(content["number"])
    inside = tuple((str(name), from_json(one)) for name, one in content["values"])
    return Sentence(str(content["text"]), str(content["template"]), inside, int(content["amount"]))
