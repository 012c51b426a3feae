"""Records of passes: packed as they happen, one for each token, nothing of what no token came from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.config import EngineConfig, SamplingParams
from engine.engine import Engine
from engine.experts.pass_history import MOST_WAITING, PassHistory, TokenOnCpu
from engine.messages import CostCurve, CostModel, ExpertRun, Finished, Passes, PassRecord, Place, Snapshot, Token

COSTS = CostModel(CostCurve(1.0, 0.1, 0.0), None, None, None, 0.0, cpu_correction=1.5, gpu_correction=0.5)
GREEDY = SamplingParams(max_tokens=24, temperature=0.0, ignore_eos=True)
MIB = 1 << 20


def run(expert: int, place: Place, tokens: int = 1) -> ExpertRun:
    return ExpertRun(expert, tokens, place, 1.0, 1.0, 1.0)


def uint16(data: bytes) -> list[int]:
    return list(np.frombuffer(data, np.uint16))


def float32(data: bytes) -> list[float]:
    return [float(value) for value in np.frombuffer(data, np.float32)]


def test_a_pass_that_did_not_go_through_all_layers_is_no_record() -> None:
    history = PassHistory(layers=2, experts=10)
    history.layer_ran(0, 1, (run(9, "cpu"),), 0.5, COSTS)
    history.token(77, " word", 0.125, [set(), set()], change=0)
    assert history.take() == ()


def test_layers_become_a_record_of_the_token_that_came_of_them() -> None:
    history = PassHistory(layers=2, experts=10)
    history.layer_ran(0, 1, (run(9, "gpu"), run(3, "stream")), 0.0, COSTS)
    history.gpu_took(0, 0.25)
    history.layer_ran(1, 1, (run(2, "cpu"),), 0.5, COSTS)
    history.token(77, " word", 0.125, [{9}, {0, 1}], change=4)
    (record,) = history.take()
    assert (record.position, record.token, record.text, record.pass_tokens, record.seconds) == (
        0,
        77,
        " word",
        1,
        0.125,
    )
    assert (uint16(record.runs), uint16(record.experts), record.counts) == ([2, 1], [9, 3, 2], b"")
    assert record.places == bytes([0, 1, 2])
    assert float32(record.cpu_s) == [0.0, 0.5]
    assert float32(record.gpu_s)[0] == 0.25
    assert math.isnan(float32(record.gpu_s)[1]), "the second layer's GPU side is not known yet"
    assert float32(record.corrections) == [1.5, 0.5, 1.5, 0.5]
    assert record.residents is not None
    bits = np.unpackbits(np.frombuffer(record.residents, np.uint8).reshape(2, -1), axis=1, count=10)
    assert [np.flatnonzero(row).tolist() for row in bits] == [[9], [0, 1]]
    assert history.take() == ()


def test_what_the_gpu_took_may_come_after_the_token() -> None:
    history = PassHistory(layers=1, experts=4)
    history.layer_ran(0, 1, (run(1, "gpu"),), 0.0, COSTS)
    history.token(5, "", 0.1, [{1}], change=1)
    history.gpu_took(0, 0.75)
    history.layer_ran(0, 1, (run(2, "gpu"),), 0.0, COSTS)
    assert float32(history.take()[0].gpu_s) == [0.75]


def test_passes_without_a_token_are_forgotten() -> None:
    history = PassHistory(layers=2, experts=4)
    for expert in (0, 1):  # two chunks of a prompt, and between them one that was begun anew
        history.layer_ran(0, 8, (run(expert, "cpu", 8),), 0.1, COSTS)
        history.layer_ran(0, 8, (run(expert, "cpu", 8),), 0.1, COSTS)
        history.layer_ran(1, 8, (run(expert, "cpu", 5), run(3, "cpu", 3)), 0.1, COSTS)
    history.token(1, "a", 0.1, [set(), set()], change=0)
    (record,) = history.take()
    assert (record.pass_tokens, uint16(record.experts), uint16(record.counts)) == (8, [1, 1, 3], [8, 5, 3])
    assert (record.places, record.gpu_s) == (b"", b"")


def test_residents_are_told_when_they_changed() -> None:
    history = PassHistory(layers=1, experts=8)
    for change in (3, 3, 4):
        history.layer_ran(0, 1, (run(0, "cpu"),), 0.1, COSTS)
        history.token(0, "", 0.1, [{change}], change)
    assert [record.residents for record in history.take()] == [b"\x10", None, b"\x08"]
    history.reset()
    history.layer_ran(0, 1, (run(0, "cpu"),), 0.1, COSTS)
    history.token(0, "", 0.1, [{4}], change=4)
    (record,) = history.take()
    assert (record.position, record.residents) == (0, b"\x08"), "a new reply begins with all of it"


def test_a_token_on_the_cpu_is_packed_alike() -> None:
    experts = np.array([[3, 1], [0, 2]], np.int32)
    whole, layers = PassHistory(2, 4), PassHistory(2, 4)
    ran = TokenOnCpu(experts, np.array([0.5, 0.25], np.float32))
    whole.token_on_cpu(ran)
    for layer, seconds in enumerate((0.5, 0.25)):
        layers.layer_ran(layer, 1, tuple(run(expert, "cpu") for expert in experts[layer].tolist()), seconds, COSTS)
    for history in (whole, layers):
        history.token(9, "x", 0.1, [set(), set()], change=0)
    ran.correction = COSTS.cpu_correction  # learnt before the record is taken
    one, other = whole.take()[0], layers.take()[0]
    assert (one.runs, one.experts, one.counts, one.places) == (other.runs, other.experts, other.counts, other.places)
    assert (one.cpu_s, one.gpu_s) == (other.cpu_s, other.gpu_s)
    assert float32(one.corrections)[0] == float32(other.corrections)[0] == 1.5


def test_memory_is_bounded() -> None:
    history = PassHistory(1, 4)
    for token in range(MOST_WAITING + 3):
        history.layer_ran(0, 1, (run(0, "cpu"),), 0.1, COSTS)
        history.token(token, "", 0.1, [set()], change=0)
    records = history.take()
    assert (len(records), records[0].position) == (MOST_WAITING, 3)


@pytest.mark.parametrize(
    "config",
    [
        EngineConfig(device="cpu", context_tokens=256),
        EngineConfig(device="cpu", context_tokens=256, isa="torch"),
        EngineConfig(device="simulated", context_tokens=256, simulated_vram_bytes=44 * MIB),
    ],
    ids=["native", "torch", "simulated"],
)
def test_every_token_of_the_guide_has_its_record(config: EngineConfig) -> None:
    with Engine.load("guide", config) as engine:
        layers, active = engine.model.layers, engine.model.experts_per_token
        for _ in range(2):
            events = list(engine.generate("What is an expert?", GREEDY))
    records: list[PassRecord] = [record for event in events if isinstance(event, Passes) for record in event.records]
    tokens = [event for event in events if isinstance(event, Token)]
    assert [(record.token, record.text) for record in records] == [(token.id, token.text) for token in tokens]
    assert [record.position for record in records] == list(range(len(tokens)))
    assert all(record.pass_tokens == 1 for record in records[1:])
    assert all(len(uint16(record.experts)) == layers * active for record in records[1:])
    assert all(record.seconds > 0 for record in records)
    last = next(event for event in reversed(events) if isinstance(event, Snapshot))
    traced = [run.expert for trace in last.layers for run in trace.runs]
    assert uint16(records[-1].experts) == traced
    measured = [trace.measured_cpu_s for trace in last.layers]
    assert float32(records[-1].cpu_s) == pytest.approx(measured)
    if config.device == "simulated":
        assert float32(records[-1].gpu_s) == pytest.approx([trace.measured_gpu_s for trace in last.layers])
        assert any(record.residents for record in records)
    assert isinstance(events[-1], Finished)
    assert isinstance(events[-2], Snapshot)
