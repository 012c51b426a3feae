"""What an expert costs: predict from a curve, fit a curve, assume one, correct it while running, keep it on disk.

Knows nothing about torch or about placement. `engine.experts.calibration` measures; this file turns its seconds into
curves of the roofline form `max(floor_s, units * per_unit_s) + overhead_s` (Fiddler section 3.3 takes the CPU as
linear and the GPU as constant; moving the weights puts a floor under both, so one form serves both sides).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config import SIMULATED_LAUNCH_S, EngineConfig, ModelConfig
from engine.experts.footprint import PlannedDevice, has_blocks, read_dense_bytes
from engine.experts.saved_file import read_saved, write_saved
from engine.hardware import HardwareProfile, MachineSpeed
from engine.messages import TORCH_KERNELS, CostCurve, CostModel

FORMAT_VERSION = 4
# Below this, waking a second thread costs more than it computes: one expert of the guide (336 KiB) takes 55 us on one
# thread and as long on two, and ten times as long on two when another program wants a core.
SMALL_EXPERT_BYTES = 1 << 20
CORRECTION_WEIGHT = 0.1
CORRECTION_LIMITS = (0.2, 5.0)

# What our kernels reach of what a machine does at its best (`MachineSpeed`): experts, the matrices around them, keys
# and values; as phases of decode showed with two shapes on two cores of a Zen 5.
EXPERTS_RAM_SHARE, DENSE_RAM_SHARE, CACHE_RAM_SHARE = 0.9, 0.85, 0.6
BLOCKS_INT8_SHARE, FLOATS_INT8_SHARE = 0.62, 0.15
ONE_THREAD_RAM_SHARE = 0.6  # of what all threads read together
OWN_CALL_S = 2e-6  # of an expert that runs in the decoder's call, or of a layer around them
COLUMN_S = 8e-9  # of the residual stream, in a layer: norms, rotation, waiting for each other
ASSUMED_TOKEN_S, ASSUMED_WORD_S = 3e-5, 1e-8  # between two tokens, and for each word of the vocabulary

# Textbook numbers, on the low side: a plan made from them promises less than the machine gives.
ASSUMED_RAM_BYTES_PER_S_PER_THREAD = 10e9
ASSUMED_RAM_BYTES_PER_S = 20e9
ASSUMED_CPU_FLOPS_PER_THREAD = 30e9
ASSUMED_CPU_CALL_S = 20e-6
ASSUMED_LINK_BYTES_PER_S = 12e9
ASSUMED_GPU_BYTES_PER_S = 300e9
ASSUMED_GPU_FLOPS = 10e12
ASSUMED_GPU_CALL_S = 20e-6
ASSUMED_COPY_CALL_S = 20e-6
# Block formats that torch unpacks before it multiplies, however few the tokens.
ASSUMED_CPU_UNPACKING_WEIGHTS_PER_S_PER_THREAD = 100e6
ASSUMED_GPU_UNPACKING_WEIGHTS_PER_S = 5e9

Floats = NDArray[np.float64]

_SMALLEST_SECONDS = 1e-9
_REWEIGHTINGS = 4
_OUTLIER_SCALES = 2.0


def predict(curve: CostCurve, units: float) -> float:
    """Seconds that a curve gives for some units of work: 0 for none, else max(floor, units * per unit) + overhead.

    A single unit takes what it was measured to take, where it was.

    Args:
        curve: The fitted or assumed curve.
        units: Tokens, experts or bytes, whatever the curve counts; at least 0.
    """
    if units <= 0:
        return 0.0
    if units == 1 and curve.one_s is not None:
        return curve.one_s
    work_s = units * curve.per_unit_s
    floor_s = curve.floor_s
    return (work_s if work_s > floor_s else floor_s) + curve.overhead_s


# ---- fitting --------------------------------------------------------------------------------------------------------


def fit_curve(units: Sequence[int], seconds: Sequence[float]) -> CostCurve:
    """The curve nearest to measurements, by relative error, with outliers weighted down.

    Every split of the sorted points into "on the floor" and "on the slope" is tried, each side solved by least
    relative squares; the split with the least sum of relative errors wins. Where no point lies on the slope, the
    steepest slope that the measurements allow is taken: the bend is put at the last one, so that nobody expects work
    beyond it for free.

    Args:
        units: Units of each measurement, at least 1; any order, repetitions welcome, not empty.
        seconds: What each took; finite, not negative. Zeros (a coarse clock) count as a nanosecond.

    Returns:
        A curve with all parameters >= 0 and the median relative error in `fit_error`.
    """
    assert len(units) == len(seconds) > 0, "one time for each size, and at least one"
    n = np.asarray(units, dtype=np.float64)
    y = np.asarray(seconds, dtype=np.float64)
    assert bool(np.all(np.isfinite(n)) and np.all(n >= 1)), f"units must be at least 1: {units!r}"
    assert bool(np.all(np.isfinite(y)) and np.all(y >= 0)), f"times must be finite and not negative: {seconds!r}"
    order = np.argsort(n, kind="stable")
    n, y = n[order], np.maximum(y[order], _SMALLEST_SECONDS)
    weights = np.ones_like(y)
    curve = _fit_weighted(n, y, weights)
    for _ in range(_REWEIGHTINGS):
        errors = _relative_errors(curve, n, y)
        scale = max(float(np.median(errors)) * _OUTLIER_SCALES, 1e-3)
        curve = _fit_weighted(n, y, np.minimum(1.0, scale / np.maximum(errors, 1e-12)))
    return replace(curve, fit_error=float(np.median(_relative_errors(curve, n, y))))


def _fit_weighted(n: Floats, y: Floats, weights: Floats) -> CostCurve:
    """The best split for given weights; ties go to the longer floor."""
    candidates = [_fit_split(n, y, weights, split) for split in range(len(n), -1, -1)]
    return min(candidates, key=lambda curve: float(np.sum(weights * _relative_errors(curve, n, y))))


def _fit_split(n: Floats, y: Floats, weights: Floats, split: int) -> CostCurve:
    """The curve whose first `split` points lie on the floor and the others on the slope."""
    flat_s = _relative_mean(y[:split], weights[:split]) if split else 0.0
    if split == len(n):
        return CostCurve(flat_s, flat_s / float(n[-1]), 0.0)
    per_unit_s, overhead_s = _fit_line(n[split:], y[split:], weights[split:])
    return CostCurve(max(0.0, flat_s - overhead_s), per_unit_s, overhead_s)


def _relative_mean(y: Floats, weights: Floats) -> float:
    """The constant with the least relative squares."""
    return float(np.sum(weights / y) / np.sum(weights / y**2))


def _fit_line(n: Floats, y: Floats, weights: Floats) -> tuple[float, float]:
    """Slope and intercept with the least relative squares, neither of them negative."""
    w = weights / y**2
    total, n_mean, y_mean = w.sum(), (w * n).sum() / w.sum(), (w * y).sum() / w.sum()
    spread = float((w * (n - n_mean) ** 2).sum() / total)
    slope = float((w * (n - n_mean) * (y - y_mean)).sum() / total) / spread if spread > 1e-12 else -1.0
    intercept = float(y_mean - slope * n_mean)
    if slope >= 0.0 and intercept >= 0.0:
        return slope, intercept
    if slope < 0.0 and spread > 1e-12:
        return 0.0, float(y_mean)
    return float((w * n * y).sum() / (w * n * n).sum()), 0.0


def _relative_errors(curve: CostCurve, n: Floats, y: Floats) -> Floats:
    """|predicted - measured| / measured of every point."""
    predicted = np.maximum(curve.floor_s, n * curve.per_unit_s) + curve.overhead_s
    errors: Floats = np.abs(predicted - y) / y
    return errors


# ---- cost models that nobody measured -------------------------------------------------------------------------------


def assumed_costs(
    model: ModelConfig,
    hardware: HardwareProfile,
    config: EngineConfig,
    kernels: str = TORCH_KERNELS,
    speed: MachineSpeed | None = None,
) -> CostModel:
    """Costs for a plan before the model was measured: from the machine's own speed, else careful textbook ones.

    Args:
        model: The model's shape.
        hardware: The machine; its cores, and whether it has a GPU.
        config: Which device is asked for, the threads, and the speeds of a simulated GPU (taken exactly).
        kernels: As in `PlanningInputs`.
        speed: What the CPU does with these kernels, where that is known.
    """
    threads = planned_threads(model, hardware, config)
    token_s = ASSUMED_TOKEN_S + ASSUMED_WORD_S * model.vocab_size
    alone = config.device == "cpu" or (config.device == "auto" and hardware.gpu is None)
    if speed is not None and kernels != TORCH_KERNELS:
        read = speed.read_bytes_per_s * (ONE_THREAD_RAM_SHARE if threads == 1 < speed.threads else 1.0)
        cpu_expert, dense_s = _costs_at(
            speed, read, model, kernels, threads, OWN_CALL_S if alone else ASSUMED_CPU_CALL_S
        )
        key_s = model.kv_bytes_per_token(config.kv_precision) / model.layers / (CACHE_RAM_SHARE * read)
    else:
        cpu_expert, dense_s = _textbook_costs(model, kernels, threads)
        key_s = 0.0
    if config.device == "simulated":
        return simulated_gpu_costs(model, config, cpu_expert)
    if config.device == "cpu" or hardware.gpu is None:
        return CostModel(cpu_expert, None, None, None, dense_s, attention_key_s=key_s, token_s=token_s)
    gpu_expert = _roofline(model, ASSUMED_GPU_BYTES_PER_S, ASSUMED_GPU_FLOPS, ASSUMED_GPU_CALL_S)
    return CostModel(
        cpu_expert=cpu_expert,
        gpu_expert=_with_unpacking(model, gpu_expert, ASSUMED_GPU_UNPACKING_WEIGHTS_PER_S),
        weight_copy=CostCurve(0.0, _mean_expert_bytes(model) / ASSUMED_LINK_BYTES_PER_S, ASSUMED_COPY_CALL_S),
        activation_copy=CostCurve(0.0, _activation_bytes(model) / ASSUMED_LINK_BYTES_PER_S, 2 * ASSUMED_COPY_CALL_S),
        dense_layer_s=dense_layer_bytes(model, "cuda") / ASSUMED_GPU_BYTES_PER_S + 10 * ASSUMED_GPU_CALL_S,
        token_s=token_s,
    )


def _costs_at(
    speed: MachineSpeed, read: float, model: ModelConfig, kernels: str, threads: int, call_s: float
) -> tuple[CostCurve, float]:
    """An expert on the CPU, and one layer around them, on a machine that reads so many bytes per second."""
    int8 = speed.int8_operations_per_s * threads / speed.threads
    share = BLOCKS_INT8_SHARE if has_blocks(model) else FLOATS_INT8_SHARE
    dense_s = (
        dense_layer_bytes(model, "cpu", kernels) / (DENSE_RAM_SHARE * read) + OWN_CALL_S + COLUMN_S * model.hidden_size
    )
    return _roofline(model, EXPERTS_RAM_SHARE * read, share * int8, call_s), dense_s


def _textbook_costs(model: ModelConfig, kernels: str, threads: int) -> tuple[CostCurve, float]:
    """The same on a slow machine."""
    ram_bytes_per_s = min(ASSUMED_RAM_BYTES_PER_S, threads * ASSUMED_RAM_BYTES_PER_S_PER_THREAD)
    cpu_expert = _roofline(model, ram_bytes_per_s, threads * ASSUMED_CPU_FLOPS_PER_THREAD, ASSUMED_CPU_CALL_S)
    if kernels == TORCH_KERNELS:
        cpu_expert = _with_unpacking(model, cpu_expert, threads * ASSUMED_CPU_UNPACKING_WEIGHTS_PER_S_PER_THREAD)
    return cpu_expert, dense_layer_bytes(model, "cpu", kernels) / ram_bytes_per_s + ASSUMED_CPU_CALL_S


def simulated_gpu_costs(
    model: ModelConfig, config: EngineConfig, cpu_expert: CostCurve, source: str = "assumed"
) -> CostModel:
    """The exact curves of the simulated GPU, beside a real CPU.

    Args:
        model: The model's shape.
        config: Its `simulated_*` fields are the GPU: an expert takes max(bytes / memory speed, operations / flops),
            a copy bytes / link speed, and each of them one launch.
        cpu_expert: The CPU's curve, measured or assumed.
        source: Where `cpu_expert` comes from.
    """
    link = config.simulated_link_bytes_per_s
    return CostModel(
        cpu_expert=cpu_expert,
        gpu_expert=_roofline(model, config.simulated_memory_bytes_per_s, config.simulated_flops, SIMULATED_LAUNCH_S),
        weight_copy=CostCurve(0.0, _mean_expert_bytes(model) / link, SIMULATED_LAUNCH_S),
        activation_copy=CostCurve(0.0, _activation_bytes(model) / link, 2 * SIMULATED_LAUNCH_S),
        dense_layer_s=dense_layer_bytes(model, "simulated") / config.simulated_memory_bytes_per_s,
        source=source,
    )


def _roofline(model: ModelConfig, bytes_per_s: float, flops: float, overhead_s: float) -> CostCurve:
    """One expert: its bytes are read once, every token multiplies and adds each weight once."""
    return CostCurve(_mean_expert_bytes(model) / bytes_per_s, 2 * model.expert_parameters / flops, overhead_s)


def _with_unpacking(model: ModelConfig, curve: CostCurve, weights_per_s: float) -> CostCurve:
    """An expert of a block format is unpacked first, at some weights per second."""
    if not has_blocks(model):
        return curve
    return replace(curve, overhead_s=curve.overhead_s + model.expert_parameters / weights_per_s)


def _mean_expert_bytes(model: ModelConfig) -> float:
    """Bytes of one expert; layers may differ in format."""
    return model.experts_bytes / model.total_experts


def _activation_bytes(model: ModelConfig) -> int:
    """Bytes of one token's hidden state, there and back."""
    return 2 * model.hidden_size * model.dtype_bytes


