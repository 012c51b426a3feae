"""The engine on a PC that is not there: the plan's own arithmetic, and residents that follow the conversation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.bench.gpu.pcs import PCS
from engine.bench.models import SIZES, Shape
from engine.bench.predict.bound import prompt_bound_seconds
from engine.bench.predict.conversation import Conversation, converse, planning_inputs, together
from engine.bench.predict.stream import Counts, Stream
from engine.config import EngineConfig
from engine.errors import DoesNotFitError

MIXTRAL, QWEN = SIZES["full"]
PC = PCS["12gb-ddr5-pcie4"]
CONFIG = EngineConfig(device="cuda", context_tokens=4096)


@pytest.fixture(scope="module")
def streams() -> dict[str, Stream]:
    return {shape.name: Stream(shape) for shape in (MIXTRAL, QWEN)}


@pytest.mark.parametrize("name", ["8gb-ddr4-pcie3", "12gb-ddr5-pcie4", "24gb-ddr5-pcie4"])
@pytest.mark.parametrize("shape", [MIXTRAL, QWEN], ids=lambda shape: shape.name)
def test_following_the_conversation_loses_nothing_and_wins_where_it_has_favourites(
    shape: Shape, name: str, streams: dict[str, Stream]
) -> None:
    pc, stream = PCS[name], streams[shape.name]
    inputs = planning_inputs(shape.config("Q4_K_M"), pc, stream.draw(512, 0))
    speeds = {}
    for adaptive in (True, False):
        decoded = together(converse(stream, inputs, pc, replace(CONFIG, adaptive=adaptive), 64, 96, (2, 3)))
        speeds[adaptive] = decoded.tokens / decoded.seconds
        assert decoded.tokens == 2 * 96
        assert decoded.visits == decoded.tokens * shape.layers * shape.experts_per_token
        assert 0 < decoded.bound_s <= decoded.seconds
        assert adaptive or decoded.uploads == 0
    assert speeds[True] >= 0.99 * speeds[False]
    if shape is QWEN and name == "8gb-ddr4-pcie3":
        assert speeds[True] > 1.02 * speeds[False]


def test_a_prompt_takes_longer_than_its_bound_and_a_long_pass_less_than_short_ones(streams: dict[str, Stream]) -> None:
    stream = streams[MIXTRAL.name]
    inputs = planning_inputs(MIXTRAL.config("Q4_K_M"), PC, stream.draw(512, 0))
    chosen = stream.draw(2048, 1)
    planned = Conversation(inputs, PC, CONFIG)
    short = Conversation(inputs, PC, replace(CONFIG, prefill_chunk_tokens=512))
    assert planned.plan.prefill_chunk_tokens == 2048
    (seconds, bound_s), (short_s, _) = planned.prompt(chosen), short.prompt(chosen)
    assert bound_s < seconds <= 1.3 * bound_s, "the goal"
    assert seconds < 0.5 * short_s


def test_the_bound_by_hand(streams: dict[str, Stream]) -> None:
    """Nothing in VRAM, a link that is free: the GPU's arithmetic alone; no GPU and no link to speak of: the CPU's."""
    model = MIXTRAL.config("Q4_K_M")
    counts = Counts.of(streams[MIXTRAL.name].draw(512, 1), model.experts)
    nothing: list[set[int]] = [set()] * model.layers
    operations = 512 * 2 * model.layers * 2 * model.expert_parameters
    quick = replace(PC, link_bytes_per_s=1e18, vram_bytes_per_s=1e18, cpu_operations_per_s=1.0)
    assert prompt_bound_seconds(model, quick, counts, nothing, 1e-3) == pytest.approx(
        operations / PC.gpu_flops + model.layers * 1e-3
    )
    slow = replace(PC, link_bytes_per_s=1.0, ram_bytes_per_s=1e18)
    assert prompt_bound_seconds(model, slow, counts, nothing, 0.0) == pytest.approx(
        operations / PC.cpu_operations_per_s
    )


def test_dense_weights_in_blocks_make_room_for_experts(streams: dict[str, Stream]) -> None:
    stream, model = streams[MIXTRAL.name], MIXTRAL.config("Q4_K_M")
    profile = stream.draw(64, 0)
    usual = Conversation(planning_inputs(replace(model, dense_blocks=()), PC, profile), PC, CONFIG).plan
    smaller = Conversation(planning_inputs(model, PC, profile), PC, CONFIG).plan
    assert smaller.resident_experts > usual.resident_experts
    assert smaller.predicted_decode_tokens_per_s > usual.predicted_decode_tokens_per_s


def test_a_pc_that_is_too_small_is_refused(streams: dict[str, Stream]) -> None:
    tiny = replace(PC, vram_bytes=2 << 30)
    inputs = planning_inputs(MIXTRAL.config("Q4_K_M"), tiny, streams[MIXTRAL.name].draw(16, 0))
    with pytest.raises(DoesNotFitError):
        Conversation(inputs, tiny, CONFIG)
