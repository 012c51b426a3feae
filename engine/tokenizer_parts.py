"""What is read of a model's tokenizer, whichever files it came in."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class TokenizerParts:
    """A tokenizer as a model's files describe it.

    Attributes:
        tokenizer: Text to ids and back; special tokens written out in a text are taken as such.
        specials: Text of `bos_token`, `eos_token` and their like, by name.
        chat_template: The file's own, None where it has none.
        eos_ids: Every id that ends a reply.
        bos_id: What a raw prompt begins with, None for nothing.
    """

    tokenizer: Tokenizer
    specials: dict[str, str]
    chat_template: str | None
    eos_ids: frozenset[int]
    bos_id: int | None
