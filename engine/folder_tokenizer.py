"""The tokenizer that the files of a folder describe, as transformers' `TokenizersBackend` reads them.

tokenizer.json is the tokenizer, for Mixtral and most MoE families. From tokenizer_config.json come the names of the
special tokens and the chat template, whose place a chat_template.jinja takes; from generation_config.json and
config.json the ids that end a reply.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from tokenizers import AddedToken, Tokenizer

from engine.checkpoint.model_folder import MAX_TOKENIZER_BYTES, TOKENIZER, check_tokenizer
from engine.checkpoint.untrusted import DOWNLOAD_AGAIN, fill, open_regular, quote, read_json_object
from engine.errors import CheckpointError
from engine.sentences import say
from engine.tokenizer_growth import grows_too_far
from engine.tokenizer_parts import TokenizerParts, comes_from_tokenizers, tokenizer_faults

SETTINGS = "tokenizer_config.json"
MAX_SETTINGS_BYTES = 16 << 20
MAX_TOKENS = 1 << 24

_CHANNEL_SIGNS = ("<|channel|>", "<|return|>")  # a vocabulary with both is gpt-oss's
_CHANNEL_TOKENS = re.compile(
    r'("content"\s*:\s*"<\|(?:channel|message|start|constrain|end)\|>"[^{}]*?"special"\s*:\s*)true'
)


def tokenizer_from_folder(folder: Path) -> tuple[TokenizerParts, object]:
    """Read a tokenizer, and what config.json calls the model's family.

    Args:
        folder: Holds tokenizer.json.

    Raises:
        CheckpointError: The tokenizer is missing, or a file is damaged.
    """
    config = _read_json(folder / "config.json")
    tokenizer, specials = _read_tokenizer(folder), read_special_tokens(folder)
    _add_missing_tokens(tokenizer, _read_json(folder / SETTINGS), specials)
    eos_ids = _eos_ids(tokenizer, specials, _read_json(folder / "generation_config.json"), config)
    parts = TokenizerParts(tokenizer, specials, read_chat_template(folder), eos_ids, _bos_id(tokenizer, specials))
    return parts, config.get("model_type")


def read_special_tokens(folder: Path) -> dict[str, str]:
    """Name -> text of `bos_token`, `eos_token` and their like, as the files of a folder have them."""
    return _special_tokens(_read_json(folder / SETTINGS), _read_json(folder / "special_tokens_map.json"))


def read_chat_template(folder: Path) -> str | None:
    """The chat template that a model was published with; None where it has none."""
    return _template_source(folder, _read_json(folder / SETTINGS))


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is missing."""
    return read_json_object(path, MAX_SETTINGS_BYTES) if path.exists() else {}


def _read_text(path: Path, max_bytes: int) -> str:
    """A text file of bounded size."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise _damaged(
                path, say("is {size} bytes long, over the limit of {max_bytes}", size=size, max_bytes=max_bytes)
            )
        content = bytearray(size)
        fill(file, path, 0, memoryview(content))
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _damaged(path, say("is not UTF-8 text")) from error


def _read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, never cutting or padding."""
    check_tokenizer(folder)
    path = folder / TOKENIZER
    content = _read_text(path, MAX_TOKENIZER_BYTES)
    if grows_too_far(content):  # which the library finds out by doing it, for tokens of the file already
        raise _damaged(path, say("is not a tokenizer: its steps make texts without end"))
    try:
        tokenizer = Tokenizer.from_str(_show_channels(content))
    except BaseException as error:
        if not comes_from_tokenizers(error):
            raise
        raise _damaged(path, say("is not a tokenizer: {error}", error=quote(str(error)))) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _show_channels(content: str) -> str:
    """A tokenizer.json that shows the tokens which tell the parts of gpt-oss's replies apart, as a GGUF file does."""
    channels = all(f'"{token}"' in content for token in _CHANNEL_SIGNS)
    return _CHANNEL_TOKENS.sub(r"\1false", content) if channels else content


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(say("{file} {what}.", file=quote(path.name), what=what), DOWNLOAD_AGAIN)


def _special_tokens(settings: Mapping[str, Any], fallback: Mapping[str, Any]) -> dict[str, str]:
    """Name -> text of `bos_token`, `eos_token` and their like."""
    names = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    found = {name: _token_text(settings.get(name, fallback.get(name))) for name in names}
    return {name: text for name, text in found.items() if text is not None}


def _token_text(value: object) -> str | None:
    """The text of a token that is written as a string or as an `AddedToken`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _add_missing_tokens(tokenizer: Tokenizer, settings: Mapping[str, Any], specials: Mapping[str, str]) -> None:
    """Add tokens that only tokenizer_config.json knows, in the order of their ids, as transformers does."""
    decoder = settings.get("added_tokens_decoder")
    entries = decoder if isinstance(decoder, Mapping) else {}
    numbered = sorted((int(key), entry) for key, entry in entries.items() if key.isdecimal() and len(key) < 10)
    wanted = {text: bool(_flag(entry, "special")) for _, entry in numbered if (text := _token_text(entry))}
    wanted.update(dict.fromkeys(specials.values(), True))
    missing = [
        AddedToken(text, special=special, normalized=False)
        for text, special in wanted.items()
        if tokenizer.token_to_id(text) is None
    ]
    with tokenizer_faults():
        tokenizer.add_tokens(missing)  # at once: each call looks through all of them


def _flag(entry: object, name: str) -> object:
    return entry.get(name) if isinstance(entry, Mapping) else None


def _template_source(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The chat template: its own file first, then the configuration's, a text or a list of named ones."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return _read_text(path, MAX_SETTINGS_BYTES)
    entry = settings.get("chat_template")
    if isinstance(entry, list):
        named = {item.get("name"): item.get("template") for item in entry if _is_named(item)}
        entry = named.get("default", next(iter(named.values()), None))
    if entry is not None and not isinstance(entry, str):
        raise _damaged(folder / SETTINGS, say("has a chat_template that is no text"))
    return entry


def _is_named(item: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(item, Mapping) and isinstance(item.get("name"), str)


def _eos_ids(
    tokenizer: Tokenizer, specials: Mapping[str, str], generation: Mapping[str, Any], config: Mapping[str, Any]
) -> frozenset[int]:
    """Every id that any of the three files says ends a text."""
    ids = {*_as_ids(generation.get("eos_token_id")), *_as_ids(config.get("eos_token_id"))}
    named = tokenizer.token_to_id(specials["eos_token"]) if "eos_token" in specials else None
    return frozenset(ids if named is None else {*ids, named})


def _as_ids(value: object) -> Iterable[int]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < MAX_TOKENS]


def _bos_id(tokenizer: Tokenizer, specials: Mapping[str, str]) -> int | None:
    """The start token of a raw prompt if tokenizer.json puts one; `add_bos_token` is ignored, as by transformers."""
    bos_id = tokenizer.token_to_id(specials["bos_token"]) if "bos_token" in specials else None
    with tokenizer_faults():
        return bos_id if bos_id in tokenizer.encode("", add_special_tokens=True).ids[:1] else None
