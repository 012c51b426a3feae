"""Decode steps in fixed launches: what torch computes, whatever moves meanwhile, and nothing read before it is there.

The kernels are emulated; graphs run as late as the hand-off allows, and on a hold not before it is let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from engine.config import ModelConfig
from engine.devices import CudaDevice, device_faults
from engine.devices.gpu_experts import GpuExperts
from engine.devices.step_tools import StepTools, Work
from engine.errors import GpuLostError
from engine.experts.footprint import graph_bytes
from engine.kernels.cuda_driver import CudaDriverError
from engine.messages import CostCurve, CostModel
from engine.model.decoder import Decoder
from engine.model.gpu_steps import GpuSteps, why_no_steps
from engine.model.kv_cache import KVCache
from engine.model.step_trial import SmallModel
from engine.traits import DenseBlocks, Traits
from tests.engine.devices.fake_cuda import FakeCuda, install
from tests.engine.devices.steps import RecordingHandOff, Stream, step_tools
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher
from tests.engine.shapes import TINY

MODEL = replace(
    TINY, layers=2, hidden_size=32, intermediate_size=16, heads=4, kv_heads=2, head_dim=24, experts=4,
    experts_per_token=2, vocab_size=16, tie_word_embeddings=True,
)  # fmt: skip
TOKENS = (3, 9, 1, 12)
PACKED = tuple(DenseBlocks(name, 0, 0) for name in ("Q8_0", "Q4_1", "Q5_0"))
CLOSE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4}


class _StoppedError(Exception):
    pass


@dataclass
class Rig:
    """A small model whose steps our kernels run."""

    cuda: FakeCuda
    device: CudaDevice
    small: SmallModel
    tools: StepTools
    stream: Stream
    hand_off: RecordingHandOff

    @property
    def graphs(self) -> list[str]:
        """Those that were captured so far."""
        return self.stream.captured

    @property
    def decoder(self) -> Decoder:
        return self.small.decoder

    @property
    def steps(self) -> GpuSteps:
        assert self.decoder.steps is not None
        return self.decoder.steps

    def by_torch(self, tokens: Sequence[int]) -> torch.Tensor:
        """Hidden states of tokens one by one, from an empty cache; the cache is empty again then."""
        steps, self.decoder.steps = self.decoder.steps, None
        found = self.by_steps(tokens)
        self.decoder.steps = steps
        self.decoder.cache.tokens.clear()
        return found

    def by_steps(self, tokens: Sequence[int]) -> torch.Tensor:
        return torch.cat([self.decoder.forward_at_once([token]) for token in tokens])


@pytest.fixture(params=[True, False], ids=["ahead", "behind"])
def make(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, launcher: EmulatedLauncher
) -> Iterator[Callable[..., Rig]]:
    cuda, made = install(monkeypatch), []

    def make(model: ModelConfig = MODEL, **options: Any) -> Rig:
        device = CudaDevice(1 << 30)
        tools, stream, hand_off = step_tools(cuda, launcher, ahead=request.param, **options)
        device._experts = GpuExperts(tools.kernels)
        small = SmallModel(model, "auto", device)
        made.append(small)
        small.decoder.open_steps(tools)
        cuda.log.clear()
        return Rig(cuda, device, small, tools, stream, hand_off)

    yield make
    for small in made:
        small.close()
        assert small.decoder.cache.nbytes == 0


@pytest.mark.parametrize(
    ("dtype", "head_dim", "close"),
    [
        ("float32", 24, CLOSE),
        ("float16", 24, {"atol": 0.02, "rtol": 0.02}),
        ("bfloat16", 64, {"atol": 0.2, "rtol": 0.1}),
    ],
)
def test_steps_equal_torch(make: Callable[..., Rig], dtype: Any, head_dim: int, close: dict[str, Any]) -> None:
    rig = make(replace(MODEL, dtype=dtype, head_dim=head_dim, experts_per_token=4))
    expected = rig.by_torch(TOKENS[:3])
    torch.testing.assert_close(rig.by_steps(TOKENS[:3]), expected, **close)
    assert rig.steps.note == ""
    assert rig.decoder.cache.tokens == list(TOKENS[:3])


@pytest.mark.parametrize(
    "fields",
    [
        {"query_key_norm": True, "normalise_top_k": False},
        {"sliding_window": 2},
        {
            "hidden_size": 256,
            "intermediate_size": 256,
            "expert_formats": (("Q4_K", "Q6_K", "Q6_K"), ("F16", "F16", "Q4_0")),
        },
        {"intermediate_size": 32, "expert_formats": (("F32", "Q8_0", "Q8_0"), ("Q8_0", "Q8_0", "Q4_0"))},
        {"dense_blocks": PACKED, "embedding_format": "Q8_0", "tie_word_embeddings": False},
        {"dense_blocks": PACKED, "embedding_format": "Q4_0"},
        {"tie_word_embeddings": False},
        {"experts": 8, "experts_per_token": 4, "expert_parts": 2},
    ],
    ids=["qwen", "window", "mix", "no kernels for a layer", "packed", "packed, tied", "floats in RAM", "parts"],
)
def test_every_kind_of_layer(make: Callable[..., Rig], fields: dict[str, Any]) -> None:
    rig = make(replace(MODEL, **fields))
    expected = rig.by_torch(TOKENS[:2])
    torch.testing.assert_close(rig.by_steps(TOKENS[:2]), expected, atol=2e-3, rtol=2e-3)


def test_after_a_prompt_and_before_another_one(make: Callable[..., Rig]) -> None:
    """Passes of several tokens are torch's, over the same cache."""
    rig = make()
    expected = rig.by_torch(TOKENS)
    rig.decoder.forward_at_once(list(TOKENS[:2]))
    torch.testing.assert_close(rig.by_steps(TOKENS[2:4]), expected[2:4], **CLOSE)
    del rig.decoder.cache.tokens[3:]
    last = rig.decoder.forward_at_once(list(TOKENS[3:]))
    torch.testing.assert_close(last, expected[3:], **CLOSE)


