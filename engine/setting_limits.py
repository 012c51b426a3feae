"""Limits of single settings: each function refuses a value outside of them, in a sentence with the value and the limit.

All of them raise `ConfigurationError`.
"""

from __future__ import annotations

import json

from engine.errors import ConfigurationError

MAX_STOP_TEXTS, MAX_STOP_CHARS = 16, 1 << 10
MAX_SCHEMA_CHARS = 1 << 16  # of a JSON schema or a grammar; what it unfolds to is bounded in `engine.constraint`


def between(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside low..high, NaN included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigurationError(f"{name} is {value!r}, outside {low:g} to {high:g}.", f"Choose {name} in that range.")


def check_stop(stop: tuple[str, ...]) -> None:
    """Refuse stop texts that are none, too many or too long."""
    if isinstance(stop, str) or not all(isinstance(text, str) for text in stop):
        raise ConfigurationError("The stop texts are not a list of texts.", "Give a list of texts.")
    if len(stop) > MAX_STOP_TEXTS or any(len(text) > MAX_STOP_CHARS for text in stop):
        raise ConfigurationError(
            f"There are {len(stop)} stop texts of up to {max(map(len, stop)):,} characters; "
            f"{MAX_STOP_TEXTS} of {MAX_STOP_CHARS:,} are the limit.",
            "Use fewer or shorter ones.",
        )


def check_length(name: str, text: str) -> None:
    """Refuse what is no text, is empty or too long."""
    if not isinstance(text, str) or not text.strip():
        raise ConfigurationError(f"The {name} is empty.", f"Give a {name}, or none.")
    if len(text) > MAX_SCHEMA_CHARS:
        raise ConfigurationError(
            f"The {name} has {len(text):,} characters; {MAX_SCHEMA_CHARS:,} are the limit.", "Use a shorter one."
        )


def check_schema(text: str) -> None:
    """Refuse a JSON schema that is no JSON; what it says is checked by `engine.constraint`."""
    check_length("JSON schema", text)
    try:
        schema = json.loads(text)
    except ValueError as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigurationError(f"The JSON schema is not valid JSON{place}.", "Mend the schema.") from error
    except RecursionError as error:
        raise ConfigurationError("The JSON schema is nested too deeply.", "Use a flatter one.") from error
    if not isinstance(schema, dict):
        raise ConfigurationError(
            "The JSON schema is not an object.", 'Write one such as {"type": "object", "properties": {}}.'
        )


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices."""
    if value not in choices:
        raise ConfigurationError(f"{name} is {value!r}.", f"Choose one of {', '.join(choices)}.")
