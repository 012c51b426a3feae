"""Engine: load, chat, reuse of the cache, live settings, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.errors import (
    ConfigurationError,
    DoesNotFitError,
    OperationCancelledError,
    PromptTooLongError,
)
from engine.experts.memory import RAM_MARGIN_BYTES
from engine.hardware import probe_hardware
from engine.loaded_model import LoadedModel
from engine.messages import ChatMessage, Event, Finished, LeftOut, Loading, PromptProgress, Snapshot, Token
from engine.model.decoder import Decoder
from tests.checkpoints import write_mixtral
from tests.engine.shapes import simulated_budget

CPU = EngineConfig(device="cpu", context_tokens=256, cpu_threads=1, prefill_chunk_tokens=32)
SIMULATED = replace(CPU, device="simulated", simulated_vram_bytes=64 << 20)
GREEDY = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_mixtral(tmp_path_factory.mktemp("engine") / "m"))


def finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    assert sum(isinstance(event, Finished) for event in events) == 1
    return events[-1]


def test_a_reply_is_progress_tokens_snapshot_and_one_finish(model: str) -> None:
    with Engine.load(model, CPU) as engine:
        events = list(engine.generate([{"role": "user", "content": "hello"}], GREEDY))
    assert isinstance(events[0], PromptProgress)
    assert isinstance(events[-2], Snapshot)
    end = finished(events)
    assert end.reason == "length"
    assert end.usage.completion_tokens == sum(isinstance(event, Token) for event in events) == 12
    assert end.timings.ttft_s > 0
    assert end.timings.decode_tokens_per_s > 0


def test_a_second_turn_computes_only_its_new_tokens(model: str) -> None:
    first = [ChatMessage("user", "what is an expert, and where does it live?")]
    with Engine.load(model, CPU) as engine:
        events = list(engine.generate(first, GREEDY))
        prompt_tokens = finished(events).usage.prompt_tokens
        second = [*first, ChatMessage("assistant", "it lives here"), ChatMessage("user", "and why?")]
        with_cache = list(engine.generate(second, GREEDY))
        usage = finished(with_cache).usage
        assert prompt_tokens <= usage.cached_tokens < usage.prompt_tokens
    with Engine.load(model, CPU) as fresh:
        without_cache = list(fresh.generate(second, GREEDY))
    ids = [[event.id for event in events if isinstance(event, Token)] for events in (with_cache, without_cache)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("config", [CPU, SIMULATED])
def test_each_reply_counts_its_own_visits(model: str, config: EngineConfig) -> None:
    with Engine.load(model, config) as engine:
        for prompt in ([5, 6, 7], [5, 6, 7, 8, 9]):
            events = list(engine.generate(prompt, GREEDY))
            usage, snapshot = finished(events).usage, [event for event in events if isinstance(event, Snapshot)][-1]
            computed = usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens - 1
            assert snapshot.visits == computed * engine.model.layers * engine.model.experts_per_token


def test_the_end_of_a_reply_is_ignored_where_that_is_asked(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine.load(model, CPU) as engine:
        (end, *_) = engine.tokenizer.eos_ids
        monkeypatch.setattr("engine.reply.Sampler.sample", lambda *_: end)
        for ignore, reason, tokens in ((False, "stop", 1), (True, "length", 12)):
            events = list(engine.generate("hello", replace(GREEDY, ignore_eos=ignore)))
            assert (finished(events).reason, finished(events).usage.completion_tokens) == (reason, tokens)


def test_a_prompt_in_one_chunk_tells_how_far_it_has_come(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as the screen is drawn, which is after every layer here; never backwards, and whole only at the end."""
    monkeypatch.setattr("engine.reply.SNAPSHOT_INTERVAL_S", 0.0)
    prompt = list(range(5, 105))
    with Engine.load(model, replace(CPU, prefill_chunk_tokens=None)) as engine:
        assert engine.plan.prefill_chunk_tokens == CPU.context_tokens
        events = list(engine.generate(prompt, SamplingParams(max_tokens=1)))
        done = [event.done_tokens for event in events if isinstance(event, PromptProgress)]
        assert len(done) == 2 + engine.model.layers
    assert done == sorted(set(done))
    assert (done[0], done[-1]) == (0, len(prompt))