def test_a_placement_that_changes_needs_no_new_graph(make: Callable[..., Rig]) -> None:
    rig = make()
    captured = len(rig.graphs)
    assert captured == 2 * MODEL.layers + 1
    expected = rig.by_torch(TOKENS[:1])
    for residents in ((), (0, 1, 2, 3), (1, 3), (2,)):
        rig.small.residency.place([residents] * MODEL.layers, staging=False)
        torch.testing.assert_close(rig.by_steps(TOKENS[:1]), expected, **CLOSE)
        rig.decoder.cache.tokens.clear()
    assert len(rig.graphs) == captured


@pytest.mark.parametrize("residents", [(), (1, 3), (0, 1, 2, 3)])
def test_residents_that_change_between_two_layers_are_counted_once(
    make: Callable[..., Rig], residents: tuple[int, ...]
) -> None:
    """The next layer's may run already when the engine makes way for other programs."""
    rig = make()
    expected = rig.by_torch(TOKENS[:1])
    step = rig.decoder.forward([TOKENS[0]], lambda: None)
    next(step)
    rig.stream.run()  # what was launched finds the table as it was
    rig.small.residency.place([residents] * MODEL.layers, staging=False)
    next(step)
    with pytest.raises(StopIteration) as finished:
        next(step)
    torch.testing.assert_close(finished.value.value, expected, **CLOSE)


def test_streamed_experts_join_the_same_sum(make: Callable[..., Rig]) -> None:
    rig = make()
    expected = rig.by_torch(TOKENS[:2])
    rig.small.residency.place([(0,)] * MODEL.layers, staging=True)
    rig.decoder._executor.policy = "gpu_stream"
    torch.testing.assert_close(rig.by_steps(TOKENS[:2]), expected, **CLOSE)
    assert rig.decoder._executor.counters.streamed > 0


