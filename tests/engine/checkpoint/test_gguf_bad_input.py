"""A corpus of broken and hostile GGUF files, opened as a user would open them; then mutations without end.

Each row ends in a typed error: one short sentence and one action, within a second and 500 MB.
"""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from engine.checkpoint import gguf_file
from engine.checkpoint.catalog import resolve_model
from engine.checkpoint.checkpoint import open_checkpoint
from engine.errors import CheckpointError, UnsupportedModelError
from tests.examples import examples
from tests.fuzz_gguf import MAX_EXTRA_BYTES, MAX_MESSAGE_CHARS, MAX_SECONDS, SMALL, open_and_read, write_broken
from tests.gguf_files import (
    ARRAY,
    BOOL,
    FLOAT32,
    INT32,
    STRING,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Gguf,
    Shape,
    Tensor,
    Value,
    encode_value,
    gguf_model,
    split,
)

fuzzing = examples(250, HealthCheck.function_scoped_fixture)


def text(length: int) -> bytes:
    """The length of a string, without it."""
    return struct.pack("<Q", length)


def one_key(*value: Any, key: Any = "a") -> Gguf:
    """A file with one key."""
    return Gguf([(key, tuple(value))])


def one_tensor(**changes: Any) -> Gguf:
    """A file with one tensor that is not as it should be."""
    sound: dict[str, Any] = {"name": "a", "shape": (8,), "data": bytes(32), "kind": 0}
    return Gguf([], [Tensor(**sound | changes)])


HEADERS: dict[str, tuple[Gguf, str]] = {
    "an unknown type": (one_key(13, b"1234"), "'a' has the unknown type 13"),
    "a bool of 2": (one_key(BOOL, b"\2"), "'a' is 2, neither true nor false"),
    "a bool of 2 in an array": (one_key(ARRAY, (BOOL, [b"\0", b"\2"])), "'a' is 2, neither true nor false"),
    "an array of arrays": (one_key(ARRAY, (ARRAY, [])), "'a' is an array of arrays"),
    "an array of an unknown type": (one_key(ARRAY, (77, [])), "'a' is an array of the unknown type 77"),
    "2^63 numbers": (one_key(ARRAY, struct.pack("<IQ", UINT8, 2**63)), "promises 9223372036854775808 values of 'a'"),
    "2^64 - 1 strings": (one_key(ARRAY, struct.pack("<IQ", STRING, 2**64 - 1)), "promises 18446744073709551615 str"),
    "a string of 2^63 bytes": (one_key(STRING, text(2**63)), "the text of 'a' is 9223372036854775808 bytes long"),
    "a string longer than the file": (one_key(STRING, text(1000)), "'m.gguf' is truncated inside its header"),
    "a long string in an array": (
        one_key(ARRAY, struct.pack("<IQQQ", STRING, 1, 2**64 - 1, 0)),
        "'m.gguf' is truncated inside its header: .* bytes of at least 184467440737",
    ),
    "a string that is not UTF-8": (one_key(STRING, text(2) + b"\xff\xfe"), "the text of 'a' is not UTF-8"),
    "a lone surrogate": (one_key(STRING, text(3) + b"\xed\xa0\x80"), "the text of 'a' is not UTF-8"),
    "strings that are not UTF-8": (one_key(ARRAY, (STRING, [text(1) + b"\xff"])), "a string of 'a' is not UTF-8"),
    "an empty key": (one_key(UINT64, 1, key=""), "the key '' is empty"),
    "an unprintable key": (one_key(UINT8, 1, key="\x1b[2J"), "unprintable"),
    "a key of a megabyte": (one_key(UINT8, 1, key="k" * 2**20), "a key is 1048576 bytes long, over the limit of 1024"),
    "a key that is not UTF-8": (one_key(UINT8, 1, key=text(1) + b"\xff"), "a key is not UTF-8"),
    "a key twice": (Gguf([("a", (UINT8, 1)), ("a", (UINT8, 1))]), "the key 'a' is .* there twice"),
    "alignment 0": (one_key(UINT32, 0, key="general.alignment"), "general.alignment is 0, no power of two from 8"),
    "alignment 3": (one_key(UINT32, 3, key="general.alignment"), "general.alignment is 3"),
    "alignment 24": (one_key(UINT32, 24, key="general.alignment"), "general.alignment is 24"),
    "alignment 2^31": (one_key(UINT32, 2**31, key="general.alignment"), "general.alignment is 2147483648"),
    "alignment 2^63": (one_key(UINT64, 2**63, key="general.alignment"), "general.alignment is 9223372036854775808"),
    "alignment -32": (one_key(INT32, -32, key="general.alignment"), "general.alignment is -32"),
    "alignment as text": (one_key(STRING, "32", key="general.alignment"), "general.alignment is '32'"),
    "alignment as a fraction": (one_key(FLOAT32, 32.0, key="general.alignment"), "general.alignment is 32.0"),
    "2^64 - 1 keys": (Gguf(keys_count=2**64 - 1), "promises 18446744073709551615 metadata keys, more than"),
    "2^64 - 1 tensors": (Gguf(tensors_count=2**64 - 1), "promises 18446744073709551615 tensors, more than"),
    "one key too many": (Gguf([("abcdefgh", (UINT64, 1))] * 1, keys_count=2), "truncated|promises"),
    "no dimensions": (one_tensor(shape=(), data=b""), "'a' has 0 dimensions, not 1 to 4"),
    "five dimensions": (one_tensor(shape=(1, 1, 1, 1, 8)), "'a' has 5 dimensions"),
    "2^32 - 1 dimensions": (one_tensor(dimensions=2**32 - 1), "'a' has 4294967295 dimensions"),
    "an empty dimension": (one_tensor(shape=(0, 8)), r"the empty shape \[0, 8\]"),
    "dimensions of 2^62": (one_tensor(shape=(2**62,) * 4), "tensor 'a' ends .* bytes past its end"),
    "a product that wraps to 0": (one_tensor(shape=(2**32, 2**32)), "tensor 'a' ends .* bytes past its end"),
    "half a block": (one_tensor(kind=2, shape=(2, 48), data=bytes(54)), "'a' has 48 columns, no multiple of Q4_0's 32"),
    "an offset past the end": (one_tensor(offset=32), "truncated: tensor 'a' ends 32 bytes past"),
    "an offset of 2^64 - 32": (one_tensor(offset=2**64 - 32), "truncated: tensor 'a' ends 184467440737095515"),
    "a misaligned offset": (one_tensor(offset=4, data=bytes(36)), "begins at 4, no multiple of 32"),
    "an empty name": (one_tensor(name=""), "empty or unprintable name ''"),
    "an unprintable name": (one_tensor(name="a\nb"), "empty or unprintable name"),
    "a name of a megabyte": (one_tensor(name="n" * 2**20), "the name of a tensor is 1048576 bytes long"),
    "a tensor twice": (
        Gguf([], [Tensor("a", (8,), bytes(32), 0), Tensor("a", (8,), bytes(32), 0)]),
        "tensor 'a' is there twice",
    ),
    "overlapping tensors": (
        Gguf([], [Tensor("a", (16,), bytes(64), 0), Tensor("b", (8,), bytes(32), 0, offset=32)]),
        "tensor 'b' overlaps another",
    ),
}


