"""The tokenizer that a GGUF file's metadata describes, as a `tokenizers.Tokenizer`.

Two kinds (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md):

- "llama": SentencePiece pieces with scores (Mixtral). The adjacent pair that makes the piece of the highest score is
  merged first; what is no piece becomes byte tokens. The same as byte-pair merges in the order of the scores.
- "gpt2": byte-level byte pairs with their merges, in words cut as `engine.gguf_pre_tokenizers` says.

Ids equal llama.cpp's for the same file, but for three things that no trainer produces: where special tokens
overlap, the one that begins first wins, not the longest anywhere in the text; where pieces tie in score, the lower id
wins, not the leftmost pair; and a piece with a character beyond ASCII that is no piece itself is not found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from engine.checkpoint.untrusted import quote
from engine.errors import CheckpointError, UnsupportedModelError
from engine.gguf_pre_tokenizers import DEFAULT, find_word_split
from engine.gguf_vocabulary import (
    MAX_MERGES,
    MERGES,
    MODEL,
    SCORES,
    TOKENS,
    TokenType,
    Vocabulary,
    damaged,
    read_flag,
    read_scores,
    read_texts,
    read_vocabulary,
)
from engine.sentences import say
from engine.tokenizer_parts import TokenizerParts

CHAT_TEMPLATE = "tokenizer.chat_template"
SPACE = "\u2581"  # what stands for a space inside pieces
MAX_CUT_CHARS = 1 << 29  # copied while pieces are taken apart, all together

_SENTENCEPIECE_ROLES = {"unk": 0, "bos": 1, "eos": 2}
_TEMPLATE_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_NO_RIGHT_STRIP = ("<unk>", "<s>", "<|endoftext|>")


def tokenizer_from_metadata(metadata: Mapping[str, Any]) -> TokenizerParts:
    """Build the tokenizer of a GGUF file.

    Args:
        metadata: The file's keys and values; arrays as lists or numpy arrays.

    Raises:
        CheckpointError: The metadata has no tokenizer, or a damaged one.
        UnsupportedModelError: The tokenizer is of a kind, or cuts words in a way, that is not known here.
    """
    kind = metadata.get(MODEL)
    if kind == "llama":
        vocabulary, tokenizer, add_bos = _sentencepiece(metadata)
    elif kind == "gpt2":
        vocabulary, tokenizer, add_bos = _byte_pairs(metadata)
    elif kind is None:
        raise CheckpointError(
            say("The GGUF file has no tokenizer."), say("Choose a GGUF file that holds a whole model.")
        )
    else:
        raise UnsupportedModelError(
            say("The GGUF file's tokenizer is of the kind {kind}, which is not supported.", kind=quote(kind)),
            say("Choose the safetensors version of the model, which brings its own tokenizer.json."),
        )
    _add_special_tokens(tokenizer, vocabulary, metadata.get("general.name"))
    roles = vocabulary.roles
    return TokenizerParts(
        tokenizer,
        {f"{role}_token": vocabulary.tokens[roles[role]] for role in _TEMPLATE_ROLES if role in roles},
        _read_template(metadata),
        vocabulary.eos_ids,
        roles.get("bos") if read_flag(metadata, "add_bos_token", default=add_bos) else None,
    )


def _sentencepiece(metadata: Mapping[str, Any]) -> tuple[Vocabulary, Tokenizer, bool]:
    """Pieces with scores; a start token by default."""
    vocabulary = read_vocabulary(metadata, _SENTENCEPIECE_ROLES)
    prefix = read_flag(metadata, "add_space_prefix", default=True)
    unknown = vocabulary.roles.get("unk")
    ids = _with_single_bytes(vocabulary.ids)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=ids,
            merges=_merges_by_score(vocabulary.tokens, read_scores(metadata, len(vocabulary.tokens)), ids),
            byte_fallback=True,
            fuse_unk=True,
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
        )
    )
    replace = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if prefix else replace
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return vocabulary, tokenizer, True


def _with_single_bytes(ids: Mapping[str, int]) -> dict[str, int]:
    """The pieces' ids, and byte tokens under their characters too: a line feed that is no piece can begin one."""
    single = {chr(byte): ids[name] for byte in range(128) if (name := f"<0x{byte:02X}>") in ids}
    return {**single, **ids}


def _merges_by_score(tokens: list[str], scores: list[float], ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two others, the highest score first."""
    if sum(len(piece) ** 2 for piece in tokens) > MAX_CUT_CHARS:
        raise damaged(TOKENS, say("has too many long pieces"))
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    merges: list[tuple[str, str]] = []
    for index in order:
        piece = tokens[index]
        for cut in range(1, len(piece)):
            left = piece[:cut]
            if left in ids and (right := piece[cut:]) in ids:
                merges.append((left, right))
        if len(merges) > MAX_MERGES:
            raise damaged(SCORES, say("stands for over {most} merges", most=MAX_MERGES))
    return merges


def _byte_pairs(metadata: Mapping[str, Any]) -> tuple[Vocabulary, Tokenizer, bool]:
    """Byte-level pairs; whether a start token is the default."""
    name = metadata.get("tokenizer.ggml.pre", DEFAULT)
    if not isinstance(name, str):
        raise damaged("tokenizer.ggml.pre", say("is no text"))
    words = find_word_split(name or DEFAULT)
    vocabulary = read_vocabulary(metadata, {})
    model = models.BPE(
        vocab=vocabulary.ids, merges=_read_merges(metadata, vocabulary.ids), ignore_merges=words.ignore_merges
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = words.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    return vocabulary, tokenizer, words.add_bos


def _read_merges(metadata: Mapping[str, Any], ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of tokens, each once, in the order in which they are merged."""
    merges: dict[tuple[str, str], None] = {}
    for line in read_texts(metadata, MERGES, MAX_MERGES):
        cut = line.find(" ", 1)
        left, right = line[:cut], line[cut + 1 :]
        if cut < 0 or left not in ids or right not in ids or left + right not in ids:
            raise damaged(MERGES, say("has {line}, which does not make a token out of two others", line=quote(line)))
        merges[left, right] = None
    return list(merges)


def _add_special_tokens(tokenizer: Tokenizer, vocabulary: Vocabulary, model_name: object) -> None:
    """Tell the tokenizer which tokens are cut out of a text first, and which of them show nothing."""
    # Phi-3's swallow the white space after them, which no key says.
    swallow = isinstance(model_name, str) and any(name in model_name.lower() for name in ("phi-3", "phi3"))
    added = [
        AddedToken(
            vocabulary.tokens[index],
            special=vocabulary.types[index] != TokenType.USER_DEFINED,
            normalized=False,
            rstrip=swallow and vocabulary.tokens[index] not in _NO_RIGHT_STRIP,
        )
        for index in vocabulary.special_ids()
    ]
    tokenizer.add_tokens(added)


def _read_template(metadata: Mapping[str, Any]) -> str | None:
    """The file's chat template."""
    template = metadata.get(CHAT_TEMPLATE)
    if template is not None and not isinstance(template, str):
        raise damaged(CHAT_TEMPLATE, say("is no text"))
    return template or None
