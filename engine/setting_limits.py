"""Limits of single settings: each function refuses a value outside of them, in a sentence with the value and the limit.

All of them raise `ConfigurationError`.
"""

from __future__ import annotations

import json

from engine.errors import ConfigurationError
from engine.sentences import Number, say

MAX_STOP_TEXTS, MAX_STOP_CHARS = 16, 1 << 10
MAX_SCHEMA_CHARS = 1 << 16  # of a JSON schema or a grammar; what it unfolds to is bounded in `engine.constraint`


def between(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside low..high, NaN included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigurationError(
            say(
                "{name} is {value}, outside {low} to {high}.",
                name=name,
                value=repr(value),
                low=Number(f"{low:g}"),
                high=Number(f"{high:g}"),
            ),
            say("Choose {name} in that range.", name=name),
        )


def check_stop(stop: tuple[str, ...]) -> None:
    """Refuse stop texts that are none, too many or too long."""
    if isinstance(stop, str) or not all(isinstance(text, str) for text in stop):
        raise ConfigurationError(say("The stop texts are not a list of texts."), say("Give a list of texts."))
    if len(stop) > MAX_STOP_TEXTS or any(len(text) > MAX_STOP_CHARS for text in stop):
        raise ConfigurationError(
            say(
                "There are {number} stop texts of up to {length} characters; {most} of {longest} are the limit.",
                number=len(stop),
                length=Number(f"{max(map(len, stop)):,}"),
                most=MAX_STOP_TEXTS,
                longest=Number(f"{MAX_STOP_CHARS:,}"),
            ),
            say("Use fewer or shorter ones."),
        )


def check_length(name: str, text: str) -> None:
    """Refuse what is no text, is empty or too long."""
    if not isinstance(text, str) or not text.strip():
        raise ConfigurationError(say("The {name} is empty.", name=name), say("Give a {name}, or none.", name=name))
    if len(text) > MAX_SCHEMA_CHARS:
        raise ConfigurationError(
            say(
                "The {name} has {number} characters; {most} are the limit.",
                name=name,
                number=Number(f"{len(text):,}"),
                most=Number(f"{MAX_SCHEMA_CHARS:,}"),
            ),
            say("Use a shorter one."),
        )


def check_schema(text: str) -> None:
    """Refuse a JSON schema that is no JSON; what it says is checked by `engine.constraint`."""
    check_length(say("JSON schema"), text)
    try:
        schema = json.loads(text)
    except ValueError as error:
        said = say("The JSON schema is not valid JSON.")
        if isinstance(error, json.JSONDecodeError):
            said = say(
                "The JSON schema is not valid JSON (line {line}, column {column}).",
                line=error.lineno,
                column=error.colno,
            )
        raise ConfigurationError(said, say("Mend the schema.")) from error
    except RecursionError as error:
        raise ConfigurationError(say("The JSON schema is nested too deeply."), say("Use a flatter one.")) from error
    if not isinstance(schema, dict):
        raise ConfigurationError(
            say("The JSON schema is not an object."),
            say("Write one such as {example}.", example='{"type": "object", "properties": {}}'),
        )


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices."""
    if value not in choices:
        raise ConfigurationError(
            say("{name} is {value}.", name=name, value=repr(value)),
            say("Choose one of {names}.", names=", ".join(choices)),
        )
