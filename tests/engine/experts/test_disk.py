"""Reading from disk adds the time that the bytes take, and nothing where RAM holds them."""

from __future__ import annotations

import pytest

from engine.experts.disk import ASSUMED_SSD_BYTES_PER_S, from_disk
from engine.experts.forecast import Forecast
from tests.engine.experts.shapes import MIXTRAL

QUICK = Forecast(10.0, 100.0, 0.25, "Decode waits most for experts.")
VISITED = 32 * 2 * MIXTRAL.expert_bytes * 0.75  # per token, those outside VRAM


@pytest.mark.parametrize(("room", "kept"), [(0, 0.0), (-5, 0.0), (MIXTRAL.experts_bytes // 4, 0.25)])
def test_a_token_waits_for_what_is_neither_in_vram_nor_in_ram(room: int, kept: float) -> None:
    slow = from_disk(QUICK, MIXTRAL, room, 512)
    token_s = 0.1 + VISITED * (1 - kept) / ASSUMED_SSD_BYTES_PER_S
    assert slow.decode_tokens_per_s == pytest.approx(1 / token_s)
    chunk_s = 5.12 + MIXTRAL.experts_bytes * (1 - kept) / ASSUMED_SSD_BYTES_PER_S
    assert slow.prefill_tokens_per_s == pytest.approx(512 / chunk_s)
    assert slow.limit.startswith("The experts are kept on disk: a token visits 15.8 GiB of them")
    assert f"{kept:.0%}" in slow.limit
    assert f"about {1 / token_s:.2g} tokens/s, an estimate for an SSD" in slow.limit


def test_with_room_for_all_it_is_as_quick_as_in_ram() -> None:
    quick = from_disk(QUICK, MIXTRAL, MIXTRAL.experts_bytes, 512)
    assert (quick.decode_tokens_per_s, quick.prefill_tokens_per_s) == pytest.approx((10.0, 100.0))
    assert quick.limit.startswith(QUICK.limit)
    assert "kept on disk" in quick.limit