def dense_layer_bytes(model: ModelConfig, device: PlannedDevice, kernels: str = TORCH_KERNELS) -> float:
    """Bytes outside the experts that one decode layer reads, with its share of lm_head; the embedding is a look-up.

    Args:
        model: The model's shape.
        device: Where the dense part lives.
        kernels: As in `PlanningInputs`.
    """
    return read_dense_bytes(model, device, kernels) / model.layers


# ---- learning while running -----------------------------------------------------------------------------------------


def with_correction(model: CostModel, *, cpu_ratio: float | None = None, gpu_ratio: float | None = None) -> CostModel:
    """The model after one more observation of each side: an exponential mean of log(measured / predicted).

    Args:
        model: The costs that the prediction came from.
        cpu_ratio: Measured / predicted time of the CPU side, the prediction as the plan gave it (so with the correction
            so far: 1.0 leaves all as it is). None, or what is not finite and positive, is no observation.
        gpu_ratio: The same for the GPU side.

    Returns:
        A copy; both corrections stay within 0.2 to 5.
    """
    return replace(
        model,
        cpu_correction=_corrected(model.cpu_correction, cpu_ratio),
        gpu_correction=_corrected(model.gpu_correction, gpu_ratio),
    )


def with_tokens(
    model: CostModel, active: int, layers: int, measured_s: Sequence[float]
) -> tuple[CostModel, list[float]]:
    """The model after some tokens, one after the other, all of whose experts ran on the CPU: `with_correction` at once.

    Args:
        model: The costs before the first.
        active: Experts of a layer that a token visits.
        layers: Of each token.
        measured_s: What each token's experts took, of all layers.

    Returns:
        A copy, and the correction that each token would have been planned with.
    """
    expert_s, correction, before = active * predict(model.cpu_expert, 1), model.cpu_correction, []
    for seconds in measured_s:
        before.append(correction)
        predicted_s = layers * (model.cpu_call_s + expert_s * correction)
        correction = _corrected(correction, seconds / predicted_s if predicted_s > 0 else None)
    return replace(model, cpu_correction=correction), before


