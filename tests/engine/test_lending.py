"""A long prompt's workspace is lent by residents: they make way, come back, and replies stay the same."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

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


def _noted(happened: list[str], name: str, real: Callable[..., None]) -> Callable[..., None]:
    """A method of the device that is taken down."""

    def noted(*args: object) -> None:
        happened.append(" ".join([name, *(str(arg) for arg in args[:1])]))
        real(*args)

    return noted


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
    before = held(engine)
    room = (len(held(engine)) - 2) * engine.model.expert_bytes

    def failing(term: str, size_bytes: int) -> None:
        if term == "experts" and device.allocated["experts"] + size_bytes > room:
            raise DeviceOutOfMemoryError("No memory.", "Buy more.")
        reserve(term, size_bytes)

    monkeypatch.setattr(device, "reserve", failing)
    assert tokens_of(list(engine.generate(LONG, GREEDY))) == expected
    assert engine._loaded.memory_shortages == 1
    assert "ran out of memory" in engine.ready.because
    shares = engine.ready.planning.popularity
    missing = before - held(engine)
    assert max(shares[layer][one] for layer, one in missing) <= min(shares[layer][one] for layer, one in held(engine))
    assert engine.plan.resident_experts == len(held(engine)) == room // engine.model.expert_bytes
    assert device.allocated["experts"] == engine.plan.vram_bytes["experts"]


def test_a_prompt_takes_what_the_shortest_pass_that_holds_it_lends(engine: Engine) -> None:
    lending, most = engine._loaded.lending, lent_bytes(engine)
    lending._lent_bytes = {LEAST_CHUNK_TOKENS: 0, LEAST_CHUNK_TOKENS + 4: most // 3, LEAST_CHUNK_TOKENS + 12: most}
    for tokens, expected in ((4, most // 3), (5, most), (12, most), (900, most)):
        with engine._loaded.reading(LEAST_CHUNK_TOKENS + tokens):
            assert lending.taken_bytes == expected
        assert lending.taken_bytes == 0
    with engine._loaded.reading(LEAST_CHUNK_TOKENS):
        assert not lending.reading
    check_books(engine)


def test_what_the_prompt_worked_in_is_given_back_before_experts_come(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, loaded = engine._loaded.device, engine._loaded
    happened: list[str] = []
    for name in ("reserve", "release", "trim"):
        monkeypatch.setattr(device, name, _noted(happened, name, getattr(device, name)))
    with loaded.reading(len(LONG)):
        happened.clear()
    assert happened[:3] == ["release workspace", "trim", "reserve experts"]


def test_an_upload_under_way_is_finished_before_somebody_makes_way(engine: Engine) -> None:
    residency = engine._loaded.residency
    layer = next(layer for layer, row in enumerate(residency.resident) if row)
    leaving, coming = min(residency.resident[layer]), min(set(range(8)) - residency.resident[layer])
    count = len(held(engine))
    residency.begin_swap(layer, leaving, coming)
    with engine._loaded.reading(len(LONG)):
        assert not residency.uploading
        assert (layer, coming) in of_a_reply(engine)
    assert len(of_a_reply(engine)) == count


def test_nothing_of_a_long_pass_is_kept_alive(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, sizes = engine._loaded.decoder, []
    logits = decoder.logits

    def seen(hidden: torch.Tensor) -> torch.Tensor:
        sizes.append(hidden.untyped_storage().nbytes() // hidden.element_size())
        return logits(hidden)

    monkeypatch.setattr(decoder, "logits", seen)
    list(engine.generate(LONG, SamplingParams(max_tokens=1)))
    assert sizes == [engine.model.hidden_size]


def test_who_makes_way_is_page_locked_before_who_stays(tmp_path: Path) -> None:
    path = write_mixtral(tmp_path / "m", layers=3, experts=8, intermediate=64, max_position_embeddings=1024)
    with opened(str(path)) as engine:
        size, staying, total = engine.model.expert_bytes, 0, engine.vram.total
        assert size % mmap.PAGESIZE == 0
        with engine._loaded.reading(len(LONG)):
            staying = len(held(engine))
    budget = (engine.model.total_experts - staying) * size
    config = replace(CONFIG, simulated_vram_bytes=total, pinned_budget_bytes=budget)
    with Engine.load(str(path), config) as engine:
        before = held(engine)
        with engine._loaded.reading(len(LONG)):
            away = before - held(engine)
            pageable = engine._loaded.store.pageable
            assert away
            assert not any(expert in pageable[layer] for layer, expert in away)
            assert all(expert in pageable[layer] for layer, expert in held(engine))


def test_where_nothing_is_left_to_lend_the_workspace_is_there(model: str) -> None:
    """The least that works includes it."""
    with opened(model, residents=0) as engine, opened(model) as roomy:
        assert tokens_of(list(engine.generate(LONG, GREEDY))) == tokens_of(list(roomy.generate(LONG, GREEDY)))
        check_books(engine)
