"""The store: every expert in its place and format, aligned, in RAM or in a file that nobody finds afterwards."""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.config import EngineConfig
from engine.devices import SimulatedDevice
from engine.experts.store import ExpertStore
from tests.engine.shapes import TINY

DEVICE = SimulatedDevice(EngineConfig(), 1 << 30)
FORMATS_BY_LAYER = (("Q4_K", "Q4_K", "Q6_K"), ("Q8_0", "IQ4_NL", "F16"), ("BF16", "BF16", "BF16"))
MIXED = replace(TINY, hidden_size=256, intermediate_size=256, expert_formats=FORMATS_BY_LAYER)


def numbered(folder: Path | None = None) -> ExpertStore:
    """A store of mixed formats whose experts are filled with their own number."""
    store = ExpertStore(MIXED, DEVICE, folder)
    for layer in range(MIXED.layers):
        for expert in range(MIXED.experts):
            store.weights(layer, expert).flat.fill_(1 + layer * MIXED.experts + expert)
    return store


@pytest.fixture(params=["ram", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    store = numbered(tmp_path if request.param == "disk" else None)
    yield store
    store.close()


def test_experts_of_mixed_formats_lie_side_by_side(store: ExpertStore) -> None:
    assert store.nbytes == MIXED.experts_bytes
    for layer in range(MIXED.layers):
        run = store.layer(layer)
        assert run.shape == (MIXED.experts, MIXED.layer_expert_bytes(layer))
        assert run.data_ptr() % mmap.PAGESIZE == 0
        for expert in range(MIXED.experts):
            weights = store.weights(layer, expert)
            assert weights.flat.data_ptr() == run[expert].data_ptr()
            assert weights.flat.data_ptr() % 64 == 0
            assert bool((weights.flat == 1 + layer * MIXED.experts + expert).all())
            assert tuple(part.format.name for part in (weights.gate, weights.up, weights.down)) == MIXED.formats(layer)
            assert (weights.down.rows, weights.down.columns) == (MIXED.hidden_size, MIXED.intermediate_size)


def test_views_are_made_once(store: ExpertStore) -> None:
    assert store.weights(1, 2) is store.weights(1, 2)


def test_asking_ahead_changes_nothing(store: ExpertStore) -> None:
    store.expect(1, range(MIXED.experts))
    assert bool((store.weights(1, 3).flat == 1 + MIXED.experts + 3).all())


def test_new_memory_is_zero() -> None:
    assert not ExpertStore(TINY, DEVICE).layer(0).any()


ALL = np.ones((MIXED.layers, MIXED.experts), dtype=np.bool_)


def test_page_locked_only_where_it_helps() -> None:
    store = numbered()
    store.pin(ALL)
    assert not any(store.pageable)


class PinningDevice(SimulatedDevice):
    """A device that page-locks a few runs, and counts."""

    def __init__(self, most: int) -> None:
        super().__init__(EngineConfig(pinned_budget_bytes=0), 0)
        self.left, self.pinned = most, [(0, 0)][:0]

    def pin(self, tensor: torch.Tensor) -> bool:
        self.left -= 1
        if self.left >= 0:
            self.pinned.append((tensor.data_ptr(), tensor.nbytes))
        return self.left >= 0

    def unpin(self, tensor: torch.Tensor) -> None:
        self.pinned.remove((tensor.data_ptr(), tensor.nbytes))


def test_runs_are_page_locked_until_the_system_refuses_and_unlocked_at_the_end() -> None:
    device = PinningDevice(2)
    store = ExpertStore(MIXED, device)
    assert all(pageable == set(range(MIXED.experts)) for pageable in store.pageable)
    wanted = ALL.copy()
    wanted[0, 1] = False
    store.pin(wanted)
    first, rest = store.layer(0)[:1], store.layer(0)[2:]
    assert device.pinned == [(run.data_ptr(), run.nbytes) for run in (first, rest)]
    assert store.pageable[0] == {1}
    assert store.pageable[1] == set(range(MIXED.experts)), "the system refused"
    store.close()
    assert device.pinned == []


def test_a_file_is_never_page_locked(tmp_path: Path) -> None:
    store = ExpertStore(MIXED, PinningDevice(9), tmp_path)
    store.pin(ALL)
    assert all(pageable == set(range(MIXED.experts)) for pageable in store.pageable)
    store.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows shows an open file until it is closed")
def test_the_file_has_no_name_and_its_full_size(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "when missing"
    store = numbered(folder)
    assert store.on_disk
    assert list(folder.iterdir()) == []
    store.close()
    assert bool((store.weights(2, 0).flat == 1 + 2 * MIXED.experts).all()), "the memory stays until it is dropped"