def _corrected(correction: float, ratio: float | None) -> float:
    """One step of the mean; a single observation counts as at most the limits, so a hiccup cannot turn the plan."""
    low, high = CORRECTION_LIMITS
    if ratio is None or not math.isfinite(ratio) or ratio <= 0.0:
        return correction
    ratio = min(high, max(low, ratio))
    return float(min(high, max(low, correction * ratio**CORRECTION_WEIGHT)))


# ---- kept on disk ---------------------------------------------------------------------------------------------------


def planned_threads(model: ModelConfig, hardware: HardwareProfile, config: EngineConfig) -> int:
    """CPU threads: the setting, or automatically one per physical core, and a single one for small experts."""
    if config.cpu_threads is not None:
        return config.cpu_threads
    return 1 if model.expert_bytes < SMALL_EXPERT_BYTES else hardware.physical_cores


def cost_key(hardware: HardwareProfile, model: ModelConfig, device: str, threads: int) -> str:
    """A readable name of all that a measurement depends on: machine, GPU, device, threads and the experts' shape."""
    gpu = hardware.gpu.name if hardware.gpu else "no GPU"
    machine = f"{hardware.cpu_name}, {hardware.physical_cores} cores, {gpu}"
    return f"v{FORMAT_VERSION} | {machine} | {device}, {threads} threads | {model.fingerprint}"


