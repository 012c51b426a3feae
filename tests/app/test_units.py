import math

import pytest

from app.units import bytes_text, rate_text, seconds_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (-1, "0 B"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 << 20, "200 MiB"),
        (int(7.5 * 2**30), "7.5 GiB"), (5 << 50, "5120.0 TiB"),
    ],
)  # fmt: skip
def test_bytes(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (8.44, "8.4 tokens/s"), (250.3, "250 tokens/s"), (0.0, "\N{EN DASH} tokens/s"),
        (math.nan, "\N{EN DASH} tokens/s"), (math.inf, "\N{EN DASH} tokens/s"),
    ],
)  # fmt: skip
def test_rates_never_say_nan(rate: float, text: str) -> None:
    assert rate_text(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.24, "240 ms"), (0.9996, "1.0 s"), (3.21, "3.2 s"), (125.0, "2 min 5 s"), (-1.0, "\N{EN DASH}"),
        (math.nan, "\N{EN DASH}"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text
