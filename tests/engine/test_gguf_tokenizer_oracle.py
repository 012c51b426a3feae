"""Tokenizers from GGUF metadata against llama.cpp on the same files; skipped where llama-cpp-python is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.gguf_pre_tokenizers import WORD_SPLITS
from engine.tokenizer import ChatTokenizer
from tests.examples import examples
from tests.gguf_vocabularies import (
    CONTROL,
    FROZEN,
    NORMAL,
    SMALL_BYTES,
    SMALL_PIECES,
    TEXTS,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Metadata,
    byte_pairs,
    guide,
    pieces,
    random_texts,
    training_lines,
    vocabulary,
    with_pre,
    write_vocabulary,
)

FAMILIES = {split.patterns: name for name, split in WORD_SPLITS.items()}.values()  # one name for each way to cut


class LlamaCpp:
    """llama.cpp's vocabulary of a file; the file's weights are not asked for."""

    def __init__(self, path: Path) -> None:
        self._api: Any = pytest.importorskip(
            "llama_cpp", reason="compares with llama.cpp (pip install llama-cpp-python)"
        )
        parameters = self._api.llama_model_default_params()
        parameters.vocab_only = True
        self._model = self._api.llama_model_load_from_file(str(path).encode(), parameters)
        assert self._model, f"llama.cpp refuses {path}"
        self._vocab = self._api.llama_model_get_vocab(self._model)

    def encode(self, text: str, special: bool = False) -> list[int]:
        raw = text.encode()
        ids = (self._api.llama_token * (2 * len(raw) + 8))()
        count = self._api.llama_tokenize(self._vocab, raw, len(raw), ids, len(ids), special, True)  # noqa: FBT003 - a C function
        assert count >= 0
        return list(ids[:count])

    def decode(self, ids: list[int]) -> str:
        text = bytes(64 * len(ids) + 64)
        given = (self._api.llama_token * len(ids))(*ids)
        count = self._api.llama_detokenize(self._vocab, given, len(ids), text, len(text), False, False)  # noqa: FBT003
        return text[:count].decode()

    def ending(self) -> set[int]:
        count = self._api.llama_vocab_n_tokens(self._vocab)
        return {token for token in range(count) if self._api.llama_vocab_is_eog(self._vocab, token)}


Both = Callable[[Metadata], tuple[ChatTokenizer, LlamaCpp]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The same file opened by us and by llama.cpp, once for each metadata."""
    folder = tmp_path_factory.mktemp("vocabularies")
    opened: dict[str, tuple[ChatTokenizer, LlamaCpp]] = {}

    def open_both(metadata: Metadata) -> tuple[ChatTokenizer, LlamaCpp]:
        key = repr(metadata)
        if key not in opened:
            path = write_vocabulary(metadata, folder / f"{len(opened)}.gguf")
            opened[key] = ChatTokenizer.open(path), LlamaCpp(path)
        return opened[key]

    return open_both


@pytest.mark.parametrize("pre", WORD_SPLITS)
def test_byte_pair_ids_equal_llama_cpp(both: Both, pre: str) -> None:
    ours, theirs = both(with_pre(byte_pairs(), pre))
    for text in [*TEXTS, *training_lines()[:200]]:
        assert ours.encode(text, bos=False) == theirs.encode(text), text
    assert ours.encode("a") == theirs.encode("a", special=True)


@examples(500)
@given(text=random_texts, pre=st.sampled_from(sorted(FAMILIES)))
def test_byte_pair_ids_of_any_text_equal_llama_cpp(both: Both, text: str, pre: str) -> None:
    ours, theirs = both(with_pre(byte_pairs(), pre))
    assert ours.encode(text, bos=False) == theirs.encode(text)


@pytest.mark.parametrize("prefix", [True, False])
def test_piece_ids_equal_llama_cpp(both: Both, prefix: bool) -> None:
    ours, theirs = both({**pieces(), "tokenizer.ggml.add_space_prefix": prefix})
    runs = [f"{lead}{char * count}{lead}" for char in " =-x1" for count in range(40) for lead in ("", "a", " ")]
    for text in [*TEXTS, *training_lines()[:400], *runs]:
        assert ours.encode(text) == theirs.encode(text, special=True), text


@examples(500)
@given(text=random_texts | st.text("ab xe=▁1\n-", max_size=60), prefix=st.booleans())
def test_piece_ids_of_any_text_equal_llama_cpp(both: Both, text: str, prefix: bool) -> None:
    ours, theirs = both({**pieces(), "tokenizer.ggml.add_space_prefix": prefix})
    assert ours.encode(text, bos=False) == theirs.encode(text)


def _shown(metadata: Metadata, ids: list[int]) -> list[int]:
    """Without the tokens that show nothing; where such a one comes first, llama.cpp leaves the space after it."""
    types = metadata["tokenizer.ggml.token_type"]
    return [token for token in ids if types[token] not in (CONTROL, UNKNOWN)]


