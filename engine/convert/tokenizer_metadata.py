"""A folder's tokenizer as the metadata of a GGUF file, held against itself.

Two kinds of tokenizer.json can be said there (`engine.gguf_tokenizer` tells what they mean): byte pairs over pieces
that fall back to bytes ("llama", SentencePiece), and byte-level pairs ("gpt2"). A file names how words are cut before
pairs are merged and does not describe it: the name is found by what the tokenizer's own cutting does with texts made
for that. Then the tokenizer of the metadata must give the ids of tokenizer.json, for the same texts and for every token
of the vocabulary between others; what does not is refused, and never written a little wrong.
"""

from __future__ import annotations

import json
import random
import unicodedata
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import PreTokenizer

from engine.checkpoint.gguf_file import MetadataValue
from engine.checkpoint.untrusted import quote
from engine.convert.shape_metadata import USE_FOLDER
from engine.convert.tokenizer_probes import PROBES
from engine.errors import UnsupportedModelError
from engine.folder_tokenizer import read_chat_template, read_special_tokens
from engine.gguf_pre_tokenizers import DEFAULT, WORD_SPLITS
from engine.gguf_tokenizer import CHAT_TEMPLATE, tokenizer_from_metadata
from engine.gguf_vocabulary import MERGES, MODEL, SCORES, TOKENS, TYPES, TokenType, read_vocabulary
from engine.sentences import say
from engine.tokenizer import ChatTokenizer
from engine.tokenizer_parts import TokenizerParts

LINE_TOKENS = 24
MAX_SPECIALS = 256
_NAMED_ENDINGS = ("eot", "eom")
_APPROXIMATED = ("gpt-4o", "tekken")  # llama.cpp's patterns for them differ beyond ASCII


@dataclass(frozen=True, slots=True)
class TokenizerMetadata:
    """A tokenizer in GGUF's terms.

    Attributes:
        metadata: The file's keys and values.
        notes: Sentences about texts that other programs cut otherwise than the model's publisher.
    """

    metadata: dict[str, MetadataValue]
    notes: tuple[str, ...]


def tokenizer_metadata(folder: Path, rows: int, name: str) -> TokenizerMetadata:
    """What a GGUF file says of a folder's tokenizer.

    Args:
        folder: With tokenizer.json and the files beside it.
        rows: Of the embedding: the file must name as many tokens.
        name: What the file calls the model.

    Raises:
        UnsupportedModelError: GGUF cannot say this tokenizer.
        CheckpointError: It is missing or damaged.
    """
    source = _Published(folder)
    if source.model.get("type") != "BPE":
        raise _unfit(say("The tokenizer is of the kind {kind}.", kind=quote(source.model.get("type"))))
    tokens, types = _tokens(source, rows)
    shared: dict[str, MetadataValue] = {
        TOKENS: tokens,
        TYPES: array("i", types),
        **_roles(source, tokens, types),
        **_template(folder),
    }
    find = _pieces if source.model.get("byte_fallback") else _byte_pairs
    return find(source, shared, name)


class _Published:
    """A folder's tokenizer as its publisher wrote it."""

    def __init__(self, folder: Path) -> None:
        self.chat = ChatTokenizer.open(folder)
        content = self.chat.as_json()
        self.tokenizer = Tokenizer.from_str(content)
        parts = json.loads(content)
        self.model: dict[str, Any] = parts["model"]
        self.added: list[dict[str, Any]] = parts["added_tokens"]
        self.specials = read_special_tokens(folder)
        self._composes = (parts["normalizer"] or {}).get("type") == "NFC"

    def ids(self, text: str) -> list[int]:
        """Without a start token."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def plain_texts(self) -> list[str]:
        """Texts made for cutting, and all tokens that show as text, between others."""
        shown = [self.tokenizer.decode([index]) for index in range(self.tokenizer.get_vocab_size())]
        shown = [text for text in shown if text and "\ufffd" not in text]
        random.Random(0).shuffle(shown)
        runs = (shown[first : first + LINE_TOKENS] for first in range(0, len(shown), LINE_TOKENS))
        lines = [(" " if number % 2 else "").join(run) for number, run in enumerate(runs)]
        return [self._composed(text) for text in (*PROBES, *lines)]

    @cached_property
    def inner_texts(self) -> list[str]:
        """Those in which it does not matter what is done with spaces where a text begins."""
        return [
            text
            for text in self.plain_texts
            if not text[0].isspace() and not any(token in text for token in self.added_texts)
        ]

    @cached_property
    def special_texts(self) -> list[str]:
        """Texts around added tokens."""
        return [f"a {text} b{text}c\n{text}\n d" for text in self.added_texts[:MAX_SPECIALS]]

    @property
    def added_texts(self) -> list[str]:
        """The added tokens, in the order of their ids."""
        return [token["content"] for token in self.added]

    def words(self, text: str) -> list[str]:
        """A text as it is cut before pairs are merged."""
        cutter = self.tokenizer.pre_tokenizer
        return [text] if cutter is None else [word for word, _ in cutter.pre_tokenize_str(text)]

    def _composed(self, text: str) -> str:
        """As the tokenizer would compose its characters; GGUF cannot say that, and few texts need it."""
        return unicodedata.normalize("NFC", text) if self._composes else text


def _tokens(source: _Published, rows: int) -> tuple[list[str], list[int]]:
    """Every token's text and type, filled up to the rows of the embedding."""
    ids: dict[str, int] = {**source.model["vocab"], **{token["content"]: token["id"] for token in source.added}}
    if max(ids.values(), default=0) >= rows:
        raise _unfit(say("The tokenizer has more tokens than the embedding's {rows} rows.", rows=rows))
    tokens, types = [f"[PAD{index}]" for index in range(rows)], [TokenType.UNUSED.value] * rows
    falls_back, unknown = bool(source.model.get("byte_fallback")), source.model.get("unk_token")
    for text, index in ids.items():
        tokens[index], types[index] = text, TokenType.NORMAL.value
        if falls_back and _is_byte(text):
            types[index] = TokenType.BYTE.value
    for token in source.added:
        kind = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
        types[token["id"]] = kind.value
    if falls_back and unknown in ids:
        types[ids[unknown]] = TokenType.UNKNOWN.value
    return tokens, types


