"""A tokenizer.json that would make texts without end is refused at once; real ones are not."""

from __future__ import annotations

import base64
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engine.checkpoint.catalog import guide_path
from engine.errors import CheckpointError
from engine.tokenizer import ChatTokenizer
from engine.tokenizer_growth import MOST_GROWTH, grows_too_far
from engine.tokenizer_parts import tokenizer_faults
from tests.examples import examples

Step = dict[str, Any]


def replace(pattern: str, content: str, kind: str = "String") -> Step:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def normalizers(*steps: Step) -> Step:
    return {"type": "Sequence", "normalizers": list(steps)}


def template(pieces: int, ids: int, texts: int = 1) -> Step:
    special = {"SpecialToken": {"id": "x", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [special] * pieces + [text] * texts,
        "pair": [text, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"x": {"id": "x", "ids": [1] * ids, "tokens": ["<s>"] * ids}},
    }


def charsmap(longest: int) -> Step:
    blob = (4).to_bytes(4, "little") + bytes(4) + b"a" * longest + b"\0b\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()}


DOUBLED = replace("a", "aa")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
HOSTILE: dict[str, dict[str, Step]] = {
    "doubled forty times": {"normalizer": normalizers(*[DOUBLED] * 40)},
    "nested": {"normalizer": normalizers(normalizers(*[DOUBLED] * 20), normalizers(*[DOUBLED] * 20))},
    "one character by many": {"normalizer": replace("a", "b" * 100_000)},
    "nothing by something": {"normalizer": normalizers(*[replace("", "ab", "Regex")] * 20)},
    "a map": {"normalizer": charsmap(100_000)},
    "bytes of bytes": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTES] * 30}},
    "some before and some after": {
        "normalizer": normalizers(*[DOUBLED] * 7),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTES] * 7},
    },
    "decoded": {"decoder": {"type": "Sequence", "decoders": [DOUBLED] * 40}},
    "ids": {"post_processor": template(3000, 1000)},
    "the text again and again": {"post_processor": template(0, 0, texts=3000)},
    "again and again in turn": {"post_processor": {"type": "Sequence", "processors": [template(0, 0, texts=4)] * 9}},
}
REAL: dict[str, dict[str, Step]] = {
    "llama": {
        "normalizer": normalizers({"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "post_processor": template(1, 1),
    },
    "qwen": {
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTES]},
        "decoder": BYTES,
        "post_processor": BYTES,
    },
    "t5": {"normalizer": normalizers(charsmap(33), replace(" {2,}", "▁", "Regex")), "post_processor": template(1, 1)},
    "albert": {
        "normalizer": normalizers(
            replace("``", '"'), replace("''", '"'), {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
            charsmap(33),
        ),
        "post_processor": template(2, 1),
    },
}  # fmt: skip


def with_parts(folder: Path, parts: dict[str, Step]) -> Path:
    """The guide's files with other steps in tokenizer.json."""
    for name in ("config.json", "generation_config.json", "special_tokens_map.json", "tokenizer_config.json"):
        shutil.copyfile(guide_path() / name, folder / name)
    parsed = json.loads((guide_path() / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(parsed | parts), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", HOSTILE)
def test_steps_that_make_texts_without_end_are_refused_at_once(tmp_path: Path, name: str) -> None:
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match="its steps make texts without end"):
        ChatTokenizer.open(with_parts(tmp_path, HOSTILE[name]))
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize("name", REAL)
def test_steps_of_real_tokenizers_are_not(name: str) -> None:
    assert not grows_too_far(json.dumps(REAL[name]))


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "{", "[" * 100_000, '{"normalizer": 5}', '{"normalizer": {"type": ["Replace"]}}',
                '{"post_processor": {"type": "TemplateProcessing", "single": [5, {"SpecialToken": 5}]}}',
                '{"normalizer": {"type": "Precompiled", "precompiled_charsmap": "?"}}',
                '{"normalizer": ' + '{"type": "Sequence", "normalizers": [' * 400 + "]}" * 400 + "}"],
)  # fmt: skip
def test_what_is_of_another_form_is_left_to_the_library(content: str) -> None:
    assert not grows_too_far(content)


@examples(150)
@given(
    steps=st.lists(
        st.one_of(
            st.builds(replace, st.text("ab ", min_size=1, max_size=3), st.text("abé ", max_size=9)),
            st.builds(lambda content: replace("", content, "Regex"), st.text("ab", max_size=4)),
            st.builds(lambda content: replace("a*", content, "Regex"), st.text("ab", max_size=4)),
            st.just({"type": "ByteLevel"}),
            st.just({"type": "Lowercase"}),
        ),
        max_size=6,
    ),
    text=st.text("ab é", min_size=1, max_size=40),
)
def test_what_is_let_through_grows_no_further_than_that(steps: list[Step], text: str) -> None:
    parts = {"normalizer": normalizers(*steps)}
    if grows_too_far(json.dumps(parts)):
        return
    parsed = json.loads((guide_path() / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_str(json.dumps(parsed | parts | {"added_tokens": []}))
    try:
        with tokenizer_faults():  # the library breaks at some expressions that match nothing
            found = tokenizer.normalizer.normalize_str(text)
    except CheckpointError:
        return
    # An expression that matches nothing does so behind the last character, too.
    assert len(found.encode()) <= 2 * MOST_GROWTH * (len(text.encode()) + len(steps))
