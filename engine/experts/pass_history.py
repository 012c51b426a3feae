"""What every token's pass did, taken down as it happens and packed in batches: the memory behind the panel's scrubber.

Both decoders write here. A pass begins with layer 0; one that is begun anew, or that no token comes from (all of a
prompt but its last), is forgotten. Costs a microsecond or two a token, and keeps at most `MOST_WAITING` records.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.messages import CostModel, ExpertRun, PassRecord

MOST_WAITING = 4096

_PLACES = {"gpu": 0, "stream": 1, "cpu": 2}

Residents = Sequence[set[int]]


class _Pass:
    """A pass that ran, or still runs."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.runs, self.experts, self.counts = array("H"), array("H"), array("H")
        self.places = bytearray()
        self.cpu_s, self.gpu_s, self.corrections = array("f"), array("f"), array("f")


class TokenOnCpu:
    """A pass of one token, all of it on the CPU, as the native decoder tells it.

    Args:
        experts: Chosen experts [L, A]; not changed afterwards.
        seconds: Time of each layer's experts [L]; not changed afterwards.

    Attributes:
        correction: The costs' correction that it would have been planned with; known before its record is taken.
    """

    __slots__ = ("correction", "experts", "seconds")

    def __init__(self, experts: NDArray[np.int32], seconds: NDArray[np.float32]) -> None:
        """See the class."""
        self.experts, self.seconds, self.correction = experts, seconds, 1.0


class PassHistory:
    """The passes of one reply that nobody has taken yet.

    Args:
        layers: Layers of the model.
        experts: Experts of a layer.
    """

    def __init__(self, layers: int, experts: int) -> None:
        """See the class."""
        self._layers, self._experts = layers, experts
        self.reset()

    def reset(self) -> None:
        """Begin a new reply."""
        self._latest: _Pass | TokenOnCpu | None = None
        self._waiting: deque[Callable[[], PassRecord]] = deque(maxlen=MOST_WAITING)
        self._count = 0
        self._told_change = -1

    # ---- what ran -----------------------------------------------------------------------------------------------

    def token_on_cpu(self, ran: TokenOnCpu) -> None:
        """All layers of a token on the CPU.

        Args:
            ran: The pass.
        """
        self._latest = ran

    def layer_ran(self, layer: int, tokens: int, runs: Sequence[ExpertRun], cpu_s: float, costs: CostModel) -> None:
        """One layer, in the order of layers; what its GPU side took may follow.

        Args:
            layer: Its index; a pass begins with 0.
            tokens: Tokens of the pass.
            runs: Its active experts.
            cpu_s: Measured time of the CPU side.
            costs: What it was planned with.
        """
        latest = self._latest
        if layer == 0 or not isinstance(latest, _Pass):
            self._latest = latest = _Pass(tokens)
        latest.runs.append(len(runs))
        latest.experts.extend([run.expert for run in runs])
        latest.places.extend([_PLACES[run.place] for run in runs])
        if tokens > 1:
            latest.counts.extend([run.tokens for run in runs])
        latest.cpu_s.append(cpu_s)
        latest.gpu_s.append(math.nan)
        latest.corrections.extend((costs.cpu_correction, costs.gpu_correction))

    def gpu_took(self, layer: int, gpu_s: float) -> None:
        """What the GPU side of a layer took, the latest time that it ran."""
        if isinstance(self._latest, _Pass) and layer < len(self._latest.gpu_s):
            self._latest.gpu_s[layer] = gpu_s

    # ---- what came of it ----------------------------------------------------------------------------------------

    def token(self, token: int, text: str, seconds: float, residents: Residents, change: int) -> None:
        """A token of the reply was drawn from the latest pass.

        Args:
            token: Its id.
            text: What is shown of it.
            seconds: Since the token before.
            residents: Per layer the experts in VRAM.
            change: Another number whenever `residents` has changed.
        """
        index, latest = self._count, self._latest
        self._count += 1
        bits = self._bits(residents) if change != self._told_change else None
        self._told_change = change
        if isinstance(latest, TokenOnCpu):
            cpu = latest
            self._waiting.append(lambda: _pack_cpu(cpu, index, token, text, seconds, bits))
        elif isinstance(latest, _Pass) and len(latest.runs) == self._layers:
            whole = latest
            self._waiting.append(lambda: _pack(whole, index, token, text, seconds, bits))

    def take(self) -> tuple[PassRecord, ...]:
        """The records since the last call."""
        records = tuple(pack() for pack in self._waiting)
        self._waiting.clear()
        return records

    def _bits(self, residents: Residents) -> bytes:
        """Who is in VRAM, a bit for each expert."""
        mask = np.zeros((self._layers, self._experts), np.bool_)
        for layer, experts in enumerate(residents):
            mask[layer, list(experts)] = True
        return np.packbits(mask, axis=1).tobytes()


def _pack(ran: _Pass, index: int, token: int, text: str, seconds: float, residents: bytes | None) -> PassRecord:
    """A pass layer by layer."""
    all_on_cpu = ran.places.count(_PLACES["cpu"]) == len(ran.places)
    no_gpu = all_on_cpu and not any(seconds_there > 0 for seconds_there in ran.gpu_s)
    return PassRecord(
        index, token, text, ran.tokens, seconds, ran.runs.tobytes(), ran.experts.tobytes(), ran.counts.tobytes(),
        b"" if all_on_cpu else bytes(ran.places), ran.cpu_s.tobytes(), b"" if no_gpu else ran.gpu_s.tobytes(),
        ran.corrections.tobytes(), residents,
    )  # fmt: skip


def _pack_cpu(
    ran: TokenOnCpu, index: int, token: int, text: str, seconds: float, residents: bytes | None
) -> PassRecord:
    """A token that the native decoder took through all layers at once."""
    layers, active = ran.experts.shape
    return PassRecord(
        index, token, text, 1, seconds, struct.pack("<H", active) * layers,
        ran.experts.astype(np.uint16).tobytes(), b"", b"", ran.seconds.tobytes(), b"",
        struct.pack("<2f", ran.correction, 1.0), residents,
    )  # fmt: skip
