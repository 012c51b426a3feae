"""All that crosses the queue between the window and the engine: frozen, picklable, free of torch.

Requests go in (`Load`, `Generate`, `CountTokens`, `Reconfigure`, `Recalibrate`, `Cancel`, `Shutdown`); events come out.
One reply is produced at a time, and every `Generate` ends in exactly one `Finished` or `Failed`, also when cancelled.
Times are in seconds, sizes in bytes. Only data is here: plans and costs are in `engine.plan_data`, what ran in
`engine.traces`; `engine.experts` makes both and finds the words for them. Whoever talks to the engine finds all here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.config import EngineConfig, ModelConfig, SamplingParams
from engine.errors import RooftopError
from engine.plan_data import TORCH_KERNELS, CostCurve, CostModel, PlacementPlan, PlanningInputs
from engine.traces import ExpertRun, LayerTrace, PassRecord, Place

__all__ = [
    "TORCH_KERNELS",
    "Cancel",
    "ChatMessage",
    "CostCurve",
    "CostModel",
    "CountTokens",
    "ErrorReport",
    "Event",
    "ExpertRun",
    "Failed",
    "FinishReason",
    "Finished",
    "Generate",
    "LayerTrace",
    "LeftOut",
    "Load",
    "Loading",
    "Overflow",
    "PassRecord",
    "Passes",
    "Place",
    "PlacementPlan",
    "PlanningInputs",
    "PromptProgress",
    "Ready",
    "Recalibrate",
    "Reconfigure",
    "Request",
    "Role",
    "Shutdown",
    "Snapshot",
    "Timings",
    "Token",
    "TokensCounted",
    "Usage",
]

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled", "context"]
Overflow = Literal["stop", "drop_oldest", "drop_middle"]  # of a conversation that outgrew the context


# ---- how a reply went ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one reply.

    Attributes:
        prompt_tokens: The whole prompt.
        cached_tokens: Prompt tokens found in the KV cache, not computed again.
        completion_tokens: Tokens of the reply.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Speed of one reply.

    Attributes:
        ttft_s: From the request to the first token.
        prefill_tokens_per_s: Computed prompt tokens per second.
        decode_tokens_per_s: Tokens per second after the first; 0 for a single token.
    """

    ttft_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error as data.

    Attributes:
        code: Stable name of the kind, e.g. "checkpoint".
        message: One sentence: what is wrong.
        remedy: One sentence: what to do.
    """

    code: str
    message: str
    remedy: str

    @classmethod
    def of(cls, error: RooftopError) -> ErrorReport:
        """The report of an error of our tree."""
        return cls(error.code, error.message, error.remedy)


# ---- events: out of the engine --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress of a load. Phases: "checking", "dense", "experts", "measuring"; total_bytes 0 when unknown."""

    phase: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded, a `Reconfigure` or `Recalibrate` took effect, or memory changed what is in force.

    Attributes:
        model: Its shape and name.
        device_name: For the screen, e.g. "NVIDIA GeForce RTX 3060" or "Simulated GPU".
        simulated: Whether that GPU is simulated.
        plan: The placement now in force.
        effective: The settings now in force, with every "automatic" resolved.
        planning: For previews of other budgets.
        because: A sentence: what changed of itself, also in the middle of a reply; "" where this answers a request.
    """

    model: ModelConfig
    device_name: str
    simulated: bool
    plan: PlacementPlan
    effective: EngineConfig
    planning: PlanningInputs
    because: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What `Generate.overflow` left out of a conversation that outgrew the context; told before the prompt is read."""

    messages: int
    tokens: int


