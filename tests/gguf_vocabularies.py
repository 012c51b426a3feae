"""Vocabularies for GGUF files, made to show where a text was cut.

Their merges reach across spaces, lines, digits and signs, and many pairs of the sampled characters' bytes make a token,
so that a word that begins or ends elsewhere has other ids. llama.cpp loads a file of them without any weights.
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from engine.checkpoint.catalog import guide_path
from tests import gguf_files
from tests.checkpoints import byte_alphabet
from tests.gguf_files import Gguf

Metadata = dict[str, Any]
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPECIALS = {
    "<|im_start|>": CONTROL,
    "<|im_end|>": CONTROL,
    "[INST]": CONTROL,
    "<tool>": USER_DEFINED,
    "   ": USER_DEFINED,
}
SAMPLES = [
    *"aAsSLTr'19 .,!?$+~`_/-|(",
    *"\t\n\r\x00\x1c\x7f\x85\xa0\u2003\u2028\u3000\u0301\ufe0f",
    *"²Ⅷ٣éÉßſǅʔΐЖאبअ漢かカ한글。，（·€😀𝐀",  # noqa: RUF001 - look-alikes on purpose
    *("'s", "'Re", "'LL", "  ", "\r\n", "1234567", "▁", "▁▁", "<0x41>", "</s>", *SPECIALS),
]
TEXTS = [
    "",
    " ",
    "Hello world, it's 2024; we'll pay $1,234.56 (or 12 345,67 €).",
    "def f(x):\n\tif x  >=  10:\n\n        return {'a': [1, 2], \"b\": None}  # ...\r\n\r\n",
    "   leading and trailing   ",
    "\n\n\n\n x \t \n\t\t",
    "😀🧑\u200d🚀👍🏽 漢字とかなとカナ、한국어。中文 العَرَبِيَّة ١٢٣ हिन्दी ไทย Ελλάδα",
    "e\u0301\u0301 n\u0303 \ufeff\ufffd\U000e0001 \U0010ffff ½ Ⅷ ²",
    "<s>[INST] a [/INST]</s><|im_start|>user\nb<tool>   c<|im_end|>\n <|im_start|>",
    "ÉCOLE École DON'T Don't 'tis HTTPServer iPhone",
    "x" * 50 + " " * 33 + "1" * 20 + "=" * 17 + "-- ---",
]


def write_vocabulary(metadata: Mapping[str, Any], path: Path) -> Path:
    """A GGUF file with metadata only."""
    entries = [("general.architecture", (gguf_files.STRING, "llama")), *((k, _typed(v)) for k, v in metadata.items())]
    path.write_bytes(Gguf(entries).encode())
    return path


def _typed(value: Any) -> tuple[int, Any]:
    if isinstance(value, list):
        items = {int: gguf_files.INT32, float: gguf_files.FLOAT32, str: gguf_files.STRING}
        return gguf_files.ARRAY, (items[type(value[0])], value)
    kinds = {bool: gguf_files.BOOL, int: gguf_files.UINT32, str: gguf_files.STRING}
    return kinds[type(value)], value


def vocabulary(kind: str, tokens: Mapping[str, int], **others: Any) -> Metadata:
    """Metadata of a vocabulary with the types of its tokens."""
    named = {key if "." in key else f"tokenizer.ggml.{key}": value for key, value in others.items()}
    return {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.tokens": list(tokens),
        "tokenizer.ggml.token_type": list(tokens.values()),
        **named,
    }


@cache
def training_lines() -> list[str]:
    """Text to train on: this project's own, a line and the indentation of the next at a time."""
    root = Path(__file__).parents[1]
    files = [*sorted((root / "docs").rglob("*.md")), *sorted((root / "engine").glob("*.py"))]
    return [f"{line}\n    " for file in files for line in file.read_text(encoding="utf-8").splitlines()]


