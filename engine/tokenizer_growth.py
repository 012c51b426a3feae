"""How much longer than its input a tokenizer.json may make a text or its ids, before anything is made of them.

Its steps follow each other: forty that double a text make a terabyte of a character, and the library knows no limit.
Real tokenizers at most pad, replace single characters, or put a token at each end.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any

MOST_GROWTH = 256  # times; real ones reach a few dozen, for single characters
MOST_ADDED_TOKENS = 256


def grows_too_far(content: str) -> bool:
    """Whether a tokenizer.json could make texts or ids much longer than they are.

    Args:
        content: The file; what is no JSON, or not of the form that is expected, is left to the library to refuse.
    """
    try:
        parsed = json.loads(content)
        return isinstance(parsed, Mapping) and _grows_too_far(parsed)
    except (ValueError, RecursionError):
        return False


def _grows_too_far(parsed: Mapping[str, Any]) -> bool:
    """The same of what is in the file."""
    texts = [growth for name in ("normalizer", "pre_tokenizer") for growth in _growths(parsed.get(name))]
    decoded = list(_growths(parsed.get("decoder")))
    templates = [step for step in _steps(parsed.get("post_processor")) if step.get("type") == "TemplateProcessing"]
    repeated, added = [], 0
    for step in templates:
        pieces = [name for piece in _listed(step.get("single")) for name in piece]
        repeated.append(pieces.count("Sequence"))
        added += sum(_ids_of(step, piece) for piece in _listed(step.get("single")))
    return _beyond(texts + repeated) or _beyond(decoded) or added > MOST_ADDED_TOKENS


def _beyond(growths: list[int]) -> bool:
    """Whether steps one after the other grow too far; those that may shrink a text are taken to leave it as it is."""
    product = 1
    for growth in growths:
        product *= max(1, growth)
        if product > MOST_GROWTH:
            return True
    return False


def _growths(step: object) -> Iterator[int]:
    """How many times longer each step makes a text at most."""
    for one in _steps(step):
        kind = one.get("type")
        if kind == "Replace":
            yield _replaced(one.get("pattern"), one.get("content"))
        elif kind == "ByteLevel":
            yield 2  # every byte beyond ASCII becomes a character of two
        elif kind == "Precompiled":
            yield _longest_of_map(one.get("precompiled_charsmap"))


def _replaced(pattern: object, content: object) -> int:
    """One replacement: of a text by how much longer it is, of an expression by all of it, as that may match nothing."""
    size = len(content) if isinstance(content, str) else 0
    text = pattern.get("String") if isinstance(pattern, Mapping) else None
    return -(-size // len(text)) if isinstance(text, str) and text else 1 + size


def _longest_of_map(charsmap: object) -> int:
    """Bytes of the longest text that a sentencepiece map puts in place of another."""
    try:
        content = base64.b64decode(charsmap, validate=True) if isinstance(charsmap, str) else b""
    except (ValueError, binascii.Error):
        return 1
    texts = content[4 + int.from_bytes(content[:4], "little") :]
    return max(map(len, texts.split(b"\0")), default=1)


def _steps(step: object) -> Iterator[Mapping[str, Any]]:
    """A step, or those of a sequence of them, in order."""
    if not isinstance(step, Mapping):
        return
    if step.get("type") != "Sequence":
        yield step
        return
    for name in ("normalizers", "pretokenizers", "decoders", "processors"):
        for inner in _listed(step.get(name)):
            yield from _steps(inner)


def _listed(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list; none where it is none."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _ids_of(step: Mapping[str, Any], piece: Mapping[str, Any]) -> int:
    """Ids that a piece of a template puts in."""
    special, known = piece.get("SpecialToken"), step.get("special_tokens")
    entry = known.get(special.get("id")) if isinstance(special, Mapping) and isinstance(known, Mapping) else None
    ids = entry.get("ids") if isinstance(entry, Mapping) else None
    return len(ids) if isinstance(ids, list) else 0
