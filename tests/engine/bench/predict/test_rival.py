"""llama.cpp by arithmetic: as few layers in RAM as fit, and each token as long as its bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.bench.gpu.pcs import PCS, costs
from engine.bench.models import SIZES
from engine.bench.predict.rival import BATCHES_TOKENS, Rival, Setting
from engine.bench.predict.stream import Stream
from engine.config import EngineConfig

SHAPE = SIZES["full"][0]
PC = PCS["12gb-ddr5-pcie4"]


def rival(vram_bytes: int = PC.vram_bytes) -> Rival:
    model, pc = SHAPE.config("Q4_K_M"), replace(PC, vram_bytes=vram_bytes)
    return Rival(model, pc, costs(pc, model), EngineConfig(context_tokens=8192))


def test_more_vram_keeps_fewer_layers_in_ram() -> None:
    layers = [[one.cpu_layers for one in rival(size << 30).settings(whole_layers=False)] for size in (8, 12, 24, 48)]
    assert all(len(each) == len(BATCHES_TOKENS) for each in layers)
    assert [each[0] for each in layers] == sorted((each[0] for each in layers), reverse=True)
    assert layers[-1][0] == 0
    assert all(each[0] <= each[1] for each in layers), "a larger batch takes room"


def test_a_token_is_its_bytes_one_layer_after_the_other() -> None:
    one = rival()
    model = one.model
    assert model.dense_packed_bytes is not None
    dense = model.dense_packed_bytes - model.embedding_bytes
    in_vram = one.token_seconds(Setting(0, whole_layers=False, batch_tokens=512), 0)
    experts = model.experts_bytes / 4
    assert in_vram == pytest.approx((dense + experts) / PC.vram_bytes_per_s + 32 * 20e-6, rel=1e-3), (
        "routers in 16 bits"
    )
    in_ram = one.token_seconds(Setting(32, whole_layers=False, batch_tokens=512), 0)
    assert in_ram > experts / PC.ram_bytes_per_s
    assert one.token_seconds(Setting(32, whole_layers=True, batch_tokens=512), 0) > in_ram
    assert one.token_seconds(Setting(16, whole_layers=False, batch_tokens=512), 0) == pytest.approx(
        (in_vram + in_ram) / 2
    )


def test_a_prompt_in_larger_batches_copies_less() -> None:
    chosen = Stream(SHAPE).draw(2048, 1)
    small, large = (
        rival().prompt_seconds(Setting(20, whole_layers=False, batch_tokens=size), chosen) for size in (512, 2048)
    )
    assert large < small / 2


def test_its_words() -> None:
    assert Setting(7, whole_layers=False, batch_tokens=512).words == "--n-cpu-moe 7 --ubatch-size 512"
    assert "--n-gpu-layers" in Setting(7, whole_layers=True, batch_tokens=512).words
