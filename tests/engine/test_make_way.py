"""Other programs take VRAM and give it back while the engine runs: experts move, replies stay the same."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from engine import Engine, EngineConfig, SamplingParams, vram_watch
from engine.experts.explain import make_way_words
from engine.messages import ChatMessage, Event, Failed, Finished, Generate, Load, Ready, Shutdown, Snapshot, Token
from engine.vram_watch import VramWatch
from engine.worker import Emit, EngineWorker
from tests.checkpoints import write_mixtral
from tests.engine.shapes import simulated_budget

PATIENCE_S = 30.0
GREEDY = SamplingParams(max_tokens=60, temperature=0.0, ignore_eos=True)
PROMPT = [5, 6, 7, 8] * 6
ROOMY = EngineConfig(
    device="simulated", context_tokens=128, cpu_threads=1, prefill_chunk_tokens=16, policy="gpu_stream"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_mixtral(tmp_path_factory.mktemp("way") / "m", layers=3, experts=6))


@pytest.fixture
def engine(model: str) -> Iterator[Engine]:
    """With every expert in VRAM and little to spare."""
    with Engine.load(model, ROOMY) as shape:
        total = simulated_budget(shape.model, ROOMY, residents=shape.model.total_experts)
    with Engine.load(model, replace(ROOMY, simulated_vram_bytes=total)) as engine:
        assert engine.plan.resident_experts == engine.model.total_experts
        yield engine


def taken(engine: Engine, residents: int) -> int:
    """Bytes that others must hold so that so many experts have room."""
    return engine.vram.total - simulated_budget(engine.model, ROOMY, residents)


def held(engine: Engine) -> set[tuple[int, int]]:
    pairs = enumerate(engine.snapshot().resident_by_layer)
    return {(layer, expert) for layer, experts in pairs for expert in experts}


def tokens_of(events: list[Event]) -> list[int]:
    return [event.id for event in events if isinstance(event, Token)]


def check_books(engine: Engine) -> None:
    device = engine._loaded.device
    assert device.allocated_bytes <= device.budget_bytes == engine.plan.vram_budget_bytes
    assert engine.vram.used + device.budget_bytes <= engine.vram.total
    assert engine.plan.resident_experts == len(held(engine))
    assert engine.snapshot().memory_shortages == 0


# ---- the engine ----


def test_the_least_popular_leave_and_the_most_popular_come_back(engine: Engine) -> None:
    everything = held(engine)
    list(engine.generate(PROMPT, GREEDY))
    shares = engine.ready.planning.popularity
    assert engine.make_way(taken(engine, 7))
    check_books(engine)
    kept = held(engine)
    assert len(kept) == 7
    shares = engine.ready.planning.popularity
    assert min(shares[layer][expert] for layer, expert in kept) >= max(
        shares[layer][expert] for layer, expert in everything - kept
    )
    assert engine.make_way(taken(engine, 10))
    check_books(engine)
    assert held(engine) > kept, "nobody leaves while others come"
    assert len(held(engine)) == 10
    assert engine.make_way(0)
    assert held(engine) == everything


def test_ready_says_why_in_one_sentence(engine: Engine) -> None:
    bytes_taken = taken(engine, 7)
    engine.make_way(bytes_taken)
    assert engine.ready.because == make_way_words(bytes_taken, 7 - engine.model.total_experts)
    engine.make_way(0)
    assert engine.ready.because == make_way_words(-bytes_taken, engine.model.total_experts - 7)
    engine.reconfigure(engine.ready.effective)
    assert engine.ready.because == ""


@pytest.mark.parametrize(
    ("bytes_taken", "came", "words"),
    [
        (3_328_599_655, -21, "Another program took 3.1 GiB of VRAM: 21 experts moved to RAM."),
        (1 << 30, -1, "Another program took 1.0 GiB of VRAM: 1 expert moved to RAM."),
        (1 << 20, 0, "Another program took 1.0 MiB of VRAM: no expert had to move."),
        (-(1 << 30), 5, "1.0 GiB of VRAM became free: 5 experts came back."),
        (-(1 << 30), 0, "1.0 GiB of VRAM became free: no expert had room to come back."),
    ],
)
def test_the_sentences(bytes_taken: int, came: int, words: str) -> None:
    assert make_way_words(bytes_taken, came) == words


def test_what_must_be_there_stays_whatever_others_take(engine: Engine) -> None:
    expected = tokens_of(list(engine.generate(PROMPT, GREEDY)))
    assert engine.make_way(engine.vram.total)
    assert held(engine) == set()
    assert engine.plan.vram_bytes["staging"] > 0
    assert not engine.make_way(engine.vram.total), "there is nothing more to give"
    assert tokens_of(list(engine.generate(PROMPT, GREEDY))) == expected


def test_a_budget_below_what_is_free_is_not_touched(engine: Engine) -> None:
    small = simulated_budget(engine.model, ROOMY, residents=3)
    engine.reconfigure(replace(engine.ready.effective, vram_budget_bytes=small))
    before = engine.ready, engine.vram
    assert not engine.make_way(engine.vram.total - small)
    assert (engine.ready, engine.vram) == before
    assert engine.make_way(engine.vram.total - simulated_budget(engine.model, ROOMY, residents=2))
    assert len(held(engine)) == 2


def test_the_conversation_stays_in_the_cache(engine: Engine) -> None:
    list(engine.generate(PROMPT, GREEDY))
    engine.make_way(taken(engine, 2))
    end = list(engine.generate([*PROMPT, 9], GREEDY))[-1]
    assert isinstance(end, Finished)
    assert end.usage.cached_tokens == len(PROMPT)


def test_new_settings_keep_leaving_others_what_they_hold(engine: Engine) -> None:
    engine.make_way(taken(engine, 4))
    engine.reconfigure(replace(engine.ready.effective, vram_budget_bytes=None))
    assert len(held(engine)) == 4


def test_between_any_two_events_of_a_reply(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot after every layer, and another budget after every event: the tokens stay the same."""
    monkeypatch.setattr("engine.reply.SNAPSHOT_INTERVAL_S", 0.0)
    expected = tokens_of(list(engine.generate(PROMPT, GREEDY)))
    engine._loaded.decoder.cache.tokens.clear()
    rooms = [taken(engine, residents) for residents in (2, 9, 0, 18, 5)]
    events, moves = [], 0
    for event in engine.generate(PROMPT, GREEDY):
        events.append(event)
        moves += engine.make_way(max(0, rooms[len(events) % len(rooms)]))
        check_books(engine)
    assert tokens_of(events) == expected
    assert moves > 200