def test_an_expert_may_be_shared_by_all_three(make: Callable[..., Rig]) -> None:
    """In one step parts of it are in VRAM, streamed, and computed by the CPU."""
    rig = make(replace(MODEL, experts=16, experts_per_token=8, expert_parts=4))
    expected = rig.by_torch(TOKENS[:1])
    rig.small.residency.place([range(0, 16, 4)] * MODEL.layers, staging=True)
    for pageable in rig.small._store.pageable:  # as if all were page-locked
        pageable.clear()
    dear, cheap = CostCurve(0.0, 3.0, 0.0), CostCurve(0.0, 0.0, 0.0)
    rig.decoder._executor.costs = CostModel(dear, cheap, CostCurve(0.0, 4.0, 0.0), cheap, 0.0)
    torch.testing.assert_close(rig.by_steps(TOKENS[:1]), expected, **CLOSE)
    for trace in rig.decoder._executor.traces:
        assert trace is not None
        places = [{run.place for run in trace.runs if run.expert // 4 == expert} for expert in range(4)]
        assert {"gpu", "stream", "cpu"} in places


def test_without_the_gpus_experts(make: Callable[..., Rig]) -> None:
    rig = make()
    expected = rig.by_torch(TOKENS[:2])
    rig.decoder._executor.policy = "cpu_only"
    rig.cuda.log.clear()
    torch.testing.assert_close(rig.by_steps(TOKENS[:2]), expected, **CLOSE)
    graphs = [entry for entry in rig.cuda.log if entry == ("put", "graph")]
    assert len(graphs) == 2 * MODEL.layers, "the dense segments but the last, and no residents"


# ---- order ----------------------------------------------------------------------------------------------------------


def test_one_hand_off_per_layer_and_nothing_else_waits(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.by_steps(TOKENS[:1])
    heard = [index for index, entry in enumerate(rig.cuda.log) if entry == ("heard",)]
    assert len(heard) == 1 + MODEL.layers, "one that nothing of another step is left, one for each layer"
    assert not any(entry[0] == "synchronize" for entry in rig.cuda.log)
    for index in heard:
        assert ("run", "signal") in rig.cuda.log[:index]


def test_the_hand_off_can_be_timed_between_two_steps(make: Callable[..., Rig]) -> None:
    rig = make()
    expected = rig.by_torch(TOKENS[:2])
    rig.by_steps(TOKENS[:1])
    rig.cuda.log.clear()
    seconds = rig.decoder.hand_off_seconds()
    assert seconds is not None
    assert seconds > 0.0
    assert [entry for entry in rig.cuda.log if entry == ("heard",)] == [("heard",)]
    rig.decoder.cache.tokens.clear()
    torch.testing.assert_close(rig.by_steps(TOKENS[:2]), expected, **CLOSE)


def test_what_needs_the_cpus_sum_does_not_run_before_it(
    make: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make()
    rig.small.residency.place([()] * MODEL.layers, staging=False)
    rig.cuda.log.clear()
    executor = rig.decoder._executor
    run = executor._cpu.run
    pending: list[int] = []

    def watched(*args: Any) -> torch.Tensor:
        rig.stream.run()  # as far as it gets by itself
        pending.append(len(rig.stream.queue))
        rig.cuda.log.append(("cpu",))
        return run(*args)

    monkeypatch.setattr(executor._cpu, "run", watched)
    expected = rig.by_torch(TOKENS[:1])
    pending.clear()
    torch.testing.assert_close(rig.by_steps(TOKENS[:1]), expected, **CLOSE)
    held = [2, 1] if rig.hand_off.ahead else [0, 0]  # the next layer's segment and signal; what ends the step
    assert pending == held


def test_a_step_that_is_stopped_leaves_nothing_behind(make: Callable[..., Rig]) -> None:
    rig = make()
    expected = rig.by_torch(TOKENS[:2])
    rig.by_steps(TOKENS[:1])
    for checks in range(6):
        asked = 0

        def stop(limit: int = checks) -> None:
            nonlocal asked
            asked += 1
            if asked > limit:
                raise _StoppedError

        with suppress(_StoppedError):
            list(rig.decoder.forward([TOKENS[3]], stop))
        del rig.decoder.cache.tokens[1:]
        assert not rig.stream.held
        if checks % 2:  # now and then two of them, one after the other
            torch.testing.assert_close(rig.by_steps(TOKENS[1:2]), expected[1:], **CLOSE)
            del rig.decoder.cache.tokens[1:]


def test_a_gpu_that_is_lost_is_our_error(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.hand_off.lost = True
    with pytest.raises(GpuLostError), device_faults():
        rig.by_steps(TOKENS[:1])
    assert rig.decoder.cache.tokens == []


def test_time_around_the_experts_is_that_of_the_steps(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.by_steps(TOKENS[:2])
    kept = rig.decoder.cache.keys[:, :, :2].clone()
    rig.cuda.log.clear()
    assert rig.decoder.dense_seconds(0) > 0.0
    assert rig.cuda.log.count(("run", "graph")) == MODEL.layers
    assert torch.equal(rig.decoder.cache.keys[:, :, :2], kept)
    torch.testing.assert_close(rig.by_steps(TOKENS[2:3]), rig_reference(rig), **CLOSE)


def rig_reference(rig: Rig) -> torch.Tensor:
    """The third token's states by torch."""
    rig.decoder.cache.tokens.clear()
    return rig.by_torch(TOKENS[:3])[2:]


# ---- where there are no graphs, or no steps -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: operation not permitted when stream is capturing\nMore."),
        CudaDriverError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "cuLaunchKernel: no."),
    ],
)
def test_without_graphs_the_same_is_launched_one_by_one(
    make: Callable[..., Rig], launcher: EmulatedLauncher, error: Exception
) -> None:
    def refused(_: object) -> Work:
        raise error

    rig = make(capture=refused)
    assert "there are no CUDA graphs" in rig.steps.note
    assert str(error).partition("\n")[0].rstrip(".") in rig.steps.note
    loaded = set(launcher.launched)
    expected = rig.by_torch(TOKENS[:2])
    rig.hand_off.ahead = False  # there is no stream that torch's operations could wait in
    torch.testing.assert_close(rig.by_steps(TOKENS[:2]), expected, **CLOSE)
    assert set(launcher.launched) == loaded, "what a hold meets has run before"


def test_graphs_that_take_more_than_was_planned_are_not_kept(make: Callable[..., Rig]) -> None:
    free = iter((graph_bytes(MODEL) + 1, 0))
    rig = make(free_bytes=lambda: next(free))
    assert f"{graph_bytes(MODEL) + 1:,} bytes of {graph_bytes(MODEL):,}" in rig.steps.note


def test_a_cache_in_8_bits_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    device = CudaDevice(1 << 30)
    with closing(KVCache(MODEL, device, 8, "q8")) as cache:
        assert "KV cache in Q8_0" in why_no_steps(MODEL, cache)
    with closing(KVCache(MODEL, device, 8, "auto")) as cache:
        assert why_no_steps(MODEL, cache) == ""
        assert "shape" in why_no_steps(replace(MODEL, experts=1024), cache)
        granite = replace(MODEL, family="granitemoe", traits=Traits(residual_scale=0.22))
        assert "what Granite-MoE adds" in why_no_steps(granite, cache)
        assert "shape" in why_no_steps(replace(MODEL, head_dim=12), cache)
