"""What a decode layer costs on a GPU with almost nothing to compute, for each way to launch and each way to hand over.

That is launches and the hand-off, and the least time that its kernels take one after the other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.config import ModelConfig
from engine.devices import CudaDevice, Device
from engine.devices.hand_off import HandOff, a_launch, hand_offs, working
from engine.devices.step_tools import StepTools, in_order
from engine.kernels.cuda_driver import CudaDriver, CudaDriverError
from engine.model.decoder import Decoder
from engine.model.step_trial import SmallModel, open_steps

GOAL_LAYER_S = 25e-6  # of launches and the hand-off
SHAPE = ModelConfig(
    name="overhead", family="mixtral", hidden_size=256, intermediate_size=256, layers=8, heads=4, kv_heads=2,
    head_dim=64, experts=8, experts_per_token=2, vocab_size=16, max_position_embeddings=64, dtype="bfloat16",
    tie_word_embeddings=True,
)  # fmt: skip

_BUDGET_BYTES = 256 << 20
_PASSES, _WARM_PASSES = 200, 5


def gpu_overheads(cache_folder: Path) -> dict[str, Any]:
    """Measure them on torch's first GPU.

    Args:
        cache_folder: Where compiled kernels are kept.

    Returns:
        As `overheads`; "absent" with the reason where our kernels do not run decode steps.
    """
    with closing(CudaDevice(_BUDGET_BYTES)) as device:
        device.prepare(SHAPE, str(cache_folder))
        tools = device.step_tools
        if tools is None:
            return {"absent": device.limitation}
        with closing(SmallModel(SHAPE, "auto", device)) as made:
            reason = open_steps(SHAPE, made.decoder, device)
            if made.decoder.steps is None:
                return {"absent": reason}
        try:
            openers = hand_offs(CudaDriver(device.torch_device.index or 0), tools.pinned)
            ways: Iterable[HandOff] = working(openers, a_launch(device.torch_device))
        except CudaDriverError:
            ways = [tools.hand_off]
        return {"chosen": tools.hand_off.name, **overheads(device, tools, ways)}


def overheads(device: Device, tools: StepTools, ways: Iterable[HandOff], passes: int = _PASSES) -> dict[str, Any]:
    """Median seconds of a layer, by mode.

    Args:
        device: With our kernels.
        tools: Its own.
        ways: To hand over.
        passes: Timed, of each mode.

    Returns:
        By mode, e.g. "graphs, flags": `hand_off_layer_s`, the dense part with its hand-off, and `step_layer_s`, the
        whole step with its plan and residents. `torch_layer_s` is that step by torch.
    """
    found: dict[str, Any] = {}
    with closing(SmallModel(SHAPE, "auto", device)) as made:
        made.residency.place([range(SHAPE.experts)] * SHAPE.layers, staging=False)
        found["torch_layer_s"] = _layer_s(lambda: _step(made.decoder), passes)
        for way in ways:
            for name, capture in (("graphs", tools.capture), ("eager", in_order)):
                made.decoder.open_steps(replace(tools, hand_off=way, capture=capture))
                assert made.decoder.steps is not None
                found[f"{name}, {way.name}"] = {
                    "hand_off_layer_s": _layer_s(made.decoder.steps.dense_pass, passes),
                    "step_layer_s": _layer_s(lambda: _step(made.decoder), passes),
                    "note": made.decoder.steps.note,
                }
    return found


def _step(decoder: Decoder) -> None:
    """One token, which is forgotten again; the host waits for its end."""
    decoder.forward_at_once([1]).sum().item()
    decoder.cache.tokens.clear()


def _layer_s(work: Callable[[], object], passes: int) -> float:
    """Median seconds of a layer of some work."""
    for _ in range(_WARM_PASSES):
        work()
    samples = []
    for _ in range(passes):
        started_s = time.perf_counter()
        work()
        samples.append((time.perf_counter() - started_s) / SHAPE.layers)
    return statistics.median(samples)