def wide_text() -> Gguf:
    """Text that is ASCII but for a last character, which makes all of it four bytes wide in memory."""
    content = text(4 << 20) + b"x" * ((4 << 20) - 4) + "\U0001f600".encode()
    return Gguf([(f"k{number}", (STRING, content)) for number in range(15)])


HUGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a key too many": (
        lambda: Gguf(keys_count=gguf_file.MAX_KEYS + 1).encode() + bytes(20 * gguf_file.MAX_KEYS),
        "promises 10001 metadata keys, over the limit of 10000",
    ),
    "a tensor too many": (
        lambda: Gguf(tensors_count=gguf_file.MAX_GGUF_TENSORS + 1).encode() + bytes(4 << 20),
        "promises 32769 tensors, over the limit of 32768",
    ),
    "a string too many": (
        lambda: one_key(ARRAY, struct.pack("<IQ", STRING, gguf_file.MAX_STRINGS + 1)).encode() + bytes(16 << 20),
        "its arrays hold 1000001 strings, over the limit of 1000000",
    ),
    "a million empty strings": (
        lambda: one_key(ARRAY, struct.pack("<IQ", STRING, 10**6)).encode() + bytes(8 * 10**6),
        "lacks general.architecture",
    ),
    "a header of 65 MB": (
        lambda: one_key(ARRAY, struct.pack("<IQ", UINT8, 65 << 20)).encode() + bytes(65 << 20),
        "its header is over the limit of 67108864 bytes",
    ),
    "60 MB that take four times as much as text": (lambda: wide_text().encode(), "lacks general.architecture"),
    "as many tensors as may be": (
        lambda: Gguf([], [Tensor(f"t{number}", (8,), bytes(32), 0) for number in range(32768)]).encode(),
        "lacks general.architecture",
    ),
}


def edit(**changes: Value | None) -> Callable[[Gguf], None]:
    """Change keys of a sound Mixtral (None removes one); `__` stands for `.`."""

    def change(model: Gguf) -> None:
        for key, value in changes.items():
            model.set(key.replace("__", "."), value)

    return change


def drop(name: str) -> Callable[[Gguf], None]:
    """Take a tensor out."""
    return lambda model: model.tensors.remove(model.tensor(name))


