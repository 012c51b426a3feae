"""Tokenizers from GGUF metadata: ids that llama.cpp gave, whole files, and files that lie.

`test_gguf_tokenizer_oracle.py` compares with llama.cpp itself, also the frozen ids.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engine.errors import CheckpointError, RooftopError, UnsupportedModelError
from engine.gguf_tokenizer import tokenizer_from_metadata
from engine.gguf_vocabulary import MAX_TOKEN_CHARS
from engine.tokenizer import ChatTokenizer
from tests import gguf_files
from tests.examples import examples
from tests.gguf_vocabularies import (
    CONTROL,
    FROZEN,
    NORMAL,
    SMALL_BYTES,
    SMALL_PIECES,
    Metadata,
    guide,
    pieces,
    random_texts,
    vocabulary,
    with_pre,
    write_vocabulary,
)


def _open(metadata: Metadata, folder: Path) -> ChatTokenizer:
    return ChatTokenizer.open(write_vocabulary(metadata, folder / "model.gguf"))


@pytest.mark.parametrize(("metadata", "pre", "text", "expected"), FROZEN)
def test_frozen_ids(tmp_path: Path, metadata: Metadata, pre: str | None, text: str, expected: list[int]) -> None:
    tokenizer = _open(with_pre(metadata, pre), tmp_path)
    assert tokenizer.encode(text, bos=False) == expected


@examples(200)
@given(text=random_texts | st.text(max_size=30))
def test_exported_guide_keeps_its_ids(text: str) -> None:
    exported, original = _exported_guide()
    assert exported.encode(text, add_special_tokens=False).ids == original.encode(text, add_special_tokens=False).ids


@cache
def _exported_guide() -> tuple[Tokenizer, Tokenizer]:
    metadata, original = guide()
    return tokenizer_from_metadata(metadata).tokenizer, original


def test_a_file_a_folder_and_any_part_of_a_split_model_open_alike(tmp_path: Path) -> None:
    single = gguf_files.write_gguf_mixtral(tmp_path / "single" / "model.gguf")
    first = gguf_files.write_gguf_mixtral(tmp_path / "split" / "model.gguf", splits=2)
    parts = sorted(first.parent.iterdir())
    assert len(parts) == 2
    chat = [{"role": "user", "content": "Hello"}]
    expected = ChatTokenizer.open(single).encode_chat(chat)
    for path in (single.parent, first.parent, *parts):
        tokenizer = ChatTokenizer.open(path)
        assert tokenizer.encode_chat(chat) == expected
        assert tokenizer.vocab_size == 300
        assert tokenizer.eos_ids == {2}
        assert tokenizer.encode("") == [1]


@pytest.mark.parametrize(
    ("metadata", "keys", "prompt"),
    [
        (SMALL_PIECES, {"llama.expert_count": 8}, "<s> [INST] Hi [/INST]"),
        (SMALL_PIECES, {}, "<s>User: Hi\nAssistant:"),
        (SMALL_BYTES, {"llama.expert_count": 8}, "<s>User: Hi\nAssistant:"),
        (pieces, {"llama.expert_count": 8}, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        (SMALL_PIECES, {"tokenizer.chat_template": "{{ eos_token }}{{ unk_token }}"}, "</s><unk>"),
    ],
)
def test_template_is_the_files_own_or_that_of_its_family(
    tmp_path: Path, metadata: Metadata | Callable[[], Metadata], keys: Metadata, prompt: str
) -> None:
    tokenizer = _open({**(metadata() if callable(metadata) else metadata), **keys}, tmp_path)
    assert tokenizer.render_chat([{"role": "user", "content": "Hi"}]) == prompt


def test_as_many_pieces_as_mixtral_has_are_put_together_at_once() -> None:
    generator = random.Random(0)
    alphabet = [chr(code) for code in range(33, 127)]
    pieces = dict.fromkeys(alphabet, NORMAL)
    known = list(alphabet)
    while len(pieces) < 32_000:
        piece = generator.choice(known) + generator.choice(known)
        if len(piece) <= 16 and piece not in pieces:
            pieces[piece] = NORMAL
            known.append(piece)
    scores = np.arange(0, -len(pieces), -1, dtype=np.float32)
    metadata = {**vocabulary("llama", pieces), "tokenizer.ggml.scores": scores}
    begin = time.process_time()
    tokenizer_from_metadata(metadata)
    assert time.process_time() - begin < 1.5


# ---- files that lie ----

TOO_LONG = "x" * (MAX_TOKEN_CHARS + 1)
LIES: list[tuple[Metadata, str, Any, str]] = [
    (SMALL_PIECES, "model", ..., "no tokenizer"),
    (SMALL_PIECES, "tokens", ..., "tokens in the GGUF file is missing"),
    (SMALL_PIECES, "tokens", "text", "no array of texts"),
    (SMALL_PIECES, "tokens", [1, 2], "no array of texts"),
    (SMALL_PIECES, "tokens", [], "empty"),
    (SMALL_PIECES, "tokens", ["a", "b", "a"], "'a' twice"),
    (SMALL_PIECES, "tokens", ["a", TOO_LONG], f"{len(TOO_LONG)} characters"),
    (SMALL_PIECES, "token_type", [1, 2], "2 entries for 272 tokens"),
    (SMALL_PIECES, "token_type", ["a"] * 272, "no array of numbers"),
    (SMALL_PIECES, "scores", [0.0] * 271, "271 entries"),
    (SMALL_PIECES, "scores", [float("nan")] * 272, "not a number"),
    (SMALL_PIECES, "scores", True, "no array of numbers"),
    (SMALL_PIECES, "bos_token_id", 272, "bos_token_id .* 272, not the id"),
    (SMALL_PIECES, "eos_token_id", -1, "-1, not the id"),
    (SMALL_PIECES, "eot_token_id", "</s>", "not the id"),
    (SMALL_PIECES, "add_bos_token", 1, "neither true nor false"),
    (SMALL_PIECES, "add_space_prefix", "no", "neither true nor false"),
    (SMALL_BYTES, "pre", 3, "no text"),
    (SMALL_BYTES, "merges", ..., "merges in the GGUF file is missing"),
    (SMALL_BYTES, "merges", ["hell"], "'hell', which does not make a token"),
    (SMALL_BYTES, "merges", ["h q"], "'h q', which"),
    (SMALL_BYTES, "merges", ["no pe"], "'no pe', which"),
    (SMALL_BYTES, "merges", [TOO_LONG], f"{len(TOO_LONG)} characters"),
]


@pytest.mark.parametrize(("metadata", "name", "value", "message"), LIES)
def test_a_lie_is_told_in_one_sentence(metadata: Metadata, name: str, value: Any, message: str) -> None:
    changed = {**metadata, f"tokenizer.ggml.{name}": value}
    with pytest.raises(CheckpointError, match=message) as caught:
        tokenizer_from_metadata({key: value for key, value in changed.items() if value is not ...})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("name", "value"), [("model", "bert"), ("model", ["x"]), ("pre", "no-such-cut")])
def test_an_unknown_kind_is_named(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=r"bert|x|no-such-cut"):
        tokenizer_from_metadata({**SMALL_BYTES, f"tokenizer.ggml.{name}": value})


def test_a_template_that_is_no_text_is_damage() -> None:
    with pytest.raises(CheckpointError, match="chat_template"):
        tokenizer_from_metadata({**SMALL_BYTES, "tokenizer.chat_template": 5})


def test_more_text_than_any_vocabulary_has_is_refused() -> None:
    tokens = dict.fromkeys((f"{number:04}{'x' * 4000}" for number in range(4200)), NORMAL)
    with pytest.raises(CheckpointError, match=r"16816800 characters, over the limit"):
        tokenizer_from_metadata(vocabulary("llama", tokens))


def test_pieces_that_take_too_long_to_take_apart_are_refused() -> None:
    tokens = dict.fromkeys((f"{number:04}{'x' * 1000}" for number in range(600)), NORMAL)
    with pytest.raises(CheckpointError, match="too many long pieces"):
        tokenizer_from_metadata(vocabulary("llama", tokens))


@pytest.mark.parametrize("kind", [CONTROL, NORMAL])
def test_a_huge_vocabulary_is_refused_in_bounded_time(kind: int) -> None:
    tokens = [
        format(number, "017b")[:length] for length in range(1, 18) for number in range(0, 1 << 17, 1 << (17 - length))
    ]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [kind] * len(tokens),
    }
    begin = time.process_time()
    with pytest.raises(CheckpointError, match=r"over (the limit|2000000)"):
        tokenizer_from_metadata(metadata)
    assert time.process_time() - begin < 20


values = st.none() | st.booleans() | st.integers(-2, 300) | st.floats() | st.text(max_size=4) | st.binary(max_size=2)
keys = st.sampled_from(
    [*SMALL_BYTES, *SMALL_PIECES, "tokenizer.ggml.pre", "tokenizer.ggml.fim_pad_token_id", "general.name"]
)


@examples(300)
@given(
    base=st.sampled_from([SMALL_BYTES, SMALL_PIECES]),
    changes=st.dictionaries(keys, values | st.lists(values, max_size=5) | st.lists(st.text(max_size=3), max_size=9)),
)
def test_any_metadata_makes_a_tokenizer_or_a_typed_error(base: Metadata, changes: Metadata) -> None:
    with suppress(RooftopError):
        found = tokenizer_from_metadata({**base, **changes})
        found.tokenizer.decode(found.tokenizer.encode("hello</s> 1").ids, skip_special_tokens=True)
