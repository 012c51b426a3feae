"""The tokens that a GGUF file lists, checked as if an enemy wrote them.

Knows nothing about how text is cut; `engine.gguf_tokenizer` does. What a token is for is told by its type, by the ids
that the file names, and, as in llama.cpp, by its text: many files mark a token that ends a reply as an ordinary one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from engine.checkpoint.untrusted import DOWNLOAD_AGAIN, quote
from engine.errors import CheckpointError
from engine.sentences import say

MODEL, TOKENS, TYPES, SCORES, MERGES = (
    f"tokenizer.ggml.{name}" for name in ("model", "tokens", "token_type", "scores", "merges")
)
MAX_TOKENS = 1 << 20
MAX_TOKEN_CHARS = 4096  # the longest known have 1024
MAX_VOCABULARY_CHARS = 16 << 20
MAX_MERGES = 2_000_000
MAX_SPECIAL_CHARS = 1 << 20  # of the tokens that are looked for in every text

# Role -> the texts that have it where no key names an id; each word is one token.
_FIM = {
    "fim_pre": "<|fim_prefix|> <fim-prefix> <fim_prefix> <\uff5cfim\u2581begin\uff5c> <PRE> \u2581<PRE> "
    "<|code_prefix|> <|prefix|>",
    "fim_suf": "<|fim_suffix|> <fim-suffix> <fim_suffix> <\uff5cfim\u2581hole\uff5c> <SUF> \u2581<SUF> "
    "<|code_suffix|> <|suffix|>",
    "fim_mid": "<|fim_middle|> <fim-middle> <fim_middle> <\uff5cfim\u2581end\uff5c> <MID> \u2581<MID> "
    "<|code_middle|> <|middle|>",
    "fim_pad": "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]",
    "fim_rep": "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>",
    "fim_sep": "<|file_sep|>",
}
_ENDING_ROLES = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
_ENDING_TEXTS = (
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> "
    "<EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> "
    "<\uff5cend\u2581of\u2581sentence\uff5c> [e~["
)
_SHOWN_TEXTS = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")
_KEYS = {"unk": "unknown", "sep": "seperator", "pad": "padding"}  # the format's own spelling
_STRICT_ROLES = ("bos", "eos", "eot", "eom")


class TokenType(IntEnum):
    """What a token is, as the format numbers it."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens and what they are for.

    Attributes:
        tokens: Texts by id; no two are the same and none is empty.
        ids: Ids by text.
        types: Types by id.
        roles: Ids by role: "bos", "eos", "unk", "pad" and their like, as far as the file names them.
        eos_ids: Every id that ends a reply.
    """

    tokens: list[str]
    ids: dict[str, int]
    types: list[TokenType]
    roles: dict[str, int]
    eos_ids: frozenset[int]

    def special_ids(self) -> list[int]:
        """Tokens that are cut out of a text before anything else happens to it."""
        wanted = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
        return [index for index, kind in enumerate(self.types) if kind in wanted]


def read_vocabulary(metadata: Mapping[str, Any], default_roles: Mapping[str, int]) -> Vocabulary:
    """The vocabulary of a file.

    Args:
        metadata: The file's keys and values.
        default_roles: Ids of roles that the file does not name; those that it has no token for do not count.

    Raises:
        CheckpointError: The vocabulary is missing, damaged or over a limit.
    """
    tokens = [token or f"[EMPTY_{index}]" for index, token in enumerate(read_texts(metadata, TOKENS, MAX_TOKENS))]
    if not tokens:
        raise damaged(TOKENS, say("is empty"))
    ids = {token: index for index, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        repeated = next(token for index, token in enumerate(tokens) if ids[token] != index)
        raise damaged(TOKENS, say("has the token {repeated} twice", repeated=quote(repeated)))
    types = _read_types(metadata, len(tokens))
    roles = {role: index for role, index in default_roles.items() if index < len(tokens)}
    roles.update(_read_roles(metadata, len(tokens)))
    eos_ids = _settle_roles(ids, types, roles)
    vocabulary = Vocabulary(tokens, ids, types, roles, eos_ids)
    special_chars = sum(len(tokens[index]) for index in vocabulary.special_ids())
    if special_chars > MAX_SPECIAL_CHARS:
        raise damaged(
            TYPES,
            say(
                "marks {number} characters as special, over the limit of {most}",
                number=special_chars,
                most=MAX_SPECIAL_CHARS,
            ),
        )
    return vocabulary


def read_texts(metadata: Mapping[str, Any], key: str, most: int) -> list[str]:
    """An array of bounded strings.

    Raises:
        CheckpointError: It is missing, no array of strings, or over a limit.
    """
    values = metadata.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise damaged(key, say("is missing") if values is None else say("is no array of texts"))
    if len(values) > most:
        raise damaged(key, say("has {number} entries, over the limit of {most}", number=len(values), most=most))
    longest = max(map(len, values), default=0)
    if longest > MAX_TOKEN_CHARS:
        raise damaged(
            key,
            say(
                "has an entry of {number} characters, over the limit of {most}",
                number=longest,
                most=MAX_TOKEN_CHARS,
            ),
        )
    total = sum(map(len, values))
    if total > MAX_VOCABULARY_CHARS:
        raise damaged(
            key,
            say(
                "has {number} characters, over the limit of {most}",
                number=total,
                most=MAX_VOCABULARY_CHARS,
            ),
        )
    return values


def read_scores(metadata: Mapping[str, Any], count: int) -> list[float]:
    """The score of each token; equal ones where the file gives none.

    Raises:
        CheckpointError: There are not as many as tokens, or one is not a number.
    """
    values = _numbers(metadata, SCORES, count)
    if values is None:
        return [0.0] * count
    scores = [float(value) for value in values]
    if any(map(math.isnan, scores)):
        raise damaged(SCORES, say("has a score that is not a number"))
    return scores


def read_flag(metadata: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """One of the format's yes-or-no keys.

    Raises:
        CheckpointError: It is neither.
    """
    key = f"tokenizer.ggml.{name}"
    value = metadata.get(key, default)
    if not isinstance(value, bool):
        raise damaged(key, say("is {value}, neither true nor false", value=quote(value)))
    return value


def damaged(key: str, what: str) -> CheckpointError:
    """The error for a key whose value cannot be used."""
    return CheckpointError(say("{key} in the GGUF file {what}.", key=key, what=what), DOWNLOAD_AGAIN)


def _numbers(metadata: Mapping[str, Any], key: str, count: int) -> Sequence[int | float] | None:
    """One number per token, as Python's; None where the key is missing."""
    values = metadata.get(key)
    if values is None:
        return None
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise damaged(key, say("is no array of numbers"))
    if len(values) != count:
        raise damaged(key, say("has {number} entries for {count} tokens", number=len(values), count=count))
    return values


