"""One expert with torch operations: the portable path, and the reference for every faster one.

An expert is y = down(silu(gate(x)) * up(x)). Its weights are one contiguous run, gate | up | down, each in a format of
its own, so that one copy moves it whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from engine.config import ExpertFormats
from engine.kernels.packed import PackedMatrix
from engine.quant.formats import FORMATS

# Above this many tokens a CPU without fp16 arithmetic is faster after widening the weights (measured: 28 GB/s at one
# token, 30 GFLOPS at 32 tokens, against 150 and more in fp32).
FP16_CPU_MAX_TOKENS = 2


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """Views of one expert's contiguous run of weights.

    Attributes:
        flat: The whole run, uint8.
        gate: [I, H].
        up: [I, H].
        down: [H, I].
        gate_up: Gate above up [2I, H] where both are floats of one type, side by side: one product instead of two.
    """

    flat: torch.Tensor
    gate: PackedMatrix
    up: PackedMatrix
    down: PackedMatrix
    gate_up: torch.Tensor | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Join gate and up where they lie side by side as floats."""
        gate = self.gate
        if gate.values is not None and gate.format == self.up.format and gate.values.nbytes == gate.data.nbytes:
            both = self.flat[: 2 * gate.data.nbytes].view(gate.values.dtype).view(2 * gate.rows, gate.columns)
            object.__setattr__(self, "gate_up", both)

    @classmethod
    def view(
        cls, flat: torch.Tensor, formats: ExpertFormats, hidden_size: int, intermediate_size: int
    ) -> ExpertWeights:
        """Cut a run into its parts without copying.

        Args:
            flat: uint8, at least as long as the expert; 64-byte aligned.
            formats: Of gate, up and down.
            hidden_size: H.
            intermediate_size: I.
        """
        shapes = ((intermediate_size, hidden_size),) * 2 + ((hidden_size, intermediate_size),)
        parts: list[PackedMatrix] = []
        first = 0
        for name, (rows, columns) in zip(formats, shapes, strict=True):
            end = first + FORMATS[name].packed_bytes(rows, columns)
            parts.append(PackedMatrix(flat[first:end], FORMATS[name], rows, columns))
            first = end
        return cls(flat[:first], *parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the run."""
        return self.flat.nbytes

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return 3 * self.gate.rows * self.gate.columns


def expert_forward(hidden: torch.Tensor, weights: ExpertWeights) -> torch.Tensor:
    """Run one expert.

    Args:
        hidden: Normed hidden states [s, H], on the weights' device.
        weights: The expert.

    Returns:
        [s, H] in the type of `hidden`.
    """
    widen = hidden.dtype == torch.float16 and hidden.device.type == "cpu" and hidden.shape[0] > FP16_CPU_MAX_TOKENS
    states = hidden.float() if widen else hidden
    both = weights.gate_up
    if both is not None:
        gate, up = F.linear(states, both if both.dtype == states.dtype else both.to(states.dtype)).chunk(2, dim=-1)
    else:
        gate, up = weights.gate.linear(states), weights.up.linear(states)
    out = weights.down.linear(F.silu(gate) * up)
    return out.half() if widen else out


def add_expert(
    out: torch.Tensor, hidden: torch.Tensor, rows: torch.Tensor, scales: torch.Tensor, weights: ExpertWeights
) -> None:
    """Run one expert on its tokens and add what it says to theirs.

    Args:
        out: The layer's sum so far [T, H], changed in place.
        hidden: Normed hidden states of all tokens [T, H].
        rows: Tokens of this expert [s], each once.
        scales: Router weight of each [s, 1].
        weights: The expert.
    """
    out.index_add_(0, rows, (expert_forward(hidden[rows], weights) * scales).to(out.dtype))
