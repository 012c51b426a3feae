"""What ran where, as data: each expert's turn, each layer's pass, and the passes behind a reply's tokens.

Tuples, for many of them cross the queue every second inside of `engine.messages`: one is made and pickled in a quarter
of a dataclass's time. `engine.experts` writes them down.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from engine.config import PolicyName

Place = Literal["gpu", "stream", "cpu"]


class ExpertRun(NamedTuple):
    """One expert's turn in one layer.

    Attributes:
        expert: Its index in the layer.
        tokens: Tokens routed to it (s).
        place: Where it ran.
        cpu_s: Predicted time on the CPU.
        gpu_s: Predicted time on the GPU once its weights are there; 0 without a GPU.
        copy_s: Predicted time to copy its weights; 0 for residents and without a GPU.
    """

    expert: int
    tokens: int
    place: Place
    cpu_s: float
    gpu_s: float
    copy_s: float


class LayerTrace(NamedTuple):
    """What one layer did in its latest forward pass, and why.

    Attributes:
        layer: Its index.
        tokens: Tokens of the pass (T).
        runs: One entry per expert with tokens.
        predicted_cpu_s: Predicted time of the CPU side.
        predicted_gpu_s: Predicted time of the GPU side.
        measured_cpu_s: Measured time of the CPU side.
        measured_gpu_s: Measured (or, simulated GPU: simulated) time of the GPU side. It is known when the GPU is done:
            until then, a layer or a token later, the trace of the pass before stands.
        activation_s: Predicted time to bring activations to the CPU and back, which its side begins with.
        cpu_call_s: Predicted time to call the CPU's experts, which comes with it.
        policy: Who decided.
        expert_parts: Parts that experts are in (`engine.experts.parts`), of which `runs` then tells.
    """

    layer: int
    tokens: int
    runs: tuple[ExpertRun, ...]
    predicted_cpu_s: float
    predicted_gpu_s: float
    measured_cpu_s: float
    measured_gpu_s: float
    activation_s: float = 0.0
    cpu_call_s: float = 0.0
    policy: PolicyName = "fiddler"
    expert_parts: int = 1


class PassRecord(NamedTuple):
    """What the pass did that one token of the reply came from, packed small: R runs in L layers, layer after layer.

    There is one for every token.

    Attributes:
        position: The token's place in the reply, 0 for the first.
        token: Its id.
        text: Its text as it was shown.
        pass_tokens: Tokens of the pass (T); the first token comes from the last pass of the prompt.
        seconds: From the token before, or from the request, to this one.
        runs: uint16 [L]: how many experts had tokens.
        experts: uint16 [R].
        counts: uint16 [R]: tokens of each; empty where all are 1.
        places: uint8 [R]: 0 GPU, 1 streamed, 2 CPU; empty where all are 2.
        cpu_s: float32 [L]: measured time of the CPU side.
        gpu_s: float32 [L]: of the GPU side, NaN where it is not known; empty without a GPU.
        corrections: float32 [L, 2] or [1, 2]: the costs' corrections for CPU and GPU that each layer was planned with.
        residents: Experts in VRAM as bits [L, ceil(E / 8)], the first expert the highest; None where they are the same
            as in the record before.
    """

    position: int
    token: int
    text: str
    pass_tokens: int
    seconds: float
    runs: bytes
    experts: bytes
    counts: bytes
    places: bytes
    cpu_s: bytes
    gpu_s: bytes
    corrections: bytes
    residents: bytes | None