class CostCache:
    """Measured costs, one JSON file per key.

    Args:
        folder: Where they are kept; created by the first `put`.
    """

    def __init__(self, folder: Path) -> None:
        """See the class."""
        self._folder = folder

    def find(self, key: str) -> CostModel | None:
        """The costs kept under a key with source "cached"; None where there are none, or only a damaged file.

        Args:
            key: From `cost_key`.
        """
        saved = read_saved(self._path(key))
        if not isinstance(saved, dict) or saved.get("key") != key:
            return None
        try:
            return replace(_costs_from(saved["costs"]), source="cached")
        except (KeyError, TypeError, ValueError):
            return None

    def put(self, key: str, costs: CostModel) -> None:
        """Keep costs under a key, in place of earlier or damaged ones; a full disk is logged, not raised.

        Args:
            key: From `cost_key`.
            costs: What to keep.
        """
        write_saved(self._path(key), {"key": key, "costs": asdict(costs)})

    def _path(self, key: str) -> Path:
        """The file of a key."""
        return self._folder / f"costs-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def _costs_from(saved: object) -> CostModel:
    """A cost model from its JSON form; KeyError, TypeError or ValueError for anything else."""
    fields = _mapping(saved)
    low, high = CORRECTION_LIMITS
    return CostModel(
        cpu_expert=_curve_from(fields["cpu_expert"]),
        gpu_expert=_optional_curve_from(fields["gpu_expert"]),
        weight_copy=_optional_curve_from(fields["weight_copy"]),
        activation_copy=_optional_curve_from(fields["activation_copy"]),
        dense_layer_s=_number(fields["dense_layer_s"]),
        cpu_correction=min(high, max(low, _number(fields["cpu_correction"]))),
        gpu_correction=min(high, max(low, _number(fields["gpu_correction"]))),
        dense_tokens=_optional_curve_from(fields["dense_tokens"]),
        attention_pair_s=_number(fields["attention_pair_s"]),
        cpu_call_s=_number(fields["cpu_call_s"]),
        attention_key_s=_number(fields["attention_key_s"]),
        token_s=_number(fields["token_s"]),
    )


def _curve_from(saved: object) -> CostCurve:
    """A curve from its JSON form."""
    fields = _mapping(saved)
    curve = CostCurve(*(_number(fields[name]) for name in ("floor_s", "per_unit_s", "overhead_s", "fit_error")))
    return curve if fields["one_s"] is None else replace(curve, one_s=_number(fields["one_s"]))


def _optional_curve_from(saved: object) -> CostCurve | None:
    """A curve, or None for null."""
    return None if saved is None else _curve_from(saved)


def _mapping(saved: object) -> dict[str, object]:
    """A JSON object."""
    if not isinstance(saved, dict):
        raise TypeError(f"expected an object, found {saved!r}")
    return saved


def _number(saved: object) -> float:
    """A finite number that is not negative."""
    if isinstance(saved, bool) or not isinstance(saved, (int, float)):
        raise TypeError(f"expected a number, found {saved!r}")
    if not 0.0 <= saved < math.inf:
        raise ValueError(f"expected a finite number that is not negative, found {saved!r}")
    return float(saved)
