"""A cache of fewer bits, read by torch's attention and by every native one: near, the same for all, kept as usual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Engine, EngineConfig, SamplingParams
from engine.config import KvPrecision
from engine.kernels.cpu_library import available_isas
from engine.messages import Event, Finished, Token
from tests.checkpoints import write_mixtral, write_qwen3_moe
from tests.engine.model.test_decoder import some_tokens

# One scale for each head, and scales for 32; the fast ways of the native attention are for heads of 64 and 128.
SHAPES: dict[str, dict[str, Any]] = {
    "heads of 6": {"hidden": 48, "heads": 4, "kv_heads": 1, "head_dim": 6},
    "heads of 20": {"heads": 4, "kv_heads": 2, "head_dim": 20},
    "heads of 32": {"heads": 4, "kv_heads": 2, "head_dim": 32},
    "heads of 64": {"heads": 4, "kv_heads": 2, "head_dim": 64},
    "heads of 128, in a window": {"heads": 4, "kv_heads": 1, "head_dim": 128, "sliding_window": 7},
}
TOKENS = some_tokens(70)
CPU = EngineConfig(device="cpu", isa="torch", context_tokens=256, cpu_threads=1)
ISAS = ("torch", *available_isas())
GREEDY = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)

Logits = NDArray[np.float32]


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    # Every token takes every expert: no router is undecided, so what differs is the cache.
    shape = {"experts": 3, "experts_per_token": 3, **SHAPES[request.param]}
    return str(write_mixtral(tmp_path_factory.mktemp("kv") / "m", **shape))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_mixtral(tmp_path_factory.mktemp("kv") / "small"))


def logits_of(model: str, config: EngineConfig) -> Logits:
    with Engine.load(model, config) as engine:
        return engine.logits(TOKENS)


def mean_error(logits: Logits, expected: Logits) -> float:
    return float(np.abs(logits - expected).mean())


@pytest.mark.parametrize(("precision", "most", "apart"), [("f16", 0.001, 0.2), ("q8", 0.012, 0.1)])
def test_every_reader_means_the_same_by_a_cache(model: str, precision: KvPrecision, most: float, apart: float) -> None:
    """Token by token, few at a time and all at once: what rounding costs is far more than readers differ by."""
    exact = logits_of(model, CPU)
    torchs = logits_of(model, replace(CPU, kv_precision=precision))
    cost = mean_error(torchs, exact)
    assert 0 < cost < most * float(np.abs(exact).mean())
    for isa in ISAS:
        for chunk in (1, 3, 512):
            config = replace(CPU, isa=isa, kv_precision=precision, prefill_chunk_tokens=chunk)
            assert mean_error(logits_of(model, config), torchs) < apart * cost, (isa, chunk)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("write", [write_mixtral, write_qwen3_moe])
@pytest.mark.parametrize("isa", sorted({"torch", ISAS[-1]}))
def test_eight_bits_point_where_sixteen_do(tmp_path: Path, dtype: Any, write: Callable[..., Path], isa: Any) -> None:
    folder = str(write(tmp_path / "model", dtype=dtype, hidden=64, head_dim=32))
    sixteen = logits_of(folder, replace(CPU, isa=isa))
    eight = logits_of(folder, replace(CPU, isa=isa, kv_precision="q8"))
    lengths = np.linalg.norm(sixteen, axis=1) * np.linalg.norm(eight, axis=1)
    # A token whose router is nearly undecided may take another expert: the median token may not.
    assert float(np.median((sixteen * eight).sum(axis=1) / lengths)) > 0.999


@pytest.mark.parametrize("precision", ["auto", "q8"])
@pytest.mark.parametrize("isa", sorted({"torch", ISAS[-1]}))
def test_a_regenerated_or_edited_turn_computes_only_what_is_new(
    small: str, isa: Any, precision: KvPrecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CPU, isa=isa, kv_precision=precision, prefill_chunk_tokens=16)
    prompt, edited = TOKENS[:40], [*TOKENS[:25], 7, 8, 9]
    with Engine.load(small, config) as engine:
        decoder = type(engine._loaded.decoder)
        forward, computed = decoder.forward, []

        def counting(self: Any, tokens: list[int], check: Any) -> Any:
            computed.append(len(tokens))
            return forward(self, tokens, check)

        monkeypatch.setattr(decoder, "forward", counting)
        first = replies(engine, prompt)
        assert sum(computed) == len(prompt) + GREEDY.max_tokens - 1
        computed.clear()
        again = replies(engine, prompt)
        assert computed == [1] * GREEDY.max_tokens, "the last prompt token, and the reply"
        assert again == (first[0], len(prompt) - 1)
        computed.clear()
        other = replies(engine, edited)
        assert computed == [len(edited) - 25, *[1] * (GREEDY.max_tokens - 1)]
        assert other[1] == 25
    with Engine.load(small, config) as fresh:
        assert replies(fresh, edited)[0] == other[0]


def replies(engine: Engine, prompt: list[int]) -> tuple[list[int], int]:
    """The tokens of a reply, and how many of the prompt's were in the cache."""
    events: list[Event] = list(engine.generate(prompt, GREEDY))
    assert isinstance(events[-1], Finished)
    return [event.id for event in events if isinstance(event, Token)], events[-1].usage.cached_tokens


@pytest.mark.parametrize("device", ["cpu", "simulated"])
def test_the_precision_changes_live_and_gives_up_the_cached_sequence(small: str, device: Any) -> None:
    config = replace(CPU, device=device, isa="auto")
    eight = replace(config, kv_precision="q8")
    with Engine.load(small, eight) as fresh:
        expected = replies(fresh, TOKENS)
    with Engine.load(small, config) as engine:
        sixteen = replies(engine, TOKENS)
        before = engine._loaded.device.allocated["kv"]
        engine.reconfigure(eight)
        assert engine.ready.effective.kv_precision == engine.plan.kv_precision == "q8"
        assert engine._loaded.device.allocated["kv"] == 256 * engine.model.kv_bytes_per_token("q8") < before
        assert replies(engine, TOKENS) == expected
        engine.reconfigure(config)
        assert engine._loaded.device.allocated["kv"] == before
        assert replies(engine, TOKENS) == sixteen