MODELS: dict[str, tuple[Callable[[Gguf], object], str]] = {
    "no architecture": (edit(general__architecture=None), "lacks general.architecture"),
    "an architecture of a megabyte": (edit(general__architecture=(STRING, "x" * 2**20)), "dense model"),
    "an architecture that is a number": (edit(general__architecture=(UINT32, 7)), "architecture is 7, not a text"),
    "an architecture that is a list": (edit(general__architecture=(ARRAY, (STRING, ["llama"]))), "not a text"),
    "a dense model": (edit(llama__expert_count=None), "dense model"),
    "10^9 layers": (edit(llama__block_count=(UINT32, 10**9)), "block_count is 1000000000, not a whole number"),
    "2^64 - 1 experts": (edit(llama__expert_count=(UINT64, 2**64 - 1)), "expert_count is 18446744073709551615, not"),
    "the most layers and experts": (
        edit(llama__block_count=(UINT32, 512), llama__expert_count=(UINT32, 1024)),
        "has 524288 experts, more than can be right",
    ),
    "a negative width": (edit(llama__embedding_length=(INT32, -64)), "embedding_length is -64, not a whole number"),
    "a width as text": (edit(llama__embedding_length=(STRING, "64")), "embedding_length is '64', not a whole number"),
    "a width as a list": (edit(llama__embedding_length=(ARRAY, (UINT32, [64] * 9))), "embedding_length is array"),
    "no width": (edit(llama__embedding_length=None), "lacks llama.embedding_length"),
    "an epsilon that is no number": (
        edit(llama__attention__layer_norm_rms_epsilon=(FLOAT32, float("nan"))),
        "rms_epsilon is nan",
    ),
    "a tensor missing": (drop("blk.1.ffn_norm.weight"), "Tensor 'blk.1.ffn_norm.weight' is missing from"),
    "no embedding": (drop("token_embd.weight"), "Tensor 'token_embd.weight' is missing from"),
    "a stack missing": (drop("blk.0.ffn_down_exps.weight"), "'blk.0.ffn_down_exps.weight' is missing from"),
    "no tensors": (lambda model: model.tensors.clear(), "'token_embd.weight' is missing"),
    "a wrong shape": (
        lambda model: setattr(model.tensor("blk.0.attn_q.weight"), "shape", (32, 128)),
        "has shape .32, 128., the file's metadata asks for .64, 64.",
    ),
    "a vocabulary of 2^40": (
        lambda model: setattr(model.tensor("token_embd.weight"), "shape", (2**40, 64)),
        "'token_embd.weight' ends .* bytes past its end",
    ),
    "a format that is not supported": (
        lambda model: setattr(model.tensor("output.weight"), "kind", 16),
        "stored as IQ2_XXS, which is not supported",
    ),
    "a tensor that is not known": (
        lambda model: setattr(model.tensor("blk.0.attn_norm.weight"), "name", "blk.0.attn_norm.bias"),
        "is missing",
    ),
}

SPLITS: dict[str, tuple[Callable[[list[Gguf]], object], str]] = {
    "a part missing": (lambda parts: parts.pop(), "'m-00003-of-00003.gguf' is missing from"),
    "a part that is empty": (lambda parts: parts.__setitem__(1, Gguf(magic=b"")), "not a GGUF file|truncated"),
    "a wrong count": (lambda parts: parts[1].set("split.count", (UINT16, 2)), "split.no 1 and split.count 2"),
    "a wrong number": (lambda parts: parts[1].set("split.no", (UINT16, 0)), "split.no 0 and split.count 3"),
    "a wrong total": (lambda parts: parts[2].set("split.tensors.count", (INT32, 1)), "a model of 1 tensors"),
    "a total below 0": (lambda parts: parts[2].set("split.tensors.count", (INT32, -1)), "a model of -1 tensors"),
    "a part of another model": (
        lambda parts: parts.__setitem__(1, split(gguf_model(shape=Shape(hidden=64, layers=3)), 3)[1]),
        "and again in|is part of a model of",
    ),
    "the same part twice": (lambda parts: parts.__setitem__(2, parts[1]), "split.no 1 and split.count 3"),
}