def test_a_seed_repeats_a_reply(model: str) -> None:
    sampling = SamplingParams(max_tokens=20, temperature=1.5, seed=7, ignore_eos=True)
    with Engine.load(model, CPU) as engine:
        runs = [
            [event.id for event in engine.generate([5, 6, 7], sampling) if isinstance(event, Token)] for _ in range(2)
        ]
    assert runs[0] == runs[1]


def test_every_parameter_of_sampling_reaches_the_draw(model: str) -> None:
    wild = SamplingParams(max_tokens=24, temperature=8.0, top_p=1.0, seed=5, ignore_eos=True)

    def ids(engine: Engine, **changes: object) -> list[int]:
        sampling = replace(wild, **changes)  # type: ignore[arg-type]
        return [event.id for event in engine.generate("hello", sampling) if isinstance(event, Token)]

    with Engine.load(model, CPU) as engine:
        best, free = ids(engine, temperature=0.0), ids(engine)
        assert len(set(free)) > 12
        assert best != free
        assert ids(engine, seed=6) != free == ids(engine)
        for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
            assert ids(engine, **narrow) == best, narrow
        assert ids(engine, top_k=5) != best
        assert len(ids(engine, max_tokens=3)) == 3
        once = ids(engine, temperature=0.0, repetition_penalty=10.0)
        assert len(set(once)) > len(set(best))


def test_a_stop_text_ends_the_reply_before_it(model: str) -> None:
    with Engine.load(model, CPU) as engine:
        whole = "".join(event.text for event in engine.generate("hello", GREEDY) if isinstance(event, Token))
        stop = whole[3:5]
        events = list(engine.generate("hello", replace(GREEDY, stop=("never there", stop))))
    assert stop
    assert "".join(event.text for event in events if isinstance(event, Token)) == whole[: whole.index(stop)]
    assert finished(events).reason == "stop"


def test_cancelling_ends_the_reply_and_the_next_one_is_whole(model: str) -> None:
    with Engine.load(model, CPU) as engine:
        expected = [event.id for event in engine.generate([9] * 100, GREEDY) if isinstance(event, Token)]
        engine.logits([1])  # forget the sequence
        asked = 0

        def cancelled() -> bool:
            nonlocal asked
            asked += 1
            return asked > 5

        events = list(engine.generate([9] * 100, GREEDY, cancelled))
        assert finished(events).reason == "cancelled"
        assert asked == 6
        again = [event.id for event in engine.generate([9] * 100, GREEDY) if isinstance(event, Token)]
    assert again == expected


def test_the_reply_ends_when_the_context_is_full(model: str) -> None:
    with Engine.load(model, replace(CPU, context_tokens=32)) as engine:
        events = list(engine.generate([3] * 30, GREEDY))
    assert finished(events).reason == "context"
    assert sum(isinstance(event, Token) for event in events) == 3


@pytest.mark.parametrize("prompt", [[300], [-1], []])
def test_a_prompt_that_cannot_be_computed_is_refused(model: str, prompt: list[int]) -> None:
    with Engine.load(model, CPU) as engine:
        with pytest.raises(ConfigurationError):
            engine.logits(prompt)
        with pytest.raises(ConfigurationError):
            list(engine.generate(prompt, GREEDY))


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(model: str) -> None:
    with Engine.load(model, replace(CPU, context_tokens=32)) as engine:
        with pytest.raises(PromptTooLongError, match=r"32 tokens and the context holds 32"):
            list(engine.generate([3] * 32, GREEDY))
        assert engine.logits([3] * 32).shape == (32, 300)


def test_a_conversation_that_outgrew_the_context_loses_its_oldest_turns() -> None:
    turns: list[ChatMessage] = []
    for _ in range(8):
        turns += [ChatMessage("user", "What is an expert, and where does it live? " * 2)]
        turns += [ChatMessage("assistant", "An expert is a part of a layer. " * 3)]
    chat = [*turns, ChatMessage("user", "What is an expert?")]
    with Engine.load("guide", replace(CPU, context_tokens=256)) as engine:
        counted = engine.count_tokens(1, chat, ["An expert."])
        assert counted.total > counted.context_tokens == 256
        with pytest.raises(PromptTooLongError):
            list(engine.generate(chat, GREEDY))
        for overflow in ("drop_oldest", "drop_middle"):
            events = list(engine.generate(chat, GREEDY, overflow=overflow))
            left_out, end = events[0], finished(events)
            assert isinstance(left_out, LeftOut)
            assert 0 < left_out.messages < len(chat)
            assert end.usage.prompt_tokens <= 256 - GREEDY.max_tokens
            assert end.usage.completion_tokens == GREEDY.max_tokens
        short = engine.count_tokens(2, chat[-1:], [])
        assert finished(list(engine.generate(chat[-1:], GREEDY))).usage.prompt_tokens == short.total


