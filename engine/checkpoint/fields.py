"""Typed, limited access to what a file says about its model, with an error that names the file and the field.

Every number has a sane limit, so that an absurd file is refused by arithmetic and not by running out of memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.checkpoint.untrusted import quote
from engine.errors import CheckpointError
from engine.sentences import Number, say

MAX_LAYERS = 512
MAX_EXPERTS = 1024
MAX_HIDDEN = 1 << 16
MAX_INTERMEDIATE = 1 << 18
MAX_HEADS = 1024
MAX_HEAD_DIM = 1024
MAX_VOCAB = 1 << 21
MAX_POSITIONS = 1 << 24
MAX_ROPE_THETA = 1e12
MAX_NAME_CHARS = 80


@dataclass(frozen=True, slots=True)
class Fields:
    """One object of named values.

    Attributes:
        content: The values.
        source: Where they are from, as a message may begin.
        remedy: What to do when one is wrong.
    """

    content: Mapping[str, Any]
    source: str
    remedy: str

    def integer(self, name: str, low: int, high: int, *, null: int | None = None, absent: int | None = None) -> int:
        """A whole number in low..high; `null` and `absent` stand in for a null and a missing field where given."""
        if name not in self.content and absent is not None:
            return absent
        value = self._given(name)
        if value is None and null is not None:
            return null
        if type(value) is not int or not low <= value <= high:
            raise self.refusal(name, value, say("not a whole number from {low} to {high}", low=low, high=high))
        return value

    def number(self, name: str, low: float, high: float, absent: float | None = None) -> float:
        """A number in low..high; `absent` stands in for a missing field where given."""
        value = absent if absent is not None and name not in self.content else self._given(name)
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.refusal(
                name, value, say("not a number from {low} to {high}", low=Number(f"{low:g}"), high=Number(f"{high:g}"))
            )
        return float(value)

    def numbers(self, name: str, count: int, low: float, high: float) -> tuple[float, ...]:
        """So many numbers, each in low..high."""
        values = self._given(name)
        if not isinstance(values, list) or len(values) != count:
            raise self.refusal(name, values, say("not a list of {count} numbers", count=count))
        if not all(type(value) in (int, float) and low <= value <= high for value in values):
            raise self.refusal(
                name,
                values,
                say("not all of them numbers from {low} to {high}", low=Number(f"{low:g}"), high=Number(f"{high:g}")),
            )
        return tuple(map(float, values))

    def flag(self, name: str) -> bool:
        """A boolean, false where it is missing."""
        value = self.content.get(name, False)
        if not isinstance(value, bool):
            raise self.refusal(name, value, say("neither true nor false"))
        return value

    def refusal(self, name: str, value: object, limit: str) -> CheckpointError:
        """The error for a value outside its limits."""
        return CheckpointError(
            say(
                "{source} says {name} is {value}, {limit}.",
                source=self.source,
                name=name,
                value=quote(value),
                limit=limit,
            ),
            self.remedy,
        )

    def _given(self, name: str) -> Any:  # noqa: ANN401 - what the file says
        """A field that must be there."""
        if name not in self.content:
            raise CheckpointError(say("{source} lacks {name}.", source=self.source, name=name), self.remedy)
        return self.content[name]


def screen_name(name: str) -> str:
    """A model's name as the screen may show it: printable, with spaces, short."""
    words = re.sub(r"[\s_-]+", " ", "".join(char for char in name if char.isprintable())).strip()
    return (words[:1].upper() + words[1:MAX_NAME_CHARS]) or "Model"
