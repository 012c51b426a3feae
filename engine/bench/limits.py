"""How fast the machine lets a model be, whoever runs it: what a token reads and computes, against what was measured.

Decode reads every active weight once per token, so memory is its limit. Prefill reads each weight that any of its
tokens needs once per batch and computes with it for each: whichever takes longer is its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from engine.kernels.cpu_library import CpuPool, available_isas

MEMORY_BYTES = 1 << 30  # far more than any cache
ROUNDS = 3
ROUND_S = 0.1


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """What the CPU and its memory do at most, measured.

    Attributes:
        read_bytes_per_s: Reading memory, all threads together.
        int8_operations_per_s: Multiplying and adding 8-bit integers; a multiplication and its addition are two.
    """

    read_bytes_per_s: float
    int8_operations_per_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """What a file's tokens cost.

    Attributes:
        dense_bytes: Weights that every token reads; the embedding, of which it reads a row, left out.
        expert_bytes: All experts of all layers.
        dense_operations: Operations of a prompt's token outside the experts; the logits, of the last alone, left out.
        expert_operations: Operations of a token if it visited every expert.
        active_share: Share of the experts that a token visits.
    """

    dense_bytes: int
    expert_bytes: int
    dense_operations: int
    expert_operations: int
    active_share: float

    def decode_limit(self, limits: MachineLimits) -> float:
        """Most tokens/s when they come one by one."""
        return limits.read_bytes_per_s / (self.dense_bytes + self.active_share * self.expert_bytes)

    def prefill_limit(self, limits: MachineLimits, tokens: int) -> float:
        """Most tokens/s of a prompt."""
        touched = 1 - (1 - self.active_share) ** tokens
        read_s = (self.dense_bytes + touched * self.expert_bytes) / limits.read_bytes_per_s
        operations = self.dense_operations + self.active_share * self.expert_operations
        return tokens / max(read_s, tokens * operations / limits.int8_operations_per_s)


class LimitMeter:
    """Measures what this machine does at its best, as often as asked: a shared one changes from minute to minute.

    Args:
        threads: CPU threads.
    """

    def __init__(self, threads: int) -> None:
        """See the class."""
        from engine.experts.arena import Arena

        self._arena = Arena(MEMORY_BYTES)
        self._arena.data.fill_(1)
        self._pool = CpuPool(available_isas()[-1], threads)

    def measure(self) -> MachineLimits:
        """The best of some rounds, in about half a second."""
        reads = [self._pool.measure_bandwidth(self._arena.data.data_ptr(), MEMORY_BYTES) for _ in range(ROUNDS)]
        rates = [self._pool.measure_int8(ROUND_S) for _ in range(ROUNDS)]
        return MachineLimits(max(reads), max(rates))

    def close(self) -> None:
        """Give the memory and the threads back."""
        self._pool.close()
        self._arena.close()

    def __enter__(self) -> Self:
        """For `with`."""
        return self

    def __exit__(self, *exception: object) -> None:
        """See `close`."""
        self.close()


def open_meter(threads: int) -> LimitMeter | None:
    """A meter for so many threads; None where our native library is missing."""
    return LimitMeter(threads) if available_isas() else None


def measure_limits(threads: int) -> MachineLimits | None:
    """Measure what this machine does at its best, once.

    Args:
        threads: CPU threads.

    Returns:
        The limits, None where our native library is missing.
    """
    meter = open_meter(threads)
    if meter is None:
        return None
    with meter:
        return meter.measure()


def work_of(path: Path, active_share: float) -> Work:
    """What the tokens of a GGUF file cost, from the sizes of its tensors.

    Args:
        path: The file.
        active_share: Share of the experts that a token visits.
    """
    import gguf

    dense_bytes = expert_bytes = dense_operations = expert_operations = 0
    for tensor in gguf.GGUFReader(path).tensors:
        operations = 2 * int(tensor.n_elements) if len(tensor.shape) > 1 else 0
        if "_exps." in tensor.name:
            expert_bytes += int(tensor.n_bytes)
            expert_operations += operations
        elif tensor.name != "token_embd.weight":
            dense_bytes += int(tensor.n_bytes)
            dense_operations += operations if tensor.name != "output.weight" else 0
    return Work(dense_bytes, expert_bytes, dense_operations, expert_operations, active_share)
