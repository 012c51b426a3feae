"""The last reply token by token: what comes out is what the engine traced, with the plan's own predictions."""

from __future__ import annotations

import pytest

from app.reply_history import HALF_LIFE_TOKENS, MOST_TOKENS, ReplyHistory, unpack_traces
from engine.config import EngineConfig, SamplingParams
from engine.engine import Engine
from engine.experts.popularity import RECENT_HALF_LIFE_TOKENS
from engine.messages import LayerTrace, Passes, PassRecord, Snapshot
from tests.app.snapshots import Device, Shape, Step, make_passes, make_ready, make_snapshot


def facts(trace: LayerTrace) -> tuple[int, int, list[tuple[int, int, str]]]:
    return trace.layer, trace.tokens, sorted((run.expert, run.tokens, run.place) for run in trace.runs)


@pytest.mark.parametrize(
    ("shape", "device"), [("guide", "simulated"), ("qwen", "cuda"), ("wide", "cuda"), ("guide", "cpu")]
)
def test_a_view_shows_what_ran(shape: Shape, device: Device) -> None:
    ready = make_ready(shape, device)
    history = ReplyHistory()
    history.add(make_passes(ready, 3))
    for number in range(3):
        step = Step(number, 64 if number == 0 else 1)
        live = make_snapshot(ready, Step(9))
        view = history.view(number, ready, live)
        expected = make_snapshot(ready, step)
        assert [facts(trace) for trace in view.snapshot.layers] == [facts(trace) for trace in expected.layers]
        for shown, traced in zip(view.snapshot.layers, expected.layers, strict=True):
            assert shown.measured_cpu_s == pytest.approx(traced.measured_cpu_s)
            assert shown.measured_gpu_s == pytest.approx(traced.measured_gpu_s)
        assert view.snapshot.resident_by_layer == ready.plan.resident_by_layer
        assert view.snapshot.vram_bytes == live.vram_bytes
        runs = [run for trace in expected.layers for run in trace.runs]
        assert view.snapshot.visits == sum(run.tokens for run in runs)
        assert view.snapshot.hits == sum(run.tokens for run in runs if run.place == "gpu")
        assert view.snapshot.streamed == sum(run.place == "stream" for run in runs)


def test_speed_and_text_of_a_token() -> None:
    ready = make_ready("guide", "cpu")
    history = ReplyHistory()
    history.add(make_passes(ready, 12))
    view = history.view(5, ready, make_snapshot(ready))
    assert view.snapshot.tokens_per_s == pytest.approx(1 / 0.15)
    assert (view.before, view.record.text, view.after) == (
        " A mixture of experts keeps",
        " the",
        " busiest part in VRAM.\n",
    )
    assert history.view(0, ready, make_snapshot(ready)).snapshot.tokens_per_s == 0, "the prompt's time is no token's"


def test_recent_use_fades_as_the_engines_does() -> None:
    assert HALF_LIFE_TOKENS == RECENT_HALF_LIFE_TOKENS
    ready = make_ready("guide", "cpu")
    history = ReplyHistory()
    history.add(make_passes(ready, 9))
    use = history.view(8, ready, make_snapshot(ready)).snapshot.recent_use
    now = {run.expert for run in make_snapshot(ready, Step(8)).layers[0].runs}
    before = {run.expert for run in make_snapshot(ready, Step(7)).layers[0].runs} - now
    assert {use[0][expert] for expert in now} == {1.0}
    assert {round(use[0][expert], 6) for expert in before} <= {round(2 ** (-1 / 4), 6)}


def test_a_new_reply_begins_anew_and_old_tokens_go_but_residents_stay_known() -> None:
    ready = make_ready("guide", "simulated")
    records = make_passes(ready, 2)
    history = ReplyHistory()
    history.add(records)
    later = records[1]
    assert later.residents is None
    history.add([later._replace(position=index) for index in range(2, MOST_TOKENS + 3)])
    assert (len(history), history.first, history.last) == (MOST_TOKENS, 3, MOST_TOKENS + 2)
    live = make_snapshot(ready)
    assert history.view(history.first, ready, live).snapshot.resident_by_layer == ready.plan.resident_by_layer
    history.add(records[:1])
    assert (len(history), history.first, history.last) == (1, 0, 0)
    history.clear()
    assert (len(history), history.last) == (0, -1)


def test_where_another_plan_would_come_out_what_ran_is_shown() -> None:
    ready = make_ready("mixtral", "cuda")
    record = make_passes(ready, 2)[1]
    moved = record._replace(places=bytes([1] * (len(record.experts) // 2)))
    traces = unpack_traces(moved, ready, ready.plan.resident_by_layer)
    assert {run.place for trace in traces for run in trace.runs} == {"stream"}


def test_times_that_are_not_known_are_zero() -> None:
    ready = make_ready("guide", "simulated")
    record = make_passes(ready, 1)[0]
    unknown = record._replace(gpu_s=b"\x00\x00\xc0\x7f" * ready.model.layers)
    traces = unpack_traces(unknown, ready, ready.plan.resident_by_layer)
    assert {trace.measured_gpu_s for trace in traces} == {0.0}


@pytest.mark.parametrize("device", ["cpu", "simulated"])
def test_the_engines_own_traces_come_back(device: Device) -> None:
    config = EngineConfig(device=device, context_tokens=256, simulated_vram_bytes=44 << 20)
    with Engine.load("guide", config) as engine:
        ready = engine.ready
        events = list(engine.generate("What is VRAM?", SamplingParams(max_tokens=16, temperature=0.0)))
    records: list[PassRecord] = [record for event in events if isinstance(event, Passes) for record in event.records]
    last = [event for event in events if isinstance(event, Snapshot)][-1]
    history = ReplyHistory()
    history.add(records)
    shown = history.view(history.last, ready, last).snapshot
    assert shown.resident_by_layer == last.resident_by_layer
    for trace, traced in zip(shown.layers, last.layers, strict=True):
        assert facts(trace) == facts(traced)
        assert trace.measured_cpu_s == pytest.approx(traced.measured_cpu_s)
        if device == "simulated":  # on the CPU the engine predicts when it is asked, by then with other corrections
            assert trace.predicted_cpu_s == pytest.approx(traced.predicted_cpu_s, rel=1e-5)
            assert trace.predicted_gpu_s == pytest.approx(traced.predicted_gpu_s, rel=1e-5)
            assert [run.place for run in trace.runs] == [run.place for run in traced.runs]
