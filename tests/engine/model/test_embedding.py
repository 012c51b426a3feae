"""Rows of an embedding are its own, wherever it is and whatever it holds; for steps, by launches that never change."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from engine.devices.gpu_products import GpuProducts
from engine.kernels.gpu_kernels import GpuKernels
from engine.kernels.gpu_self_test import random_weights
from engine.kernels.packed import PackedMatrix
from engine.model import embedding as module
from engine.model.embedding import Embedding, LookedUp, embed, plan_token_row
from engine.quant.formats import FORMATS
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher

ROWS, COLUMNS = 70, 256
TOKENS = [69, 0, 15, 16, 0, 31, 40]
CPU = torch.device("cpu")
BLOCKS = ("Q4_K", "Q8_0")
KINDS = [None, "BF16", *BLOCKS]


def an_embedding(name: str | None, launcher: EmulatedLauncher, *, in_ram: bool, dtype: torch.dtype) -> Embedding:
    """In some format; None for a tensor on the device."""
    if name is None:
        return torch.randn(ROWS, COLUMNS).to(dtype)
    stored = FORMATS[name]
    matrix = PackedMatrix(random_weights(stored, ROWS, COLUMNS, np.random.default_rng(3)), stored, ROWS, COLUMNS)
    return LookedUp(matrix, GpuProducts(GpuKernels(launcher)), CPU, dtype, in_ram)


def table(embedding: Embedding, dtype: torch.dtype) -> torch.Tensor:
    return embedding if isinstance(embedding, torch.Tensor) else embedding.matrix.dense(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_rows_are_its_own(
    launcher: EmulatedLauncher, monkeypatch: pytest.MonkeyPatch, name: str | None, dtype: torch.dtype
) -> None:
    embedding = an_embedding(name, launcher, in_ram=True, dtype=dtype)
    expected = table(embedding, dtype)[TOKENS]
    assert torch.equal(embed(embedding, TOKENS), expected)
    monkeypatch.setattr(module, "LOOKED_UP_STRIPS", 2)
    assert torch.equal(embed(embedding, TOKENS), expected)


@pytest.mark.parametrize("in_ram", [True, False])
@pytest.mark.parametrize("name", KINDS[:1] + KINDS[2:])
def test_launches_made_once_find_every_token(launcher: EmulatedLauncher, name: str | None, in_ram: bool) -> None:
    dtype = torch.bfloat16
    embedding = an_embedding(name, launcher, in_ram=in_ram, dtype=dtype)
    _check_steps(embedding, launcher, dtype)


def test_launches_made_once_find_every_row_of_floats_in_ram(launcher: EmulatedLauncher) -> None:
    _check_steps(an_embedding("BF16", launcher, in_ram=True, dtype=torch.float16), launcher, torch.float16)


def _check_steps(embedding: Embedding, launcher: EmulatedLauncher, dtype: torch.dtype) -> None:
    place_host, place = torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    out, kernels = torch.empty(1, COLUMNS, dtype=dtype), GpuKernels(launcher)
    row = plan_token_row(
        embedding,
        place_host,
        place,
        out,
        partial(torch.zeros, dtype=torch.uint8),
        lambda it: partial(kernels.launch, it),
    )
    for token in TOKENS:
        row.find(token)
        place.copy_(place_host)
        for work in row.works:
            work()
        assert torch.equal(out[0], table(embedding, dtype)[token])


def test_what_it_takes_of_ram(launcher: EmulatedLauncher) -> None:
    held = an_embedding("Q4_K", launcher, in_ram=True, dtype=torch.float16)
    assert isinstance(held, LookedUp)
    assert held.host_bytes == FORMATS["Q4_K"].packed_bytes(ROWS, COLUMNS)
    on_gpu = an_embedding("Q4_K", launcher, in_ram=False, dtype=torch.float16)
    assert isinstance(on_gpu, LookedUp)
    assert on_gpu.host_bytes == 0