@examples(300)
@given(text=random_texts)
def test_texts_come_back_as_from_llama_cpp_and_in_pieces(both: Both, text: str) -> None:
    for metadata in (pieces(), with_pre(byte_pairs(), "qwen2")):
        ours, theirs = both(metadata)
        ids = ours.encode(text, bos=False)
        stream = ours.decoder()
        assert ours.decode(ids) == theirs.decode(_shown(metadata, ids))
        assert "".join([*(stream.push(token) for token in ids), stream.flush()]) == ours.decode(ids)


@pytest.mark.parametrize(("metadata", "pre", "text", "expected"), FROZEN)
def test_frozen_ids_are_those_of_llama_cpp(
    both: Both, metadata: Metadata, pre: str | None, text: str, expected: list[int]
) -> None:
    assert both(with_pre(metadata, pre))[1].encode(text) == expected


@pytest.mark.parametrize("flag", [None, True, False])
@pytest.mark.parametrize("pre", [None, "qwen2", "llama-bpe"])
def test_start_token_equals_llama_cpp(both: Both, pre: str | None, flag: bool | None) -> None:
    metadata = with_pre(SMALL_PIECES if pre is None else SMALL_BYTES, pre)
    ours, theirs = both(metadata if flag is None else {**metadata, "tokenizer.ggml.add_bos_token": flag})
    assert ours.encode("hello") == theirs.encode("hello", special=True)


ENDING_TOKENS: list[tuple[dict[str, int], Metadata]] = [
    ({"<|im_end|>": NORMAL, "<|endoftext|>": CONTROL, "<|eom_id|>": USER_DEFINED, "<|eot_id|>": CONTROL}, {}),
    ({"<end_of_turn>": NORMAL, "[EOS]": CONTROL, "<\uff5cend▁of▁sentence\uff5c>": CONTROL}, {}),
    ({"<\uff5cfim▁end\uff5c>": NORMAL, "<PRE>": UNUSED}, {}),
    ({"<|fim_pad|>": NORMAL, "<|repo_name|>": CONTROL, "<|file_sep|>": NORMAL, "<|fim_prefix|>": NORMAL}, {}),
    ({"<|end|>": CONTROL, "<|return|>": CONTROL, "<|call|>": CONTROL, "<|channel|>": CONTROL, "<|start|>": NORMAL}, {}),
    ({"<|end|>": CONTROL, "<|flush|>": CONTROL, "<|calls|>": CONTROL}, {}),
    ({"<|end|>": CONTROL, "<|return|>": CONTROL}, {}),
    ({"one": CONTROL, "two": NORMAL}, {"tokenizer.ggml.eot_token_id": 269, "tokenizer.ggml.eom_token_id": 270}),
    ({"one": CONTROL}, {"tokenizer.ggml.fim_sep_token_id": 269, "tokenizer.ggml.padding_token_id": 100_000}),
]


@pytest.mark.parametrize(("tokens", "keys"), ENDING_TOKENS)
def test_reply_ends_and_special_tokens_equal_llama_cpp(both: Both, tokens: dict[str, int], keys: Metadata) -> None:
    old = dict(zip(SMALL_BYTES["tokenizer.ggml.tokens"], SMALL_BYTES["tokenizer.ggml.token_type"], strict=True))
    ours, theirs = both({**SMALL_BYTES, **vocabulary("gpt2", {**old, **tokens}, pre="qwen2"), **keys})
    assert ours.eos_ids == theirs.ending()
    text = " 1 ".join(tokens)
    ids = ours.encode(text, bos=False)
    assert ids == theirs.encode(text)
    assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("name", ["Phi-3.5-MoE", "other"])
def test_white_space_after_special_tokens_is_kept_as_llama_cpp_keeps_it(both: Both, name: str) -> None:
    types = dict(zip(SMALL_PIECES["tokenizer.ggml.tokens"], SMALL_PIECES["tokenizer.ggml.token_type"], strict=True))
    scores = [*SMALL_PIECES["tokenizer.ggml.scores"], 0.0]
    changed = vocabulary("llama", {**types, "<|endoftext|>": CONTROL}, scores=scores, **{"general.name": name})
    ours, theirs = both(changed)
    for text in ("[INST]  hello</s>\n h", "<s> h <unk> e", "<|endoftext|>  h"):
        assert ours.encode(text) == theirs.encode(text, special=True)


def test_chat_prompt_equals_llama_cpp(both: Both) -> None:
    template = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
    ours, theirs = both({**pieces(), "tokenizer.chat_template": template})
    chat = [{"role": "user", "content": "Zwölf  Boxkämpfer </s> 漢字\n"}]
    assert ours.render_chat(chat) == "<s>[INST] Zwölf  Boxkämpfer </s> 漢字\n [/INST]"
    assert ours.encode_chat(chat) == theirs.encode(ours.render_chat(chat))


def test_exported_guide_equals_llama_cpp(both: Both) -> None:
    ours, theirs = both(guide()[0])
    for text in [*TEXTS, *training_lines()[:200], "<s><|user|> Hi<|assistant|>"]:
        assert ours.encode(text, bos=False) == theirs.encode(text)
