"""Tokenizers of folders as GGUF metadata: the same ids, or a refusal; llama.cpp's ids where it is installed."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.convert.tokenizer_metadata import TokenizerMetadata, tokenizer_metadata
from engine.errors import CheckpointError, UnsupportedModelError
from engine.gguf_pre_tokenizers import WORD_SPLITS
from engine.gguf_tokenizer import tokenizer_from_metadata
from engine.tokenizer import ChatTokenizer
from tests.checkpoints import edit_json, write_tokenizer
from tests.engine.test_gguf_tokenizer_oracle import LlamaCpp
from tests.gguf_vocabularies import SPECIALS, TEXTS, byte_pairs, pieces, training_lines, with_pre, write_vocabulary

SETTINGS = {"bos_token": "<s>", "eos_token": "</s>"}
TEXTS_TO_COMPARE = [*TEXTS, *training_lines()[:300]]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# As their publishers write them; what is before the first dash is the name that llama.cpp has for it.
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
)
ENDS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PUBLISHED: Mapping[str, Any] = {
    "gpt-2": {**BYTE_LEVEL, "use_regex": True},
    "starcoder": [{"type": "Digits", "individual_digits": True}, {**BYTE_LEVEL, "use_regex": True}],
    "qwen2": CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "dbrx": CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt-4o": "|".join(f"{word}{CONTRACTIONS}?" for word in CASED) + r"|\p{N}{1,3}|" + ENDS,
    "tekken": "|".join(CASED) + r"|\p{N}|" + ENDS,
}  # fmt: skip


def as_folder(metadata: Mapping[str, Any], folder: Path, **changes: Any) -> Path:
    """A folder with the tokenizer that GGUF metadata describes; `changes` are parts of its tokenizer.json."""
    folder.mkdir()
    content = ChatTokenizer.open(write_vocabulary(metadata, folder / "vocabulary.gguf")).as_json()
    (folder / "vocabulary.gguf").unlink()
    (folder / "tokenizer.json").write_text(json.dumps({**json.loads(content), **changes}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    return folder


def rows_of(folder: Path) -> int:
    return ChatTokenizer.open(folder).vocab_size


def described(folder: Path, padding: int = 0) -> TokenizerMetadata:
    return tokenizer_metadata(folder, rows_of(folder) + padding, "m")


def check_same(folder: Path, told: TokenizerMetadata, texts: list[str] = TEXTS_TO_COMPARE) -> None:
    """Hold that the metadata gives a folder's ids and ends, and llama.cpp the same from it, where it is installed."""
    ours, found = ChatTokenizer.open(folder), tokenizer_from_metadata(told.metadata)
    for text in texts:
        assert found.tokenizer.encode(text, add_special_tokens=False).ids == ours.encode(text, bos=False), text
    assert found.eos_ids >= ours.eos_ids
    assert ([] if found.bos_id is None else [found.bos_id]) == ours.encode("", bos=True)
    typed = {key: list(value) if isinstance(value, array) else value for key, value in told.metadata.items()}
    theirs = LlamaCpp(write_vocabulary(typed, folder / "told.gguf"))
    for text in texts:
        assert theirs.encode(text, special=True) == ours.encode(text), text


@pytest.mark.parametrize("name", {split.patterns: name for name, split in WORD_SPLITS.items()}.values())
def test_every_way_to_cut_is_told_by_a_name_for_it(tmp_path: Path, name: str) -> None:
    folder = as_folder(with_pre(byte_pairs(), name), tmp_path / "m")
    told = described(folder)
    assert told.notes == ()
    check_same(folder, told, TEXTS)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("composed", [False, True])
def test_what_publishers_write_is_found(tmp_path: Path, name: str, composed: bool) -> None:
    cut = PUBLISHED[name]
    if isinstance(cut, str):
        pattern = {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False}
        cut = [pattern, {**BYTE_LEVEL, "use_regex": False}]
    if isinstance(cut, list):
        cut = {"type": "Sequence", "pretokenizers": cut}
    normalizer = {"type": "NFC"} if composed else None
    folder = as_folder(with_pre(byte_pairs(), "gpt-2"), tmp_path / "m", pre_tokenizer=cut, normalizer=normalizer)
    told = described(folder)
    approximated = name in ("gpt-4o", "tekken")
    assert told.metadata["tokenizer.ggml.pre"] == name
    assert [str(note).split()[0] for note in told.notes] == (["Words"] if approximated else [])
    texts = [text for text in TEXTS_TO_COMPARE if text.isascii() or not (approximated or composed)]
    check_same(folder, told, texts)


