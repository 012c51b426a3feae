"""The bound of a token is the arithmetic that its docstring states."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.bench.gpu.bounds import Speeds, Traffic, Visits
from engine.bench.models import SIZES
from engine.experts.footprint import held_dense_bytes

SPEEDS = Speeds(vram=400e9, ram=40e9, link=20e9)


@pytest.mark.parametrize(
    ("hits", "cpu", "streamed", "experts_s"), [(8e9, 0, 0, 0.02), (8e9, 2e9, 0, 0.05), (8e9, 2e9, 2e9, 0.1)]
)
def test_the_longest_of_the_sides_counts_after_the_dense_part(
    hits: float, cpu: float, streamed: float, experts_s: float
) -> None:
    traffic = Traffic(dense=4e9, hits=hits, cpu=cpu, streamed=streamed)
    assert traffic.dense_s(SPEEDS) == pytest.approx(0.01)
    assert traffic.bound_s(SPEEDS) == pytest.approx(0.01 + experts_s)


def test_traffic_is_worked_out_from_visits() -> None:
    model = SIZES["full"][0].config("Q4_K_M")
    visits = Visits(tokens=10, all=10 * 64, hits=320, streamed=80)
    traffic = visits.traffic(model, 32, "cuda", "torch", context_tokens=1000, gpu_kernels=False)
    expert = model.experts_bytes / 256
    assert traffic.hits == pytest.approx(32 * expert)
    assert traffic.streamed == pytest.approx(8 * expert)
    assert traffic.cpu == pytest.approx(24 * expert)
    embedding = 2 * model.vocab_size * model.hidden_size
    cached = 1000 * model.kv_bytes_per_token("auto")
    assert traffic.dense == pytest.approx(model.dense_bytes - embedding + cached)
    packed = visits.traffic(model, 32, "cuda", "torch", context_tokens=1000)
    assert packed.dense == held_dense_bytes(model, "cuda", "torch") + cached


def test_some_of_the_layers_move_their_share() -> None:
    model = SIZES["full"][1].config("Q4_K_M")
    visits = Visits(1, 8, 8, 0)
    all_, half = (visits.traffic(model, layers, "cuda", "torch", 0) for layers in (48, 24))
    assert half.dense == pytest.approx(all_.dense / 2)
    assert half.hits == all_.hits
    tied = visits.traffic(replace(model, tie_word_embeddings=True), 48, "cuda", "torch", 0)
    assert tied.dense == pytest.approx(all_.dense)