def _is_byte(text: str) -> bool:
    return len(text) == len("<0x00>") and text.startswith("<0x") and text.endswith(">")


def _roles(source: _Published, tokens: list[str], types: list[int]) -> dict[str, MetadataValue]:
    """Which tokens begin and end what; every one that ends a reply must be known as such."""
    id_of = {token: index for index, token in enumerate(tokens)}
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    named = ((role, id_of.get(source.specials.get(name, ""))) for name, role in names.items())
    keys = {f"tokenizer.ggml.{role}_token_id": index for role, index in named if index is not None}
    first, ending = source.chat.encode("", bos=True), sorted(source.chat.eos_ids)
    if ending:
        keys.setdefault("tokenizer.ggml.eos_token_id", ending[0])
    metadata: dict[str, MetadataValue] = {**keys, "tokenizer.ggml.add_bos_token": bool(first)}
    known = read_vocabulary({TOKENS: tokens, TYPES: types, **keys}, {}).eos_ids
    unknown = [index for index in ending if index not in known]
    if len(unknown) > len(_NAMED_ENDINGS):
        raise _unfit(say("More tokens end a reply than GGUF has names for."))
    for role, index in zip(_NAMED_ENDINGS, unknown, strict=False):
        metadata[f"tokenizer.ggml.{role}_token_id"] = index
    return metadata


def _template(folder: Path) -> dict[str, MetadataValue]:
    template = read_chat_template(folder)
    return {} if template is None else {CHAT_TEMPLATE: template}


def _pieces(source: _Published, shared: Mapping[str, MetadataValue], name: str) -> TokenizerMetadata:
    """Pieces, scored by when they are first merged."""
    order: dict[str, int] = {}
    for left, right in source.model["merges"]:
        order.setdefault(left + right, len(order))
    scores = array("f", [-float(order.get(token, len(order))) for token in shared[TOKENS]])  # type: ignore[union-attr]
    for prefix in (True, False):
        metadata = {MODEL: "llama", "tokenizer.ggml.pre": DEFAULT, SCORES: scores, **shared}
        metadata["tokenizer.ggml.add_space_prefix"] = prefix
        found = tokenizer_from_metadata({**metadata, "general.name": name})
        if _same_ids(source, found, source.inner_texts):
            return TokenizerMetadata(metadata, _notes(source, found))
    raise _unfit(say("As SentencePiece pieces its tokenizer would give other ids."))


def _byte_pairs(source: _Published, shared: Mapping[str, MetadataValue], name: str) -> TokenizerMetadata:
    """Byte-level pairs, in words that one of the names known to llama.cpp stands for."""
    lines = [" ".join(pair) for pair in source.model["merges"]]
    for pre, exact in _names(source):
        metadata = {MODEL: "gpt2", "tokenizer.ggml.pre": pre, MERGES: lines, **shared}
        found = tokenizer_from_metadata({**metadata, "general.name": name})
        if _same_ids(source, found, source.plain_texts if exact else _in_ascii(source.plain_texts)):
            note = say("Words with letters beyond A to Z may be cut otherwise by other programs.")
            return TokenizerMetadata(metadata, _notes(source, found) if exact else (note,))
    raise _unfit(say("No name that GGUF has for the cutting of words gives the ids of its tokenizer."))


def _names(source: _Published) -> list[tuple[str, bool]]:
    """Names whose cutting is the tokenizer's own, and those that llama.cpp approximates where it is in ASCII."""
    exact, near = [], []
    texts, plain = list(PROBES), _in_ascii(PROBES)
    wanted, wanted_plain = [source.words(text) for text in texts], [source.words(text) for text in plain]
    seen = set()
    for name in sorted(WORD_SPLITS, key=lambda name: name == DEFAULT):
        split = WORD_SPLITS[name]
        if split in seen:
            continue
        seen.add(split)
        cutter = split.pre_tokenizer()
        if _cut(cutter, texts) == wanted:
            exact.append((name, True))
        elif name in _APPROXIMATED and _cut(cutter, plain) == wanted_plain:
            near.append((name, False))
    whole = bool(source.model.get("ignore_merges"))
    return [*sorted(exact, key=lambda found: WORD_SPLITS[found[0]].ignore_merges != whole), *near]


def _cut(cutter: PreTokenizer, texts: Sequence[str]) -> list[list[str]]:
    return [[word for word, _ in cutter.pre_tokenize_str(text)] for text in texts]


def _in_ascii(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if text.isascii()]


def _same_ids(source: _Published, found: TokenizerParts, texts: Iterable[str]) -> bool:
    return all(source.ids(text) == _ids(found, text) for text in texts)


def _ids(found: TokenizerParts, text: str) -> list[int]:
    return list(found.tokenizer.encode(text, add_special_tokens=False).ids)


def _notes(source: _Published, found: TokenizerParts) -> tuple[str, ...]:
    """What GGUF cannot say of spaces where a text begins, also after special tokens; llama.cpp has one way for all."""
    if _same_ids(source, found, [*source.special_texts, *source.plain_texts]):
        return ()
    return (say("Spaces beside special tokens may be cut otherwise by other programs."),)


def _unfit(reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(reason, USE_FOLDER)
