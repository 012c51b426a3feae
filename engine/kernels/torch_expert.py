"""One expert with torch operations: the portable path, and the reference for every faster one.

An expert is y = down(silu(gate(x)) * up(x)). Its weights are one contiguous run, gate | up | down, each in a format of
its own, so that one copy moves it whole. gpt-oss's have biases, which follow in the run, and another product
(`ClampedGate`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from engine.config import ExpertFormats
from engine.kernels.packed import PackedMatrix
from engine.quant.formats import FORMATS
from engine.traits import ClampedGate

# Above this many tokens a CPU without fp16 arithmetic is faster after widening the weights (measured: 28 GB/s at one
# token, 30 GFLOPS at 32 tokens, against 150 and more in fp32).
FP16_CPU_MAX_TOKENS = 2
# oneDNN, which multiplies bfloat16 on CPUs, keeps what it compiled for each number of rows: with 64 experts some 25 MB
# for every prompt. Rounded up to steps there are few numbers.
BF16_CPU_ROWS_STEP = 32


@dataclass(frozen=True, slots=True)
class ExpertBiases:
    """Views of one expert's biases, fp32, and what goes with them.

    Attributes:
        gate: [I].
        up: [I].
        down: [H].
        clamped: How gate and up are put together.
    """

    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor
    clamped: ClampedGate

    @classmethod
    def view(cls, flat: torch.Tensor, sizes: list[int], clamped: ClampedGate) -> ExpertBiases:
        """Cut bytes into biases without copying.

        Args:
            flat: uint8, where they begin.
            sizes: Numbers of each.
            clamped: What goes with them.
        """
        gate, up, down = flat[: 4 * sum(sizes)].view(torch.float32).split(sizes)
        return cls(gate, up, down, clamped)

    @property
    def parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """In the order of the run."""
        return self.gate, self.up, self.down


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """Views of one expert's contiguous run of weights.

    Attributes:
        flat: The whole run, uint8.
        gate: [I, H].
        up: [I, H].
        down: [H, I].
        biases: None where it has none.
        gate_up: Gate above up [2I, H] where both are floats of one type, side by side: one product instead of two.
    """

    flat: torch.Tensor
    gate: PackedMatrix
    up: PackedMatrix
    down: PackedMatrix
    biases: ExpertBiases | None = None
    gate_up: torch.Tensor | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Join gate and up where they lie side by side as floats."""
        gate = self.gate
        if gate.values is not None and gate.format == self.up.format and gate.values.nbytes == gate.data.nbytes:
            both = self.flat[: 2 * gate.data.nbytes].view(gate.values.dtype).view(2 * gate.rows, gate.columns)
            object.__setattr__(self, "gate_up", both)

    @classmethod
    def view(
        cls,
        flat: torch.Tensor,
        formats: ExpertFormats,
        hidden_size: int,
        intermediate_size: int,
        clamped: ClampedGate | None = None,
    ) -> ExpertWeights:
        """Cut a run into its parts without copying.

        Args:
            flat: uint8, at least as long as the expert; 64-byte aligned.
            formats: Of gate, up and down.
            hidden_size: H.
            intermediate_size: I.
            clamped: How an expert with biases computes; None for one without.
        """
        shapes = ((intermediate_size, hidden_size),) * 2 + ((hidden_size, intermediate_size),)
        parts: list[PackedMatrix] = []
        first = 0
        for name, (rows, columns) in zip(formats, shapes, strict=True):
            end = first + FORMATS[name].packed_bytes(rows, columns)
            parts.append(PackedMatrix(flat[first:end], FORMATS[name], rows, columns))
            first = end
        biases = None
        if clamped is not None:
            sizes = [rows for rows, _ in shapes]
            biases = ExpertBiases.view(flat[first:], sizes, clamped)
            first += FORMATS["F32"].packed_bytes(1, sum(sizes))
        gate, up, down = parts
        return cls(flat[:first], gate, up, down, biases)

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
    states = hidden.float() if widen else _in_steps(hidden)
    both = weights.gate_up
    if both is not None:
        gate, up = F.linear(states, both if both.dtype == states.dtype else both.to(states.dtype)).chunk(2, dim=-1)
    else:
        gate, up = weights.gate.linear(states), weights.up.linear(states)
    out = finish(weights.down.linear(activate(gate, up, weights)), weights)[: hidden.shape[0]]
    return out.half() if widen else out


def _in_steps(hidden: torch.Tensor) -> torch.Tensor:
    """The same states, with rows of zeros after them up to the next step where oneDNN multiplies many."""
    rows = hidden.shape[0]
    if rows <= BF16_CPU_ROWS_STEP or hidden.dtype != torch.bfloat16 or hidden.device.type != "cpu":
        return hidden
    return F.pad(hidden, (0, 0, 0, -rows % BF16_CPU_ROWS_STEP))


def activate(gate: torch.Tensor, up: torch.Tensor, weights: ExpertWeights) -> torch.Tensor:
    """What an expert's down gets.

    Args:
        gate: What its gate gave [s, I].
        up: What its up gave [s, I].
        weights: The expert.
    """
    biases = weights.biases
    if biases is None:
        return F.silu(gate) * up
    slope, limit = biases.clamped.slope, biases.clamped.limit
    gate = (gate + biases.gate.to(gate.dtype)).clamp(max=limit)
    up = (up + biases.up.to(up.dtype)).clamp(-limit, limit)
    return (up + 1) * (gate * torch.sigmoid(slope * gate))


def finish(out: torch.Tensor, weights: ExpertWeights) -> torch.Tensor:
    """What an expert says [s, H].

    Args:
        out: What its down gave [s, H].
        weights: The expert.
    """
    return out if weights.biases is None else out + weights.biases.down.to(out.dtype)


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
