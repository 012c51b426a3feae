"""The machine's limits are plain arithmetic on the file's own tensors."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.bench import limits
from engine.bench.limits import MachineLimits, Work, measure_limits, work_of
from engine.bench.models import model_file, tensors
from engine.kernels.cpu_library import available_isas
from tests.engine.bench.tiny import MIXTRAL

WORK = Work(dense_bytes=100, expert_bytes=800, dense_operations=400, expert_operations=3200, active_share=0.25)


def test_decode_reads_the_dense_part_and_the_active_experts() -> None:
    assert WORK.decode_limit(MachineLimits(3000.0, 1.0)) == 3000 / (100 + 200)


def test_long_prompts_are_limited_by_arithmetic() -> None:
    assert WORK.prefill_limit(MachineLimits(1e9, 6000.0), 512) == pytest.approx(6000 / (400 + 800))


def test_short_prompts_are_limited_by_reading_what_they_touch() -> None:
    slow = MachineLimits(1000.0, 1e9)
    assert WORK.prefill_limit(slow, 1) == pytest.approx(WORK.decode_limit(slow))
    touched = 1 - 0.75**4
    assert WORK.prefill_limit(slow, 4) == pytest.approx(4 / ((100 + 800 * touched) / 1000))


def test_work_is_counted_from_the_file(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    work = work_of(model_file(tmp_path, MIXTRAL, "Q4_0"), 0.25)
    sizes = {tensor.name: tensor.size_bytes for tensor in tensors(MIXTRAL, "Q4_0")}
    experts = sum(size for name, size in sizes.items() if "_exps" in name)
    assert work.expert_bytes == experts == 2 * 8 * 3 * 256 * 512 * 18 // 32
    assert work.dense_bytes == sum(sizes.values()) - experts - sizes["token_embd.weight"]
    assert work.expert_operations == 2 * 2 * 8 * 3 * 256 * 512
    attention, router = 256 * (256 + 2 * 128) + 256 * 256, 8 * 256
    assert work.dense_operations == 2 * 2 * (attention + router)


def test_the_machine_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    if not available_isas():
        pytest.skip("the native library is not built")
    monkeypatch.setattr(limits, "MEMORY_BYTES", 1 << 24)
    monkeypatch.setattr(limits, "ROUND_S", 0.01)
    measured = measure_limits(1)
    assert measured is not None
    assert measured.read_bytes_per_s > 1e8
    assert measured.int8_operations_per_s > 1e8


def test_without_the_library_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "available_isas", tuple)
    assert measure_limits(1) is None
