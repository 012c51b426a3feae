"""A long prompt's workspace is lent by residents: they make way, come back, and replies stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.errors import DeviceOutOfMemoryError
from engine.experts.memory import LEAST_CHUNK_TOKENS
from engine.messages import Event, Finished, PromptProgress, Snapshot, Token
from tests.checkpoints import write_mixtral
from tests.engine.shapes import simulated_budget

GREEDY = SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True)
LONG = [5 + 7 * place % 250 for place in range(LEAST_CHUNK_TOKENS + 30)]
SHORT = LONG[:100]
# A little longer than the standing workspace is for: its tokens take as much as some of these small experts.
CONFIG = EngineConfig(
    device="simulated", context_tokens=640, cpu_threads=1, prefill_chunk_tokens=LEAST_CHUNK_TOKENS + 12,
    policy="gpu_stream", adaptive=False,
)  # fmt: skip
Pairs = set[tuple[int, int]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lending") / "m"
    return str(write_mixtral(folder, layers=3, experts=8, max_position_embeddings=1024))


def opened(model: str, config: EngineConfig = CONFIG, residents: int = 6) -> Engine:
    """With room for so many residents beside the workspace of a long prompt."""
    with Engine.load(model, config) as shape:
        total = simulated_budget(shape.model, config, residents)
    return Engine.load(model, replace(config, simulated_vram_bytes=total))


@pytest.fixture
def engine(model: str) -> Iterator[Engine]:
    with opened(model) as engine:
        yield engine


def held(engine: Engine) -> Pairs:
    pairs = enumerate(engine.snapshot().resident_by_layer)
    return {(layer, expert) for layer, experts in pairs for expert in experts}


def of_a_reply(engine: Engine) -> Pairs:
    return {(layer, expert) for layer, experts in enumerate(engine._loaded.lending.residents()) for expert in experts}


def lent_bytes(engine: Engine) -> int:
    return max(engine.plan.lent_bytes.values())


def tokens_of(events: list[Event]) -> list[int]:
    return [event.id for event in events if isinstance(event, Token)]


def check_books(engine: Engine) -> None:
    """As planned for a reply, with what is on its way."""
    device, plan = engine._loaded.device, engine.plan
    assert {term: device.allocated.get(term, 0) for term in ("workspace", "experts", "staging")} == {
        term: plan.vram_bytes[term] for term in ("workspace", "experts", "staging")
    }
    assert device.allocated_bytes <= device.budget_bytes == plan.vram_budget_bytes
    assert of_a_reply(engine) == {(layer, one) for layer, row in enumerate(plan.resident_by_layer) for one in row}


def test_residents_make_way_for_a_long_prompt_and_come_back(engine: Engine) -> None:
    before, device, plan = held(engine), engine._loaded.device, engine.plan
    lent = lent_bytes(engine)
    assert 0 < lent < plan.vram_bytes["experts"]
    seen: list[tuple[int, Pairs]] = []
    events = []
    for event in engine.generate(LONG, GREEDY):
        events.append(event)
        assert device.allocated_bytes <= device.budget_bytes
        if isinstance(event, PromptProgress) and 0 < event.done_tokens < len(LONG):
            seen.append((device.allocated["workspace"], held(engine)))
    assert seen
    workspace = plan.vram_bytes["workspace"] + lent
    expert_bytes = engine.model.expert_bytes
    for bytes_there, staying in seen:
        assert bytes_there == workspace
        assert staying < before
        assert 0 <= len(before - staying) * expert_bytes - lent < expert_bytes, "no more than they must"
    shares = engine.ready.planning.popularity
    least = max(shares[layer][expert] for layer, expert in before - seen[0][1])
    assert least <= min(shares[layer][expert] for layer, expert in seen[0][1]), "the least popular"
    assert held(engine) == before, "all are back before the reply ends"
    check_books(engine)


@pytest.mark.parametrize("adaptive", [False, True])
def test_replies_and_logits_are_those_without_lending(model: str, engine: Engine, *, adaptive: bool) -> None:
    prompts = (LONG, SHORT, LONG[::-1])
    engine.reconfigure(replace(engine.ready.effective, adaptive=adaptive))
    with opened(model, replace(CONFIG, prefill_chunk_tokens=LEAST_CHUNK_TOKENS)) as plain:
        assert plain.plan.lent_bytes == {}
        expected = [tokens_of(list(plain.generate(prompt, GREEDY))) for prompt in prompts]
        logits = plain.logits(LONG)
    assert [tokens_of(list(engine.generate(prompt, GREEDY))) for prompt in prompts] == expected
    np.testing.assert_allclose(engine.logits(LONG), logits, atol=2e-5)
    if not adaptive:
        check_books(engine)


def test_a_short_prompt_moves_nobody(engine: Engine) -> None:
    before, changes = held(engine), engine._loaded.residency.changes
    for event in engine.generate(SHORT, SamplingParams(max_tokens=1)):
        if isinstance(event, Snapshot):
            assert {(layer, one) for layer, row in enumerate(event.resident_by_layer) for one in row} == before
    assert engine._loaded.residency.changes == changes
    list(engine.generate(LONG, SamplingParams(max_tokens=1)))
    changes = engine._loaded.residency.changes
    list(engine.generate([*LONG, 9], SamplingParams(max_tokens=1)))
    assert engine._loaded.residency.changes - changes <= len(before), "what is cached is not read again"


@pytest.mark.parametrize("after", range(0, 9, 2))
def test_a_prompt_that_is_stopped_leaves_all_as_it_was(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr("engine.reply.SNAPSHOT_INTERVAL_S", 0.0)
    events: list[Event] = []
    for event in engine.generate(LONG, GREEDY, cancelled=lambda: len(events) > after):
        events.append(event)  # noqa: PERF402 - the engine looks at it meanwhile
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"
    check_books(engine)
    assert engine._loaded.memory_shortages == 0


def test_a_reply_that_nobody_reads_on_leaves_all_as_it_was(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.reply.SNAPSHOT_INTERVAL_S", 0.0)
    with opened(model) as engine:
        events = engine.generate(LONG, GREEDY)
        while not engine._loaded.lending.reading:
            next(events)
        events.close()  # type: ignore[attr-defined]
        check_books(engine)
        outliving = engine.generate(LONG, GREEDY)
        while not engine._loaded.lending.reading:
            next(outliving)
        loaded = engine._loaded
    outliving.close()  # type: ignore[attr-defined]
    assert loaded.device.allocated["experts"] == 0
    assert not loaded.residency.uploading, "nothing is copied from memory that is gone"


def test_other_programs_may_come_and_go_while_a_prompt_is_read(
    model: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.reply.SNAPSHOT_INTERVAL_S", 0.0)
    expected = tokens_of(list(engine.generate(LONG, GREEDY)))
    engine._loaded.decoder.cache.tokens.clear()
    sizes = [simulated_budget(engine.model, CONFIG, residents) for residents in (0, 4, 6, 1)]
    events, counts = [], set()
    for event in engine.generate(LONG, GREEDY):
        events.append(event)
        reading = engine._loaded.lending.reading
        engine.make_way(engine.vram.total - sizes[len(events) % len(sizes)])
        device = engine._loaded.device
        assert engine._loaded.lending.reading == reading
        assert device.allocated_bytes <= device.budget_bytes == engine.plan.vram_budget_bytes
        assert device.allocated["workspace"] == (
            engine.plan.vram_bytes["workspace"] + (lent_bytes(engine) if reading else 0)
        )
        assert of_a_reply(engine) == {(at, one) for at, row in enumerate(engine.plan.resident_by_layer) for one in row}
        assert "ran out" not in " ".join(engine.plan.reasons)
        counts.add((reading, len(held(engine))))
    assert tokens_of(events) == expected
    assert len({count for reading, count in counts if reading}) > 1
    engine.make_way(0)
    check_books(engine)


def test_where_memory_is_short_when_they_come_back_the_reply_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tokens_of(list(engine.generate(LONG, GREEDY)))
    engine._loaded.decoder.cache.tokens.clear()
    device, reserve = engine._loaded.device, engine._loaded.device.reserve
    room = (len(held(engine)) - 2) * engine.model.expert_bytes

    def failing(term: str, size_bytes: int) -> None:
        if term == "experts" and device.allocated["experts"] + size_bytes > room:
            raise DeviceOutOfMemoryError("No memory.", "Buy more.")
        reserve(term, size_bytes)

    monkeypatch.setattr(device, "reserve", failing)
    assert tokens_of(list(engine.generate(LONG, GREEDY))) == expected
    assert engine._loaded.memory_shortages == 1
    assert "ran out of memory" in engine.ready.because
    assert engine.plan.resident_experts == len(held(engine)) == room // engine.model.expert_bytes
    assert device.allocated["experts"] == engine.plan.vram_bytes["experts"]


def test_where_nothing_is_left_to_lend_the_workspace_is_there(model: str) -> None:
    """The least that works includes it."""
    with opened(model, residents=0) as engine, opened(model) as roomy:
        assert tokens_of(list(engine.generate(LONG, GREEDY))) == tokens_of(list(roomy.generate(LONG, GREEDY)))
        check_books(engine)
