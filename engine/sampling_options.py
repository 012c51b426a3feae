"""`SamplingParams` on the command line of `python -m engine generate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.config import SamplingParams
from engine.errors import ConfigurationError
from engine.sentences import say
from engine.setting_limits import MAX_SCHEMA_CHARS

_DEFAULTS = SamplingParams(max_tokens=256)


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for everything that shapes a reply."""
    add = parser.add_argument
    add("--max-tokens", type=int, default=_DEFAULTS.max_tokens, metavar="N", help="end the reply there")
    add("--temperature", type=float, default=_DEFAULTS.temperature, metavar="T", help="0 for the most likely token")
    add("--top-p", type=float, default=_DEFAULTS.top_p, metavar="P", help="draw from this share of the probability")
    add("--top-k", type=int, default=_DEFAULTS.top_k, metavar="N", help="draw from the N most likely; 0 for all")
    add("--min-p", type=float, default=_DEFAULTS.min_p, metavar="P", help="draw from those this likely beside the best")
    add("--repetition-penalty", type=float, default=_DEFAULTS.repetition_penalty, metavar="X", help="1 for none")
    add("--seed", type=int, metavar="N", help="fix the draw")
    add("--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be given again")
    add("--json-schema", metavar="FILE", help="reply in JSON that this schema allows")
    add("--grammar", metavar="FILE", help="reply as this Lark grammar allows")


def sampling_of(options: argparse.Namespace) -> SamplingParams:
    """What the options say; a schema or grammar is compiled once, so that a bad one is refused before a load.

    Raises:
        ConfigurationError: A value is outside its limits, or a file cannot be used.
    """
    sampling = SamplingParams(
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        seed=options.seed,
        stop=tuple(options.stop),
        json_schema=_read("--json-schema", options.json_schema),
        grammar=_read("--grammar", options.grammar),
    )
    if sampling.json_schema is not None or sampling.grammar is not None:
        from engine.constraint import check_constraint

        check_constraint(sampling)
    return sampling


def _read(option: str, name: str | None) -> str | None:
    """The text of a file; one character more than allowed is enough to refuse it."""
    if name is None:
        return None
    try:
        with Path(name).open(encoding="utf-8-sig") as file:
            return file.read(MAX_SCHEMA_CHARS + 1)
    except OSError as error:
        raise ConfigurationError(
            say(
                "{option}: {name} cannot be read ({reason}).",
                option=option,
                name=name,
                reason=error.strerror or str(error),
            ),
            say("Choose another file."),
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            say("{option}: {name} is not UTF-8 text.", option=option, name=name), say("Choose another file.")
        ) from error