def test_the_budget_changes_live_without_losing_the_conversation(model: str) -> None:
    with Engine.load(model, SIMULATED) as engine:
        everything = engine.plan
        assert everything.resident_experts == engine.model.total_experts
        prompt = [11, 12, 13, 14, 15, 16]
        expected = engine.logits([*prompt, 17])
        engine.logits(prompt)
        smaller = simulated_budget(engine.model, SIMULATED, residents=3)
        engine.reconfigure(replace(SIMULATED, vram_budget_bytes=smaller))
        assert engine.plan.resident_experts == 3
        snapshot = engine.snapshot()
        assert sum(snapshot.vram_bytes.values()) <= snapshot.vram_budget_bytes <= smaller
        assert snapshot.resident_by_layer == engine.plan.resident_by_layer
        assert engine.ready.effective.vram_budget_bytes == engine.plan.vram_budget_bytes
        events = list(engine.generate([*prompt, 17], GREEDY))
        assert finished(events).usage.cached_tokens == len(prompt)
        np.testing.assert_allclose(engine.logits([*prompt, 17]), expected, atol=1e-5)
        engine.reconfigure(SIMULATED)
        assert engine.plan.resident_experts == engine.model.total_experts


def test_the_context_changes_live(model: str) -> None:
    for config in (CPU, SIMULATED):
        with Engine.load(model, config) as engine:
            expected = engine.logits([1, 2, 3])
            engine.reconfigure(replace(config, context_tokens=64))
            assert engine.ready.effective.context_tokens == 64
            np.testing.assert_allclose(engine.logits([1, 2, 3]), expected, atol=1e-5)