def refuse(path: Path, message: str) -> None:
    """Hold that a path is refused as it should be, in bounded time and memory."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises((CheckpointError, UnsupportedModelError), match=message) as caught:
            open_checkpoint(resolve_model(str(path)))
        assert time.process_time() - started < MAX_SECONDS * 5  # tracemalloc slows allocations down about that much
        assert tracemalloc.get_traced_memory()[1] < MAX_EXTRA_BYTES
    finally:
        tracemalloc.stop()
    error = caught.value
    assert len(str(error)) <= MAX_MESSAGE_CHARS
    assert error.message.endswith(".")
    assert error.remedy.endswith(".")
    assert str(error).isprintable()


def refuse_file(folder: Path, content: bytes, message: str) -> None:
    """Hold that a file with this content is refused."""
    path = folder / "m.gguf"
    path.write_bytes(content)
    refuse(path, message)
    started = time.process_time()
    with pytest.raises((CheckpointError, UnsupportedModelError)):
        open_checkpoint(path)
    assert time.process_time() - started < MAX_SECONDS


@pytest.mark.parametrize("row", HEADERS)
def test_headers(tmp_path: Path, row: str) -> None:
    model, message = HEADERS[row]
    refuse_file(tmp_path, model.encode(), message)


@pytest.mark.parametrize("row", HUGE)
def test_huge_files(tmp_path: Path, row: str) -> None:
    make, message = HUGE[row]
    refuse_file(tmp_path, make(), message)


@pytest.mark.parametrize("content", [b"", b"G", b"GGU"])
def test_a_file_too_short_for_its_own_name(tmp_path: Path, content: bytes) -> None:
    refuse_file(tmp_path, content, "'m.gguf' is not a GGUF file")


def test_half_a_gigabyte_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    os.truncate(tmp_path / "m.gguf", 500 << 20)
    refuse(tmp_path / "m.gguf", "'m.gguf' is not a GGUF file")


@pytest.mark.parametrize("row", MODELS)
def test_models(tmp_path: Path, row: str) -> None:
    change, message = MODELS[row]
    model = gguf_model("llama", Shape(hidden=64, intermediate=32, heads=4, kv_heads=2, head_dim=16))
    change(model)
    refuse_file(tmp_path, model.encode(), message)


@pytest.mark.parametrize("row", SPLITS)
def test_split_models(tmp_path: Path, row: str) -> None:
    change, message = SPLITS[row]
    parts = split(gguf_model(shape=SMALL), 3)
    change(parts)
    for number, part in enumerate(parts, 1):
        (tmp_path / f"m-{number:05d}-of-00003.gguf").write_bytes(part.encode())
    refuse(tmp_path / "m-00001-of-00003.gguf", message)
    refuse(tmp_path, message)


def test_the_sound_models_open(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_model(shape=SMALL).encode())
    assert open_and_read(path) == "opened"
    assert open_and_read(tmp_path) == "opened"


def test_a_file_cut_while_the_model_is_open(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_model(shape=SMALL).encode())
    with open_checkpoint(path) as checkpoint:
        name, entry = next(iter(checkpoint.tensors.items()))
        os.truncate(path, entry.offset)
        with pytest.raises(CheckpointError, match=r"'m.gguf' is truncated"):
            checkpoint.read(name, bytearray(entry.nbytes))


@fuzzing
@given(seed=st.integers(1 << 40, 1 << 50))
def test_a_broken_file(tmp_path: Path, seed: int) -> None:
    """As `python -m tests.fuzz_gguf --seed ...` runs it for longer."""
    folder = tmp_path / "broken"
    folder.mkdir(exist_ok=True)
    open_and_read(write_broken(folder, seed))


@pytest.fixture(scope="module")
def sound() -> tuple[bytes, int]:
    """A sound file whose header is mostly structure, and the length of that."""
    model = gguf_model(shape=SMALL)
    model.metadata = [(key, value) for key, value in model.metadata if not key.startswith("tokenizer.")]
    return model.encode(), len(model.header())


@fuzzing
@given(data=st.data())
def test_flipped_bits(tmp_path: Path, sound: tuple[bytes, int], data: st.DataObject) -> None:
    raw = bytearray(sound[0])
    for position in data.draw(st.lists(st.integers(0, 8 * sound[1] - 1), min_size=1, max_size=8)):
        raw[position // 8] ^= 1 << position % 8
    path = tmp_path / "m.gguf"
    path.write_bytes(raw)
    open_and_read(path)


@fuzzing
@given(data=st.data())
def test_spliced_headers(tmp_path: Path, sound: tuple[bytes, int], data: st.DataObject) -> None:
    raw, header = sound
    begin, end, place = (data.draw(st.integers(0, header)) for _ in range(3))
    filling = data.draw(st.binary(max_size=8) | st.sampled_from([encode_value(UINT64, 2**63), b"\xff" * 8]))
    path = tmp_path / "m.gguf"
    path.write_bytes(raw[:place] + filling + raw[min(begin, end) :])
    open_and_read(path)


@fuzzing
@given(content=st.binary(max_size=200))
def test_random_bytes_after_the_magic(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF\3\0\0\0" + content)
    with pytest.raises((CheckpointError, UnsupportedModelError)):
        open_checkpoint(path)


@fuzzing
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere(tmp_path: Path, sound: tuple[bytes, int], share: float) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(sound[0][: int(len(sound[0]) * share)])
    with pytest.raises(CheckpointError, match=r"is truncated|is not a GGUF file|more than its .* bytes can hold"):
        open_checkpoint(path)
