"""All that crosses the queue between the window and the engine: frozen, picklable, free of torch.

Requests go in (`Load`, `Generate`, `CountTokens`, `Reconfigure`, `Recalibrate`, `Cancel`, `Shutdown`); events come out.
One reply is produced at a time, and every `Generate` ends in exactly one `Finished` or `Failed`, also when cancelled.
Times are in seconds, sizes in bytes. Only data is here: `engine.experts` makes plans and predictions and finds the
words for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from engine.config import DeviceName, EngineConfig, KvPrecision, ModelConfig, SamplingParams
from engine.errors import RooftopError
from engine.hardware import HardwareProfile

Place = Literal["gpu", "stream", "cpu"]
Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled", "context"]
Overflow = Literal["stop", "drop_oldest", "drop_middle"]  # of a conversation that outgrew the context

TORCH_KERNELS = "torch"  # `PlanningInputs.kernels` without a library of our own


# ---- placement and cost, as data ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Predicted seconds for s units of work: max(floor_s, s * per_unit_s) + overhead_s.

    Attributes:
        floor_s: Time that moving the bytes takes, however few the units.
        per_unit_s: Time that one more token (or byte) takes.
        overhead_s: Fixed time of one call.
        fit_error: Median relative error against the measurements, 0.1 = 10 %.
    """

    floor_s: float
    per_unit_s: float
    overhead_s: float
    fit_error: float = 0.0


@dataclass(frozen=True, slots=True)
class CostModel:
    """What one expert costs on each side of this machine, for one model shape.

    Attributes:
        cpu_expert: Expert on the CPU, units are tokens; what a call of several takes besides is `cpu_call_s`.
        gpu_expert: Expert on the GPU, units are tokens; None without a GPU.
        weight_copy: One expert's weights from RAM to VRAM, units are experts; None without a GPU.
        activation_copy: Activations there and back, units are tokens; None without a GPU.
        dense_layer_s: One decode layer around its experts, with its share of embedding and lm_head.
        cpu_correction: Measured / predicted on the CPU, learnt while running.
        gpu_correction: The same for the GPU side.
        source: Where the numbers come from, e.g. "measured", "cached", "assumed".
        dense_tokens: One layer of a prompt around its experts, units are tokens; None where nobody measured it.
        attention_pair_s: What each pair of a query and an earlier key adds to that, per layer.
        cpu_call_s: What the call adds that runs all experts of a layer on the CPU; 0 where a whole token is one call.
    """

    cpu_expert: CostCurve
    gpu_expert: CostCurve | None
    weight_copy: CostCurve | None
    activation_copy: CostCurve | None
    dense_layer_s: float
    cpu_correction: float = 1.0
    gpu_correction: float = 1.0
    source: str = "assumed"
    dense_tokens: CostCurve | None = None
    attention_pair_s: float = 0.0
    cpu_call_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """What goes where, before anything is loaded.

    Attributes:
        fits: Whether the model can be loaded with these settings.
        device: "cuda", "cpu" or "simulated".
        resident_by_layer: For each layer the experts that live in VRAM, ascending.
        vram_bytes: Term -> bytes: dense, kv, workspace, experts, staging, margin, total; empty without a GPU.
        host_bytes: Term -> bytes: experts, and on the CPU device dense, kv, workspace too; total. Experts that are kept
            on disk are the term experts_on_disk instead, which the total leaves out. Beside a GPU that needs it,
            experts_pinned is the part of them that is page-locked, which the total leaves out too.
        vram_budget_bytes: What the plan was allowed to use, 0 without a GPU.
        context_tokens: Tokens that the KV cache holds.
        predicted_decode_tokens_per_s: By the cost model.
        predicted_prefill_tokens_per_s: By the cost model, at a 512-token prompt.
        predicted_hit_rate: Share of expert visits that find their expert in VRAM.
        reasons: Sentences: why it fits or not, and what decided the numbers.
        remedy: What to change when it does not fit, else "".
        needed_bytes: What a plan that does not fit would need, else 0.
        available_bytes: What there was for it, else 0.
        kv_precision: What the KV cache holds, as in `EngineConfig`.
        prefill_chunk_tokens: Prompt tokens per forward pass, which the workspace is for.
    """

    fits: bool
    device: DeviceName
    resident_by_layer: tuple[tuple[int, ...], ...]
    vram_bytes: dict[str, int]
    host_bytes: dict[str, int]
    vram_budget_bytes: int
    context_tokens: int
    predicted_decode_tokens_per_s: float
    predicted_prefill_tokens_per_s: float
    predicted_hit_rate: float
    reasons: tuple[str, ...]
    remedy: str = ""
    needed_bytes: int = 0
    available_bytes: int = 0
    kv_precision: KvPrecision = "auto"
    prefill_chunk_tokens: int = 512

    @property
    def resident_experts(self) -> int:
        """How many experts live in VRAM."""
        return sum(len(layer) for layer in self.resident_by_layer)


@dataclass(frozen=True, slots=True)
class PlanningInputs:
    """All that `engine.experts.placement.make_plan` needs besides an `EngineConfig`; lets the window preview a budget.

    Attributes:
        model: The model's shape.
        hardware: The machine.
        costs: What an expert costs here.
        popularity: Per layer and expert, the share of the layer's visits (rows sum to 1).
        kernels: What computes on the CPU: "torch", or the instructions that our own library uses, e.g. "avx2".
        gpu_note: A sentence: why the GPU is not used, or not as well as it could be; "" where there is nothing to say.
    """

    model: ModelConfig
    hardware: HardwareProfile
    costs: CostModel
    popularity: tuple[tuple[float, ...], ...]
    kernels: str = TORCH_KERNELS
    gpu_note: str = ""


# ---- what ran -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExpertRun:
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


@dataclass(frozen=True, slots=True)
class LayerTrace:
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
    """

    layer: int
    tokens: int
    runs: tuple[ExpertRun, ...]
    predicted_cpu_s: float
    predicted_gpu_s: float
    measured_cpu_s: float
    measured_gpu_s: float
    activation_s: float = 0.0


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


class PassRecord(NamedTuple):
    """What the pass did that one token of the reply came from, packed small: R runs in L layers, layer after layer.

    There is one for every token, and a tuple is made and pickled in a quarter of a dataclass's time.

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


Event = Loading | Ready | LeftOut | TokensCounted | PromptProgress | Token | Snapshot | Passes | Finished | Failed


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