@cache
def byte_pairs() -> Metadata:
    """A trained byte-level vocabulary, `pre` left out."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = byte_alphabet()
    trained.train_from_iterator(
        training_lines(), trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(trained.to_str())["model"]
    used = sorted({alphabet[byte] for sample in SAMPLES for byte in sample.encode()})
    pairs = [[left, right] for left in used for right in used]
    drawn = random.Random(0).sample(pairs, len(pairs) // 2)
    merges = dict.fromkeys(" ".join(pair) for pair in [*model["merges"], *drawn])
    tokens = dict.fromkeys([*alphabet, *(merge.replace(" ", "") for merge in merges)], NORMAL)
    tokens |= {"<s>": CONTROL, "</s>": CONTROL, **SPECIALS}
    ids = {token: index for index, token in enumerate(tokens)}
    return vocabulary("gpt2", tokens, merges=list(merges), bos_token_id=ids["<s>"], eos_token_id=ids["</s>"])


@cache
def pieces() -> Metadata:
    """A trained vocabulary of pieces with scores, runs of one character among them."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=1500, show_progress=False, max_token_length=16)
    trained.train_from_iterator([line.rstrip("\n") for line in training_lines()], trainer)
    vocab = trained.get_vocab()
    learned = [piece for piece in sorted(vocab, key=lambda piece: vocab[piece]) if len(piece) > 1]
    later = learned[200:] + [run * count for count in range(2, 17) for run in "▁=-x1" if run * count not in vocab]
    random.Random(0).shuffle(later)  # so that what is merged first has not been trained to be
    single = sorted({*(piece for piece in vocab if len(piece) == 1), *"aAé漢か\n▁x1"} - {"\n"})
    tokens = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL, **{f"<0x{byte:02X}>": BYTE for byte in range(256)}}
    tokens |= {**dict.fromkeys([*learned[:200], *later, *single], NORMAL), **SPECIALS, "▁<PRE>": CONTROL}
    scores = [0.0] * 259 + [float(-rank) for rank in range(len(tokens) - 259)]
    return vocabulary("llama", tokens, scores=scores)


SMALL_PIECES = vocabulary(
    "llama",
    {
        "<unk>": UNKNOWN,
        "<s>": CONTROL,
        "</s>": CONTROL,
        **{f"<0x{byte:02X}>": BYTE for byte in range(256)},
        **dict.fromkeys(["▁", "h", "e", "l", "o", "▁h", "ll", "ell", "▁he", "llo", "ello", "▁▁"], NORMAL),
        "[INST]": CONTROL,
    },
    scores=[0.0] * 259 + [-9.0, -9.5, -9.6, -9.7, -9.8, -3.0, -1.0, -5.0, -2.0, -4.0, -6.0, -7.0, 0.0],
)
SMALL_MERGES = ["Ġ 1", "1 2", "12 3", ". Ċ", "h e", "l l", "he ll", "hell o", "Ġ hello", "' S"]
SMALL_BYTES = vocabulary(
    "gpt2",
    dict.fromkeys([*byte_alphabet(), *(merge.replace(" ", "") for merge in SMALL_MERGES)], NORMAL)
    | {"<s>": CONTROL, "</s>": CONTROL, "Ġhello1": NORMAL},
    merges=SMALL_MERGES,
    bos_token_id=266,
    eos_token_id=267,
)
FROZEN = [
    (SMALL_PIECES, None, "hello", [267, 268]),
    (SMALL_PIECES, None, "  hell\n", [270, 267, 265, 13]),
    (SMALL_PIECES, None, "[INST]é</s> h", [271, 259, 198, 172, 2, 259, 264]),
    (SMALL_BYTES, "qwen2", "hello 123.\n'S", [263, 32, 49, 50, 51, 259, 265]),
    (SMALL_BYTES, "llama-bpe", "hello 123.\n'S", [263, 32, 258, 259, 265]),
    (SMALL_BYTES, "gpt-2", "hello 123.\n'S", [263, 256, 50, 51, 46, 10, 39, 83]),
    (SMALL_BYTES, "gpt-2", " hello</s>1", [264, 267, 49]),
]


def with_pre(metadata: Metadata, pre: str | None) -> Metadata:
    return metadata if pre is None else {**metadata, "tokenizer.ggml.pre": pre}


def _known_to_all(char: str) -> bool:
    """Whether Unicode gave the character its class before any of the tables that are compared was made."""
    return unicodedata.ucd_3_2_0.category(char) not in ("Cn", "Cs")


random_texts = st.lists(st.sampled_from(SAMPLES) | st.characters().filter(_known_to_all), max_size=24).map("".join)


def guide() -> tuple[Metadata, Tokenizer]:
    """The bundled model's tokenizer as a converter would write it, and itself."""
    path = guide_path() / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocab, merges = content["model"]["vocab"], content["model"]["merges"]
    special = {token["content"] for token in content["added_tokens"]}
    tokens = {token: CONTROL if token in special else NORMAL for token in sorted(vocab, key=lambda token: vocab[token])}
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    metadata = vocabulary("gpt2", tokens, pre="gpt-2", merges=lines, bos_token_id=0, eos_token_id=1)
    return metadata, Tokenizer.from_file(str(path))