def test_what_the_engine_holds_is_room_for_its_next_plan(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine.load(model, CPU) as engine:
        scarce = replace(probe_hardware(), ram_available_bytes=min(RAM_MARGIN_BYTES) + (1 << 20))
        monkeypatch.setattr("engine.premises.probe_hardware", lambda *_: scarce)
        engine.reconfigure(replace(CPU, policy="cpu_only"))
        assert engine.loaded.record.policy == "cpu_only"


def test_threads_that_the_system_does_not_give_change_nothing(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: LoadedModel, threads: int) -> None:
        raise ConfigurationError(f"The system did not give {threads} threads.", "Choose fewer CPU threads.")

    with Engine.load(model, CPU) as engine:
        before, config = engine.ready, engine.config
        list(engine.generate([1, 2, 3], GREEDY))
        monkeypatch.setattr(LoadedModel, "use_threads", refused)
        with pytest.raises(ConfigurationError, match="1000 threads"):
            engine.reconfigure(replace(CPU, cpu_threads=1000, context_tokens=64, policy="cpu_only"))
        assert engine.ready is before
        assert engine.config == config
        assert engine.loaded.record.policy == config.policy
        cache = engine.loaded.decoder.cache
        assert (cache.capacity, cache.tokens[:3]) == (CPU.context_tokens, [1, 2, 3])


def test_decode_steps_over_a_cache_go_with_it(model: str) -> None:
    """A real GPU's graphs hold the addresses of the cache that they were made for."""
    with Engine.load(model, SIMULATED) as engine:
        decoder = engine.loaded.decoder
        assert isinstance(decoder, Decoder)
        steps: Any = object()
        decoder.steps = steps
        engine.reconfigure(replace(SIMULATED, policy="cpu_only"))
        assert decoder.steps is steps
        engine.reconfigure(replace(SIMULATED, context_tokens=64))
        assert decoder.steps is None


def test_refused_settings_leave_the_old_ones_in_force(model: str) -> None:
    with Engine.load(model, SIMULATED) as engine:
        before = engine.ready
        with pytest.raises(DoesNotFitError, match="need"):
            engine.reconfigure(replace(SIMULATED, vram_budget_bytes=1000))
        with pytest.raises(ConfigurationError, match="device"):
            engine.reconfigure(replace(SIMULATED, device="cpu"))
        assert engine.ready is before
        assert list(engine.generate([1, 2], GREEDY))


def test_a_budget_below_the_dense_weights_is_refused_before_loading(model: str) -> None:
    heard: list[Event] = []
    with pytest.raises(DoesNotFitError) as caught:
        Engine.load(model, replace(SIMULATED, vram_budget_bytes=1000), heard.append)
    assert caught.value.needed_bytes > caught.value.available_bytes
    assert {event.phase for event in heard if isinstance(event, Loading)} == {"checking"}


def test_a_load_can_be_stopped(model: str) -> None:
    with pytest.raises(OperationCancelledError):
        Engine.load(model, CPU, cancelled=lambda: True)


def test_costs_and_popularity_are_kept_for_the_next_start(model: str, tmp_path: Path) -> None:
    config = replace(SIMULATED, cost_cache_dir=str(tmp_path / "costs"), popularity_dir=str(tmp_path / "popularity"))
    with Engine.load(model, config) as engine:
        assert engine.ready.planning.costs.source == "measured"
        uniform = engine.ready.planning.popularity
        list(engine.generate([5] * 64, GREEDY))
    with Engine.load(model, config) as engine:
        assert engine.ready.planning.costs.source == "cached"
        assert engine.ready.planning.popularity != uniform
        engine.recalibrate()
        assert engine.ready.planning.costs.source == "measured"


@pytest.mark.measures
def test_the_reply_that_measures_leaves_nothing_behind(model: str, tmp_path: Path) -> None:
    config = replace(CPU, popularity_dir=str(tmp_path), cost_cache_dir=str(tmp_path))
    with Engine.load(model, config) as engine:
        costs, record = engine.ready.planning.costs, engine.loaded.record
        assert costs.token_s > 0
        assert costs.cpu_expert.one_s
        assert (costs.cpu_correction, record.counters.visits) == (1.0, 0)
        assert len(set(engine.ready.planning.popularity[0])) == 1
        assert engine.snapshot().layers == ()
        assert not engine.loaded.decoder.cache.tokens
        list(engine.generate([5] * 40, GREEDY))
        cached, visits = list(engine.loaded.decoder.cache.tokens), engine.popularity.shares()
        engine.recalibrate()
        assert engine.loaded.decoder.cache.tokens == cached
        assert engine.popularity.shares() == visits
    with Engine.load(model, config) as engine:
        assert engine.ready.planning.costs.token_s > 0
        assert engine.ready.planning.costs.source == "cached"
    with Engine.load(model, SIMULATED) as engine:
        assert engine.ready.planning.costs.token_s == 0.0, "real time says nothing about a simulated clock"


def test_a_full_context_has_no_room_for_a_reply_that_measures(model: str) -> None:
    with Engine.load(model, replace(CPU, context_tokens=32)) as engine:
        list(engine.generate([5] * 8, replace(GREEDY, max_tokens=64)))
        assert len(engine.loaded.decoder.cache.tokens) == 32
        engine.recalibrate()
        assert engine.ready.planning.costs.token_s == 0.0


def test_loading_tells_its_phases_and_ends_at_the_total(model: str) -> None:
    heard: list[Event] = []
    Engine.load(model, CPU, heard.append).close()
    loading = [event for event in heard if isinstance(event, Loading)]
    assert (loading[0].phase, loading[-1].phase) == ("checking", "measuring")
    read = [event for event in loading if event.total_bytes]
    assert [event.done_bytes for event in read] == sorted(event.done_bytes for event in read)
    assert read[-1].done_bytes == read[-1].total_bytes


def test_closing_twice_is_fine(model: str) -> None:
    engine = Engine.load(model, SIMULATED)
    engine.close()
    engine.close()


def test_texts_of_the_tokens_are_the_text_of_all_of_them(model: str) -> None:
    with Engine.load(model, CPU) as engine:
        sampling = SamplingParams(max_tokens=60, temperature=2.0, seed=3, ignore_eos=True)
        tokens = [event for event in engine.generate("tell", sampling) if isinstance(event, Token)]
        assert "".join(token.text for token in tokens) == engine.tokenizer.decode([token.id for token in tokens])


def test_a_stop_string_ends_the_reply_and_is_left_out(model: str) -> None:
    with Engine.load(model, CPU) as engine:
        sampling = SamplingParams(max_tokens=60, temperature=2.0, seed=3, ignore_eos=True)
        text = "".join(event.text for event in engine.generate("tell", sampling) if isinstance(event, Token))
        stop = text[10:13]
        events = list(engine.generate("tell", replace(sampling, stop=(stop,))))
    assert finished(events).reason == "stop"
    assert "".join(event.text for event in events if isinstance(event, Token)) == text[: text.index(stop)]