@pytest.mark.parametrize("prefix", [True, False])
def test_pieces_get_scores_that_merge_in_their_order(tmp_path: Path, prefix: bool) -> None:
    folder = as_folder({**pieces(), "tokenizer.ggml.add_space_prefix": prefix}, tmp_path / "m")
    told = described(folder)
    assert told.metadata["tokenizer.ggml.model"] == "llama"
    assert told.metadata["tokenizer.ggml.add_space_prefix"] is prefix
    assert told.notes == ()
    check_same(folder, told)


def test_a_space_only_before_the_first_word_is_noted(tmp_path: Path) -> None:
    """As Mistral's newer files have it; llama.cpp puts one after every special token."""
    cutter = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    folder = as_folder(pieces(), tmp_path / "m", normalizer=None, pre_tokenizer=cutter)
    told = described(folder)
    assert [str(note).split()[0] for note in told.notes] == ["Spaces"]
    inner = [text.strip() for text in TEXTS_TO_COMPARE]
    check_same(folder, told, [text for text in inner if text and not any(token in text for token in SPECIALS)])


def test_tokens_fill_the_embedding_and_have_their_kinds(tmp_path: Path) -> None:
    folder = as_folder(with_pre(byte_pairs(), "qwen2"), tmp_path / "m")
    count = rows_of(folder)
    told = described(folder, padding=3)
    tokens: Any = told.metadata["tokenizer.ggml.tokens"]
    types: Any = told.metadata["tokenizer.ggml.token_type"]
    assert tokens[count:] == [f"[PAD{count + index}]" for index in range(3)]
    before = dict(zip(byte_pairs()["tokenizer.ggml.tokens"], byte_pairs()["tokenizer.ggml.token_type"], strict=True))
    assert {token: types[tokens.index(token)] for token in ("<s>", "<tool>", "a")} == {
        token: before[token] for token in ("<s>", "<tool>", "a")
    }
    assert list(types[count:]) == [5, 5, 5]
    check_same(folder, told, TEXTS)


def test_ends_and_the_template_go_along(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    write_tokenizer(folder, 300)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 70, 71]}), encoding="utf-8")
    told = described(folder)
    assert tokenizer_from_metadata(told.metadata).eos_ids == {2, 70, 71}
    template = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"]
    assert told.metadata["tokenizer.chat_template"] == template
    assert told.metadata["tokenizer.ggml.add_bos_token"] is True
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 70, 71, 72]}), encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match="More tokens end a reply"):
        described(folder)


def test_what_gguf_cannot_say_is_refused(tmp_path: Path) -> None:
    metadata = with_pre(byte_pairs(), "qwen2")
    lower = as_folder(metadata, tmp_path / "lower", normalizer={"type": "Lowercase"})
    with pytest.raises(UnsupportedModelError, match="No name"):
        described(lower)
    cut = {"type": "Sequence", "pretokenizers": [{"type": "Punctuation"}, {**BYTE_LEVEL, "use_regex": False}]}
    with pytest.raises(UnsupportedModelError, match="No name"):
        described(as_folder(metadata, tmp_path / "cut", pre_tokenizer=cut))
    stripped = as_folder(pieces(), tmp_path / "stripped", normalizer={"type": "NFKC"})
    with pytest.raises(UnsupportedModelError, match="As SentencePiece pieces"):
        described(stripped)
    with pytest.raises(UnsupportedModelError, match="more tokens than"):
        tokenizer_metadata(lower, rows_of(lower) - 1, "m")
    words = {"type": "WordLevel", "vocab": {"<s>": 0, "</s>": 1, "a": 2}, "unk_token": "a"}
    edit_json(stripped / "tokenizer.json", model=words, added_tokens=[])
    with pytest.raises(UnsupportedModelError, match="of the kind 'WordLevel'"):
        described(stripped)
    (stripped / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError):
        tokenizer_metadata(stripped, 3, "m")
