"""How fast the machine lets a model be, whoever runs it: what a token reads and computes, against what was measured.

Decode reads every active weight once per token, so memory is its limit. Prefill reads each weight that any of its
tokens needs once per batch and computes with it for each: whichever takes longer is its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.kernels.cpu_library import CpuPool, available_isas

MEMORY_BYTES = 1 << 30  # far more than any cache
ROUNDS = 3
ROUND_S = 0.3


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


def measure_limits(threads: int) -> MachineLimits | None:
    """Measure what this machine does at its best, in a few seconds.

    Args:
        threads: CPU threads.

    Returns:
        The limits, None where our native library is missing.
    """
    isas = available_isas()
    if not isas:
        return None
    from engine.experts.arena import Arena

    arena = Arena(MEMORY_BYTES)
    arena.data.fill_(1)
    with CpuPool(isas[-1], threads) as pool:
        reads = [pool.measure_bandwidth(arena.data.data_ptr(), MEMORY_BYTES) for _ in range(ROUNDS)]
        rates = [pool.measure_int8(ROUND_S) for _ in range(ROUNDS)]
    arena.close()
    return MachineLimits(max(reads), max(rates))


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
