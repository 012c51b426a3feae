"""What the native decoder's passes leave behind: worked out for many at once, and the same as one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.experts.cost_model import with_correction
from engine.experts.planner import LayerPlan, plan_layer
from engine.experts.popularity import Popularity
from engine.experts.record import MOST_WAITING, CpuRecord
from engine.messages import CostModel, LayerTrace, PassRecord
from tests.engine.experts.shapes import QWEN, TINY, pc_costs
from tests.examples import examples

COSTS = pc_costs(TINY, gpu=False)
QWEN_COSTS: CostModel = pc_costs(QWEN, gpu=False)


@pytest.fixture
def record() -> CpuRecord:
    return CpuRecord(TINY, Popularity(TINY), COSTS, "fiddler")


def chosen(expert: int, *, layers: int = 1, tokens: int = 1) -> np.ndarray:
    """Every token visits this expert and the next one."""
    one = np.array([expert, expert + 1], dtype=np.int32)
    return np.broadcast_to(one, (layers, tokens, 2)).copy()


def seconds(layers: int, each_s: float) -> np.ndarray:
    return np.full(layers, each_s, dtype=np.float32)


def shown(record: CpuRecord) -> list[tuple[int, int, int, float] | None]:
    """Per layer: its index, tokens, first expert and measured time."""
    return [
        None if trace is None else (trace.layer, trace.tokens, trace.runs[0].expert, round(trace.measured_cpu_s, 6))
        for trace in record.traces
    ]


def test_a_token_leaves_a_trace_in_every_layer(record: CpuRecord) -> None:
    record.record_pass(0, chosen(1, layers=TINY.layers), seconds(TINY.layers, 0.5))
    assert shown(record) == [(layer, 1, 1, 0.5) for layer in range(TINY.layers)]
    assert record.counters.visits == 2 * TINY.layers


def test_layers_of_a_prompt_replace_those_of_the_token_before_and_no_others(record: CpuRecord) -> None:
    record.record_pass(0, chosen(1, layers=TINY.layers), seconds(TINY.layers, 0.5))
    record.record_pass(0, chosen(0, tokens=3), seconds(1, 2.0))
    token = [(layer, 1, 1, 0.5) for layer in range(TINY.layers)]
    assert shown(record) == [(0, 3, 0, 2.0), *token[1:]]


def test_a_token_replaces_a_prompt_that_nobody_has_looked_at(record: CpuRecord) -> None:
    for layer in range(TINY.layers):
        record.record_pass(layer, chosen(0, tokens=3), seconds(1, 2.0))
    record.record_pass(0, chosen(1, layers=TINY.layers), seconds(TINY.layers, 0.5))
    assert shown(record) == [(layer, 1, 1, 0.5) for layer in range(TINY.layers)]


def test_what_was_looked_at_stays_until_there_is_more(record: CpuRecord) -> None:
    assert shown(record) == [None] * TINY.layers
    record.record_pass(0, chosen(1, layers=TINY.layers), seconds(TINY.layers, 0.5))
    assert shown(record) == shown(record)


def test_predictions_follow_what_was_measured(record: CpuRecord) -> None:
    record.record_pass(0, chosen(1, layers=TINY.layers), seconds(TINY.layers, 1e-9))
    assert record.costs.cpu_correction < COSTS.cpu_correction


class OneByOne:
    """The plain reference: a token is counted, planned and learnt from before the next."""

    def __init__(self) -> None:
        self.popularity, self.costs = Popularity(QWEN), QWEN_COSTS
        self.corrections: list[float] = []
        self.traces: list[LayerTrace] = []

    def take(self, experts: np.ndarray, measured: np.ndarray) -> None:
        self.corrections.append(self.costs.cpu_correction)
        counts = [[(expert, 1) for expert in row] for row in experts[:, 0].tolist()]
        for layer, row in enumerate(counts):
            self.popularity.observe(layer, row)
        predicted_s = sum(self._plan(row).predicted_cpu_s for row in counts)
        self.costs = with_correction(self.costs, cpu_ratio=float(measured.sum()) / predicted_s)
        plans = [self._plan(row) for row in counts]
        self.traces = [
            LayerTrace(layer, 1, plan.runs, plan.predicted_cpu_s, 0.0, float(measured[layer]), 0.0)
            for layer, plan in enumerate(plans)
        ]

    def _plan(self, counts: list[tuple[int, int]]) -> LayerPlan:
        return plan_layer(counts, (), self.costs, "fiddler", pass_tokens=1)


@examples(25)
@given(seed=st.integers(0, 1 << 16), tokens=st.integers(1, 40), looks=st.sets(st.integers(0, 39), max_size=4))
def test_many_tokens_at_once_leave_what_they_leave_one_by_one(seed: int, tokens: int, looks: set[int]) -> None:
    draw, popularity, reference = np.random.default_rng(seed), Popularity(QWEN), OneByOne()
    record, told = CpuRecord(QWEN, popularity, QWEN_COSTS, "fiddler"), list[PassRecord]()
    for token in range(tokens):
        rows = [draw.permutation(QWEN.experts)[: QWEN.experts_per_token] for _ in range(QWEN.layers)]
        experts = np.stack(rows).astype(np.int32)[:, None]
        measured = draw.uniform(1e-5, 1e-2, QWEN.layers).astype(np.float32)
        record.record_pass(0, experts, measured)
        record.history.token(token, "", 0.1, [set()] * QWEN.layers, change=0)
        reference.take(experts, measured)
        if token in looks:
            told += record.take_passes()
    told += record.take_passes()
    assert record.counters.visits == tokens * QWEN.layers * QWEN.experts_per_token
    assert popularity.shares() == reference.popularity.shares()
    assert popularity.recent() == reference.popularity.recent()
    assert record.costs.cpu_correction == pytest.approx(reference.costs.cpu_correction, rel=1e-6)
    corrections = [float(np.frombuffer(one.corrections, np.float32)[0]) for one in told]
    assert corrections == pytest.approx(reference.corrections, rel=1e-6)
    for found, wanted in zip(record.traces, reference.traces, strict=True):
        assert found is not None
        assert [run.expert for run in found.runs] == [run.expert for run in wanted.runs]
        numbers = [number for run in found.runs for number in run[3:]]
        assert numbers == pytest.approx([number for run in wanted.runs for number in run[3:]], rel=1e-6)
        assert found.predicted_cpu_s == pytest.approx(wanted.predicted_cpu_s, rel=1e-6)
        assert (found[:2], found[4:]) == (wanted[:2], wanted[4:])


def test_what_nobody_asks_for_does_not_pile_up(record: CpuRecord) -> None:
    for _ in range(MOST_WAITING + 1):
        record.record_pass(0, chosen(1, layers=TINY.layers), seconds(TINY.layers, 0.5))
    assert len(record._waiting) == 1
    assert record.counters.visits == 2 * TINY.layers * (MOST_WAITING + 1)


def test_other_costs_learn_nothing_from_what_ran_before(record: CpuRecord) -> None:
    record.record_pass(0, chosen(1, layers=TINY.layers), seconds(TINY.layers, 0.5))
    record.costs = COSTS
    assert record.costs.cpu_correction == COSTS.cpu_correction


def test_a_reply_that_is_forgotten_leaves_what_was_before() -> None:
    popularity = Popularity(TINY)
    record = CpuRecord(TINY, popularity, COSTS, "fiddler")
    record.record_pass(0, chosen(1, layers=TINY.layers), seconds(TINY.layers, 0.5))
    with record.forgotten():
        for _ in range(3):
            record.record_pass(0, chosen(4, layers=TINY.layers), seconds(TINY.layers, 1e-9))
    assert popularity.recent()[0] == (0.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    assert record.costs.cpu_correction > COSTS.cpu_correction
    assert (record.traces[0], record.take_passes()) == (None, ())