def _read_types(metadata: Mapping[str, Any], count: int) -> list[TokenType]:
    """The type of each token; a number that the format does not know counts as undefined."""
    values = _numbers(metadata, TYPES, count)
    if values is None:
        return [TokenType.NORMAL] * count
    known: dict[float, TokenType] = {kind.value: kind for kind in TokenType}
    return [known.get(value, TokenType.UNDEFINED) for value in values]


def _read_roles(metadata: Mapping[str, Any], count: int) -> dict[str, int]:
    """Ids by role, as the file names them; a wrong one is an error only where replies depend on it."""
    roles: dict[str, int] = {}
    for role in ("bos", "eos", "eot", "eom", "unk", "sep", "pad", "cls", "mask", *_FIM):
        key = f"tokenizer.ggml.{_KEYS.get(role, role)}_token_id"
        value = metadata.get(key)
        if type(value) is int and 0 <= value < count:
            roles[role] = value
        elif value is not None and role in _STRICT_ROLES:
            raise damaged(
                key, say("is {value}, not the id of one of its {count} tokens", value=quote(value), count=count)
            )
    return roles


def _settle_roles(ids: Mapping[str, int], types: list[TokenType], roles: dict[str, int]) -> frozenset[int]:
    """Give roles by text as llama.cpp does, correct the types of those tokens, and return what ends a reply."""
    for role, texts in _FIM.items():
        found = [ids[text] for text in texts.split() if text in ids] if role not in roles else []
        if found:
            roles[role] = found[0]
            types[found[0]] = TokenType.CONTROL
    ending = {ids[text] for text in _ENDING_TEXTS.split() if text in ids}
    for index in ending:
        types[index] = TokenType.CONTROL
    for text in _SHOWN_TEXTS:
        if text in ids:
            types[ids[text]] = TokenType.USER_DEFINED
    ending.update(roles[role] for role in _ENDING_ROLES if role in roles)
    if "<|end|>" in ids and ({"<|return|>", "<|call|>"} <= ids.keys() or _ends_parts(ids)):
        ending.discard(ids["<|end|>"])  # there it ends one part of a reply, not the reply
        types[ids["<|end|>"]] = TokenType.USER_DEFINED
    return frozenset(ending)


def _ends_parts(ids: Mapping[str, int]) -> bool:
    """Whether this is the vocabulary of solar-open, whose replies have several parts."""
    return "<|flush|>" in ids and ("<|call|>" in ids or "<|calls|>" in ids)