@dataclass(frozen=True, slots=True)
class TokensCounted:
    """The answer to a `CountTokens`.

    Attributes:
        id: Of the request.
        per_message: Tokens of each message's content.
        per_text: Tokens of each text.
        total: Tokens of the whole prompt, the chat template's own included. What outgrew the context is not rendered:
            then it is the sum of the messages.
        context_tokens: What the context holds; 0 where no model is loaded, and nothing was counted.
    """

    id: int
    per_message: tuple[int, ...]
    per_text: tuple[int, ...]
    total: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """Prompt tokens in the KV cache so far, cached ones included."""

    done_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the reply; its text may be empty while a character is incomplete."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engine's inside, 10 to 20 times a second while it works and once when it is ready.

    Attributes:
        resident_by_layer: For each layer the experts in VRAM now.
        recent_use: Per layer and expert, 0..1: 1 = used just now, fading over the last tokens.
        layers: Latest trace of every layer; empty before the first pass.
        vram_bytes: Term -> bytes really allocated: dense, kv, workspace, experts, staging; empty without a GPU.
        vram_budget_bytes: The budget in force, 0 without a GPU.
        host_bytes: Term -> bytes really allocated in RAM.
        hits: Expert visits (token x expert) that found the expert in VRAM, this reply.
        visits: All expert visits of this reply.
        streamed: Experts copied to the GPU in this reply.
        streamed_bytes: Their bytes.
        tokens_per_s: Decode speed over the last second or so; 0 while not decoding.
        uploads: Experts that were copied to VRAM in this reply to live there in another's place.
        uploaded_bytes: Their bytes.
        not_adapting: A sentence: why residents do not follow the conversation at present; "" where they do.
        memory_shortages: Times that the GPU ran out of memory, so that less is in force than was planned; else 0.
    """

    resident_by_layer: tuple[tuple[int, ...], ...]
    recent_use: tuple[tuple[float, ...], ...]
    layers: tuple[LayerTrace, ...]
    vram_bytes: dict[str, int]
    vram_budget_bytes: int
    host_bytes: dict[str, int]
    hits: int
    visits: int
    streamed: int
    streamed_bytes: int
    tokens_per_s: float
    uploads: int = 0
    uploaded_bytes: int = 0
    not_adapting: str = ""
    memory_shortages: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of this reply's visits that found their expert in VRAM, as measured; 0 before the first."""
        return self.hits / self.visits if self.visits else 0.0


@dataclass(frozen=True, slots=True)
class Passes:
    """Records of the reply's latest tokens, in order; all of them come before its last `Snapshot`."""

    records: tuple[PassRecord, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The reply is complete."""

    reason: FinishReason
    usage: Usage
    timings: Timings


@dataclass(frozen=True, slots=True)
class Failed:
    """A request failed; the engine goes on unless its process ended (code "engine-stopped")."""

    error: ErrorReport


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """Which torch this engine has, where a GPU component is installed; told once, before anything else.

    Attributes:
        version: Torch's own, e.g. "2.13.0+cu130"; "" where the component could not be used.
        cuda: The CUDA that it was made for; "" likewise.
        problem: A sentence: why the component could not be used, so that the interpreter's own torch is; else "".
    """

    version: str
    cuda: str
    problem: str = ""


Event = (
    Loading
    | Ready
    | LeftOut
    | TokensCounted
    | PromptProgress
    | Token
    | Snapshot
    | Passes
    | Finished
    | Failed
    | TorchBuild
)


# ---- requests: into the engine --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model, giving up the one before. Answered by `Loading`..., then `Ready` or `Failed`."""

    model: str
    config: EngineConfig


@dataclass(frozen=True, slots=True)
class Generate:
    """Answer a conversation. Answered by `PromptProgress`, `Token`, `Snapshot`..., then `Finished` or `Failed`.

    Attributes:
        messages: The conversation, oldest first.
        sampling: How to draw tokens.
        overflow: What to do with one that leaves too little room for the reply: fail, or leave out whole turns, the
            oldest or those after the first. `LeftOut` tells of it.
        continue_reply: The last message is a reply that goes on where it ended; only what is new is sent.
    """

    messages: tuple[ChatMessage, ...]
    sampling: SamplingParams
    overflow: Overflow = "stop"
    continue_reply: bool = False


@dataclass(frozen=True, slots=True)
class CountTokens:
    """Count tokens. Answered by `TokensCounted` between two events of a reply, or after a load.

    Of several that wait only the last is answered.

    Attributes:
        id: Comes back with the answer.
        messages: A conversation.
        texts: Texts to be counted each by itself, such as files that the messages hold.
    """

    id: int
    messages: tuple[ChatMessage, ...]
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Take other settings without a reload where possible: budget, threads, policy. Answered by `Ready` or `Failed`."""

    config: EngineConfig


@dataclass(frozen=True, slots=True)
class Recalibrate:
    """Measure the cost model again. Answered by `Loading("measuring")`, then `Ready` or `Failed`."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the load or reply in progress; heard at once, also in prefill. Nothing to stop: ignored."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """End the engine thread and its process."""


Request = Load | Generate | CountTokens | Reconfigure | Recalibrate | Cancel | Shutdown
