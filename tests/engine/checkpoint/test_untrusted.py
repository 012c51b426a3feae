"""Bounded quotes, bounded JSON and plain file names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint.untrusted import (
    MAX_QUOTE_CHARS,
    check_plain_file_name,
    fill,
    open_regular,
    parse_json_object,
    quote,
    read_json_object,
)
from engine.errors import CheckpointError


@pytest.mark.parametrize(
    "value", ["x" * 1_000_000, "\x1b[2J" * 100_000, list(range(10**5)), {"a" * 10**6: 1}, 10**4000, Path("p" * 10**5)]
)
def test_a_quote_is_short_whatever_the_value(value: object) -> None:
    assert len(quote(value)) <= 5 * MAX_QUOTE_CHARS


def test_a_quote_is_plain_where_it_can_be() -> None:
    assert quote("a b") == "'a b'"
    assert quote(r"C:\models\mixtral") == r"'C:\models\mixtral'"
    assert quote([48, 32]) == "[48, 32]"


@pytest.mark.parametrize("hidden", ["a\nb", "\x1b[31m", "a\u202eb", "\ud800", "\0"])
def test_a_quote_escapes_what_does_not_show(hidden: str) -> None:
    assert quote(hidden).isprintable()


def test_json_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2.5, null, true, "x"]}', encoding="utf-8")
    assert read_json_object(path, 32) == {"a": [1, 2.5, None, True, "x"]}
    with pytest.raises(CheckpointError, match=r"'a.json' is 32 bytes long, over the limit of 31"):
        read_json_object(path, 31)


def test_json_at_its_limits() -> None:
    assert parse_json_object(b'{"a": "\\ud83d\\ude00 \\\\ud83d"}', "The header") == {"a": "\U0001f600 \\ud83d"}
    assert parse_json_object(b'{"a": [1, 2]}', "The header", max_values=4) == {"a": [1, 2]}
    with pytest.raises(CheckpointError, match="holds 4 values, over the limit of 3"):
        parse_json_object(b'{"a": [1, 2]}', "The header", max_values=3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "instead of a JSON object"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "Infinity is not a JSON number"),
        (b'{"a": 1, "a": 2}', "the key 'a' appears twice"),
        (b'{"b": {"a": 1, "a": 2}}', "the key 'a' appears twice"),
        (b'{"b": 0, "a": 1, "a": 2}', "the key 'a' appears twice"),
        (b'{"a": ["\\ud83d"]}', "not valid JSON"),
        (b'{"\\uDE00": 1}', "not valid JSON"),
        (b'\xff\xfe{"a": 1}', "not valid JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not valid JSON"),
        (b'{"a":' + b"[" * 100_000, "nests too deeply"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "not valid JSON"),
        (b'{"a": [' + b"{}," * 100_000, "over the limit of 200000"),
        (b'{"' + b"k" * 100_000 + b'": 1, "' + b"k" * 100_000 + b'": 2}', "appears twice"),
    ],
)
def test_bad_json_is_refused_in_one_short_sentence(content: bytes, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason) as caught:
        parse_json_object(content, "The header")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model-00001-of-00019.safetensors", "A_b.c-d.safetensors", "a" * 188 + ".safetensors"]
)
def test_plain_file_names(name: str) -> None:
    assert check_plain_file_name(name, ".safetensors", "The index") == name


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "..safetensors",
        "a..b.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "a\\b.safetensors",
        "C:x.safetensors",
        "x.safetensors:stream.safetensors",
        "NUL.safetensors",
        "com1.safetensors",
        "COM\u00b9.safetensors",
        "aux.tar.safetensors",
        "a\0.safetensors",
        "a\n.safetensors",
        "a.safetensors\n",
        "a .safetensors ",
        ".safetensors",
        "model.bin",
        "model.safetensors.",
        "\uff0e\uff0e\uff0fx.safetensors",
        "a" * 189 + ".safetensors",
        "a" * 1_000_000 + ".safetensors",
        "",
        None,
        7,
        ["a.safetensors"],
    ],
)
def test_names_that_are_not_plain(name: Any) -> None:
    with pytest.raises(CheckpointError, match=r"not a plain .safetensors file name") as caught:
        check_plain_file_name(name, ".safetensors", "The index")
    assert len(str(caught.value)) < 400


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a regular file"):
        open_regular(tmp_path)
    with pytest.raises(CheckpointError, match="is missing from"):
        open_regular(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_regular(tmp_path / "a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        open_regular(tmp_path / "pipe")


def test_a_read_past_the_end_says_truncated(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"12345")
    buffer = bytearray(8)
    with open_regular(path) as file, pytest.raises(CheckpointError, match="'short' is truncated: it ends 5 bytes"):
        fill(file, path, 2, memoryview(buffer))
