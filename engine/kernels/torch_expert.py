"""One expert with torch operations: the portable path, and the reference for every faster one.

An expert is y = down(silu(gate(x)) * up(x)). Its weights are one contiguous run, gate | up | down, so that one copy
moves it whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

# Above this many tokens a CPU without fp16 arithmetic is faster after widening the weights (measured: 28 GB/s at one
# token, 30 GFLOPS at 32 tokens, against 150 and more in fp32).
FP16_CPU_MAX_TOKENS = 2


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """Views of one expert's contiguous run of weights.

    Attributes:
        flat: The whole run [3 * I * H].
        gate_up: Gate above up [2I, H].
        down: Down [H, I].
    """

    flat: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor

    @classmethod
    def view(cls, flat: torch.Tensor, hidden_size: int, intermediate_size: int) -> ExpertWeights:
        """Cut a run into its parts without copying."""
        split = 2 * intermediate_size * hidden_size
        gate_up = flat[:split].view(2 * intermediate_size, hidden_size)
        return cls(flat, gate_up, flat[split:].view(hidden_size, intermediate_size))

    @property
    def nbytes(self) -> int:
        """Bytes of the run."""
        return self.flat.nbytes

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self.flat.numel()


def expert_forward(hidden: torch.Tensor, weights: ExpertWeights) -> torch.Tensor:
    """Run one expert.

    Args:
        hidden: Normed hidden states [s, H], on the weights' device.
        weights: The expert.

    Returns:
        [s, H] in the type of `hidden`.
    """
    gate_up_weight, down_weight = weights.gate_up, weights.down
    widen = hidden.dtype == torch.float16 and hidden.device.type == "cpu" and hidden.shape[0] > FP16_CPU_MAX_TOKENS
    if widen:
        hidden, gate_up_weight, down_weight = hidden.float(), gate_up_weight.float(), down_weight.float()
    gate, up = F.linear(hidden, gate_up_weight).chunk(2, dim=-1)
    out = F.linear(F.silu(gate) * up, down_weight)
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
