"""Experts of plain fp32, small enough for any test."""

from __future__ import annotations

import torch

from engine.config import ExpertFormats
from engine.kernels.gpu_plans import LayerTable
from engine.kernels.torch_expert import ExpertWeights

HIDDEN, INTERMEDIATE = 8, 16
PLAIN: ExpertFormats = ("F32", "F32", "F32")


def an_expert(seed: int = 0) -> ExpertWeights:
    generator = torch.Generator().manual_seed(seed)
    return an_expert_in(torch.randn(3 * HIDDEN * INTERMEDIATE, generator=generator).view(torch.uint8))


def an_expert_in(run: torch.Tensor) -> ExpertWeights:
    """Some bytes as an expert of plain fp32."""
    return ExpertWeights.view(run, PLAIN, HIDDEN, INTERMEDIATE)


def a_table(*experts: ExpertWeights | None) -> LayerTable:
    """A layer where some experts are, and some are not."""
    addresses = [expert.flat.data_ptr() if expert else 0 for expert in experts]
    return LayerTable(torch.tensor(addresses), PLAIN, HIDDEN, INTERMEDIATE)
