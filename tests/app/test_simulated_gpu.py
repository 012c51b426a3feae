from __future__ import annotations

import dataclasses

from app.simulated_gpu import MOST_BYTES, bytes_to_try
from engine.experts.placement import make_plan
from tests.app.fake_host import FakeHost


def test_without_a_model_it_is_as_large_as_it_may_be() -> None:
    assert bytes_to_try(None) == MOST_BYTES


def test_some_of_the_experts_fit_and_some_do_not() -> None:
    ready = FakeHost().ready
    size_bytes = bytes_to_try(ready)
    assert size_bytes <= MOST_BYTES
    config = dataclasses.replace(ready.effective, device="simulated", simulated_vram_bytes=size_bytes)
    plan = make_plan(ready.planning, config)
    assert 0 < plan.resident_experts < ready.model.total_experts