def test_a_prompt_under_way_keeps_its_workspace_while_residents_move(model: str) -> None:
    config = replace(ROOMY, context_tokens=512, prefill_chunk_tokens=None)
    with Engine.load(model, config) as shape:
        chunk = shape.plan.prefill_chunk_tokens
        config = replace(config, prefill_chunk_tokens=chunk)
        total = simulated_budget(shape.model, config, residents=10)
        least = simulated_budget(shape.model, config, residents=2)
    with Engine.load(model, replace(config, simulated_vram_bytes=total)) as engine:
        engine._config = replace(engine._config, prefill_chunk_tokens=None)
        during = []
        for event in engine.generate(list(range(5, 205)) * 2, SamplingParams(max_tokens=1)):
            if isinstance(event, Snapshot) and engine._loaded.pass_tokens > 1:
                engine.make_way(total - least)
                during.append((engine.plan.prefill_chunk_tokens, engine._loaded.device.allocated["workspace"]))
        assert set(during) == {(chunk, engine.plan.vram_bytes["workspace"])}
        assert len(held(engine)) == 2
        assert engine._loaded.pass_tokens == 0


# ---- the worker ----


class Watched:
    """A worker whose simulated GPU is shared with a program that takes what a test says."""

    def __init__(self, model: str, config: EngineConfig) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.others_bytes = 0
        self.slow_s = 0.0
        self.worker = EngineWorker(self._hear, self._load)
        self.worker.start()
        self.worker.submit(Load(model, config))
        self.until(lambda event: isinstance(event, Snapshot))

    def _load(self, model: str, config: EngineConfig, emit: Emit, cancelled: Callable[[], bool]) -> Engine:
        engine = self.engine = Engine.load(model, config, emit, cancelled, require_tokenizer=True)
        engine.other_programs = lambda: self.others_bytes
        return engine

    def _hear(self, event: Event) -> None:
        if isinstance(event, Token):
            time.sleep(self.slow_s)  # a reply that takes its time, as those of large models do
        self.events.put(event)

    def until(self, wanted: Callable[[Event], bool]) -> list[Event]:
        """Events up to one that is wanted."""
        seen: list[Event] = []
        while not seen or not wanted(seen[-1]):
            seen.append(self.events.get(timeout=PATIENCE_S))
            assert not isinstance(seen[-1], Failed), seen[-1]
        return seen


