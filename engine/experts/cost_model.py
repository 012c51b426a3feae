"""What an expert costs: predict from a curve, fit a curve, correct it while running, keep it on disk.

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

from engine.config import EngineConfig, ModelConfig
from engine.experts.saved_file import read_saved, write_saved
from engine.hardware import HardwareProfile
from engine.messages import CostCurve, CostModel

FORMAT_VERSION = 6
# Below this, waking a second thread costs more than it computes: one expert of the guide (336 KiB) takes 55 us on one
# thread and as long on two, and ten times as long on two when another program wants a core.
SMALL_EXPERT_BYTES = 1 << 20
CORRECTION_WEIGHT = 0.1
CORRECTION_LIMITS = (0.2, 5.0)

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


def fit_curve(units: Sequence[int], seconds: Sequence[float], overhead_s: float | None = None) -> CostCurve:
    """The curve nearest to measurements, by relative error, with outliers weighted down.

    Every split of the sorted points into "on the floor" and "on the slope" is tried, each side solved by least
    relative squares; the split with the least sum of relative errors wins. Where no point lies on the slope, the
    steepest slope that the measurements allow is taken: the bend is put at the last one, so that nobody expects work
    beyond it for free.

    Args:
        units: Units of each measurement, at least 1; any order, repetitions welcome, not empty.
        seconds: What each took; finite, not negative. Zeros (a coarse clock) count as a nanosecond.
        overhead_s: Of all of them, where it was measured by itself.

    Returns:
        A curve with all parameters >= 0 and the median relative error in `fit_error`.
    """
    assert len(units) == len(seconds) > 0, "one time for each size, and at least one"
    n = np.asarray(units, dtype=np.float64)
    y = np.asarray(seconds, dtype=np.float64)
    assert bool(np.all(np.isfinite(n)) and np.all(n >= 1)), f"units must be at least 1: {units!r}"
    assert bool(np.all(np.isfinite(y)) and np.all(y >= 0)), f"times must be finite and not negative: {seconds!r}"
    order = np.argsort(n, kind="stable")
    known_s, free = overhead_s or 0.0, overhead_s is None
    n, y = n[order], np.maximum(y[order] - known_s, _SMALLEST_SECONDS)
    weights = np.ones_like(y)
    curve = _fit_weighted(n, y, weights, free=free)
    for _ in range(_REWEIGHTINGS):
        errors = _relative_errors(curve, n, y)
        scale = max(float(np.median(errors)) * _OUTLIER_SCALES, 1e-3)
        curve = _fit_weighted(n, y, np.minimum(1.0, scale / np.maximum(errors, 1e-12)), free=free)
    curve = replace(curve, overhead_s=curve.overhead_s + known_s)
    return replace(curve, fit_error=float(np.median(_relative_errors(curve, n, y + known_s))))


def _fit_weighted(n: Floats, y: Floats, weights: Floats, *, free: bool) -> CostCurve:
    """The best split for given weights, with an overhead or without; ties go to the longer floor."""
    candidates = [_fit_split(n, y, weights, split, free=free) for split in range(len(n), -1, -1)]
    return min(candidates, key=lambda curve: float(np.sum(weights * _relative_errors(curve, n, y))))


def _fit_split(n: Floats, y: Floats, weights: Floats, split: int, *, free: bool) -> CostCurve:
    """The curve whose first `split` points lie on the floor and the others on the slope."""
    flat_s = _relative_mean(y[:split], weights[:split]) if split else 0.0
    if split == len(n):
        return CostCurve(flat_s, flat_s / float(n[-1]), 0.0)
    per_unit_s, overhead_s = _fit_line(n[split:], y[split:], weights[split:], free=free)
    return CostCurve(max(0.0, flat_s - overhead_s), per_unit_s, overhead_s)


def _relative_mean(y: Floats, weights: Floats) -> float:
    """The constant with the least relative squares."""
    return float(np.sum(weights / y) / np.sum(weights / y**2))


def _fit_line(n: Floats, y: Floats, weights: Floats, *, free: bool) -> tuple[float, float]:
    """Slope and intercept, 0 unless it is free, with the least relative squares, neither of them negative."""
    w = weights / y**2
    if not free:
        return float((w * n * y).sum() / (w * n * n).sum()), 0.0
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
        copy_drag=min(1.0, _number(fields["copy_drag"])),
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
