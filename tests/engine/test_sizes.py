"""Sizes as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigurationError
from engine.sizes import parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 << 30),
        ("8G", 8 << 30),
        ("8gb", 8 << 30),
        (" 512 MiB ", 512 << 20),
        ("512m", 512 << 20),
        ("1e9", 10**9),
        ("1.5k", 1536),
        (".5t", 512 << 30),
        ("7.", 7),
        ("0", 0),
        ("12b", 12),
        ("1e3 KiB", 1024_000),
    ],
)
def test_size(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GiB",
        "-1",
        "8 XiB",
        "8GiBs",
        "nan",
        "inf",
        "1e",
        "1_000",
        "0x10",
        "٣G",
        "8G 2",
        "1e400",
        "9" * 70,
        "9999999T",
    ],
)
def test_no_size(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_bytes(text)
    assert len(str(caught.value)) < 200


@given(st.text(max_size=80))
def test_any_text_is_a_size_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert parse_bytes(text) >= 0


@given(st.integers(0, 1 << 50))
def test_plain_bytes_come_back(size: int) -> None:
    assert parse_bytes(str(size)) == size