@pytest.fixture
def watched(model: str, engine: Engine) -> Iterator[Watched]:
    watched = Watched(model, replace(ROOMY, simulated_vram_bytes=engine.vram.total))
    yield watched
    watched.worker.submit(Shutdown())
    assert watched.worker.join(PATIENCE_S)


def moved(event: Event) -> bool:
    return isinstance(event, Ready) and bool(event.because)


def ready_in(events: list[Event]) -> Ready:
    ready = events[-1]
    assert isinstance(ready, Ready)
    return ready


def test_an_idle_engine_makes_way_within_two_seconds(watched: Watched) -> None:
    asked_s = time.perf_counter()
    watched.others_bytes = taken(watched.engine, 4)
    ready = ready_in(watched.until(moved))
    assert time.perf_counter() - asked_s < 2.0
    assert ready.plan.resident_experts == 4
    assert ready.because.startswith("Another program took")
    snapshot = watched.until(lambda event: isinstance(event, Snapshot))[-1]
    assert isinstance(snapshot, Snapshot)
    assert sum(map(len, snapshot.resident_by_layer)) == 4


def test_experts_leave_during_a_reply_and_come_back_after_it(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vram_watch, "HOLD_S", 0.2)
    request = Generate((ChatMessage("user", "hello"),), GREEDY)
    watched.worker.submit(request)
    expected = tokens_of(watched.until(lambda event: isinstance(event, Finished)))
    watched.engine._loaded.decoder.cache.tokens.clear()
    watched.slow_s = 0.02
    watched.worker.submit(request)
    before = watched.until(lambda event: isinstance(event, Token))
    asked_s = time.perf_counter()
    watched.others_bytes = taken(watched.engine, 4)
    before += watched.until(moved)
    assert time.perf_counter() - asked_s < 2.0
    assert ready_in(before).plan.resident_experts == 4
    after = watched.until(lambda event: isinstance(event, Finished))
    assert tokens_of(after), "the reply goes on"
    assert tokens_of(before + after) == expected
    watched.others_bytes = 0
    last = ready_in(watched.until(lambda event: moved(event) and ready_in([event]).plan.resident_experts == 18))
    assert "came back" in last.because


def test_another_model_ends_the_watch_of_the_one_before(watched: Watched, model: str) -> None:
    first = watched.worker._watch
    watched.worker.submit(Load(model, ROOMY))
    watched.until(lambda event: isinstance(event, Snapshot))
    assert isinstance(first, VramWatch)
    assert first.join(PATIENCE_S)
    assert watched.worker._watch is not first


def test_there_is_nothing_to_watch_without_a_gpu(model: str) -> None:
    for device in ("cpu", "simulated"):
        with Engine.load(model, replace(ROOMY, device=device)) as engine:
            assert engine.other_programs is None


def test_every_plan_is_told_to_the_watch_and_none_is_asked_of_the_next_model() -> None:
    told: list[int] = []
    worker = EngineWorker(lambda _: None)
    engine: Any = SimpleNamespace(
        ready=None, snapshot=lambda: None, vram=SimpleNamespace(used=7), close=lambda: told.append(0)
    )
    watch: Any = SimpleNamespace(replanned=told.append, stop=lambda: told.append(-1))
    worker._engine, worker._watch = engine, watch
    worker._tell_ready()
    assert told == [7]
    worker._others_changed(5)
    worker._close()
    assert told == [7, -1, 0]
    assert not worker._others_bytes
