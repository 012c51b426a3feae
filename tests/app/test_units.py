import math

import pytest

from app.units import rate_text, seconds_text, unbroken


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


def test_no_line_ends_between_a_number_and_its_unit() -> None:
    text = "5.0 ms of 12 GB/s, 8.4 tokens/s, 2 models, 12 % of 5.2 GiB"
    wanted = "5.0_ms of 12_GB/|s, 8.4 tokens/|s, 2 models, 12_% of 5.2_GiB"
    assert unbroken(text) == wanted.replace("_", "\N{NO-BREAK SPACE}").replace("|", "\N{WORD JOINER}")
