"""The engine's frozen settings: what the model is, how to run it, how to sample from it.

Knows nothing about files, devices or torch. Validation happens where a value enters: `EngineConfig` and
`SamplingParams` check themselves, `ModelConfig` is built by `engine.checkpoint.model_config`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal, get_args

from engine.errors import ConfigurationError
from engine.quant.formats import FORMATS
from engine.sentences import say
from engine.setting_limits import between, check_length, check_schema, check_stop, one_of
from engine.traits import Compatibility, DenseBlocks, Traits

DeviceName = Literal["auto", "cuda", "cpu", "simulated"]
PolicyName = Literal["fiddler", "gpu_stream", "cpu_only"]
PlacementName = Literal["popularity", "uniform"]
DTypeName = Literal["float32", "bfloat16", "float16"]

KvPrecision = Literal["auto", "f16", "q8"]
IsaName = Literal["auto", "scalar", "avx2", "avxvnni", "avx512", "torch"]
ExpertFormats = tuple[str, str, str]  # of gate, up and down: names in `engine.quant.formats`

DTYPE_FORMATS: dict[DTypeName, str] = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
DTYPE_BYTES: dict[DTypeName, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
KV_GROUP = 32  # numbers of a key or value that share a scale; all of them where 32 does not divide their number
KV_SCALE_BYTES = 2
SINK_WIDTH = 8  # numbers beside a head's own where torch's attention has sinks; fused attention wants widths in eights
PAGEABLE_SLOWDOWN = 3.0  # of a copy from RAM that is not page-locked: 7 against 22 GB/s on PCIe 4, as published
SIMULATED_LAUNCH_S = 20e-6  # what a launch or a copy costs on the simulated GPU, whatever its size
# Settings that shape the device itself: changing one needs the model to be loaded again.
DEVICE_FIELDS = (
    "device",
    "gpu_index",
    "isa",
    "experts_on_disk",
    "simulated_vram_bytes",
    "simulated_link_bytes_per_s",
    "simulated_memory_bytes_per_s",
    "simulated_flops",
)
MIN_CONTEXT_TOKENS = 16
MAX_CONTEXT_TOKENS = 1 << 20


@cache
def _expert_bytes(formats: ExpertFormats, wide: int, narrow: int) -> int:
    """Bytes of an expert in some formats; a plan asks for them many times."""
    gate, up, down = (FORMATS[name] for name in formats)
    return gate.packed_bytes(narrow, wide) + up.packed_bytes(narrow, wide) + down.packed_bytes(wide, narrow)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a Mixture-of-Experts decoder, in the terms of its config.json.

    Attributes:
        name: What to call the model on screen.
        family: The architecture, e.g. "mixtral".
        hidden_size: Width of the residual stream (H).
        intermediate_size: Width inside one expert (I).
        layers: Number of decoder layers (L), of those with experts where `compatibility` tells which these are.
        heads: Query heads.
        kv_heads: Key/value heads (GQA).
        head_dim: Width of one head.
        experts: Experts per layer (E).
        experts_per_token: Experts that each token visits (A).
        vocab_size: Rows of the embedding (V).
        max_position_embeddings: Longest context the model was made for.
        rms_norm_eps: Epsilon of the RMS norms.
        rope_theta: Base of the rotary embedding.
        sliding_window: Tokens that attention looks back on, None for all.
        tie_word_embeddings: Whether lm_head shares the embedding's weights.
        dtype: Type of torch's activations, of every weight that no format below names, and by default of the KV cache.
        query_key_norm: Whether queries and keys are normed, each head by itself unless the traits say otherwise.
        normalise_top_k: Whether the weights of the chosen experts are scaled to sum to 1.
        quantization: What a quantised file calls its mix of formats, e.g. "Q4_K_M"; None for plain floats.
        expert_formats: Per layer the formats of gate, up and down; empty where all are `dtype`.
        dense_packed_bytes: Bytes of the packed weights outside the experts; None where all are `dtype`.
        dense_blocks: What of these is multiplied and stored in blocks, by format: all matrices but an embedding that is
            not lm_head too.
        embedding_format: Block format of the embedding; None where it is a float.
        traits: What it computes beyond that.
        compatibility: What is known where transformers' decoder runs it; None where this engine's own do.
        expert_parts: Parts that each expert was cut into (P), see `engine.experts.parts`. Each is an expert of its own
            then, numbered expert * P + part: `experts`, `experts_per_token` and `intermediate_size` are theirs.
    """

    name: str
    family: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    experts_per_token: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 1e6
    sliding_window: int | None = None
    tie_word_embeddings: bool = False
    dtype: DTypeName = "bfloat16"
    query_key_norm: bool = False
    normalise_top_k: bool = True
    quantization: str | None = None
    expert_formats: tuple[ExpertFormats, ...] = ()
    dense_packed_bytes: int | None = None
    dense_blocks: tuple[DenseBlocks, ...] = ()
    embedding_format: str | None = None
    traits: Traits = field(default_factory=Traits)
    compatibility: Compatibility | None = None
    expert_parts: int = 1

    @property
    def whole(self) -> ModelConfig:
        """The shape as it was published, with experts in one part."""
        if self.expert_parts == 1:
            return self
        return replace(
            self,
            experts=self.routed_experts,
            experts_per_token=self.routed_per_token,
            intermediate_size=self.intermediate_size * self.expert_parts,
            expert_parts=1,
        )

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one weight."""
        return DTYPE_BYTES[self.dtype]

    @property
    def routed_experts(self) -> int:
        """Experts that a layer's router chooses from, however many parts they are in."""
        return self.experts // self.expert_parts

    @property
    def routed_per_token(self) -> int:
        """Experts that a token's router chooses, however many parts they are in."""
        return self.experts_per_token // self.expert_parts

    @property
    def total_experts(self) -> int:
        """Experts in the whole model, however many parts they are in."""
        return self.layers * self.routed_experts

    @property
    def expert_parameters(self) -> int:
        """Weights of one expert: gate, up and down."""
        return 3 * self.hidden_size * self.intermediate_size

    def formats(self, layer: int) -> ExpertFormats:
        """Formats of gate, up and down in one layer."""
        plain = DTYPE_FORMATS[self.dtype]
        return self.expert_formats[layer] if self.expert_formats else (plain, plain, plain)

    def window(self, layer: int) -> int | None:
        """Tokens that a layer's attention looks back on, None for all."""
        return None if layer in self.traits.full_layers else self.sliding_window

    @property
    def expert_biases(self) -> int:
        """Numbers in an expert's biases: gate's, up's and down's."""
        return 2 * self.intermediate_size + self.hidden_size if self.traits.clamped_gate else 0

    def layer_expert_bytes(self, layer: int) -> int:
        """Bytes of one expert of a layer: gate, up and down, packed, and its biases."""
        matrices = _expert_bytes(self.formats(layer), self.hidden_size, self.intermediate_size)
        return matrices + FORMATS["F32"].packed_bytes(1, self.expert_biases)

    @property
    def expert_bytes(self) -> int:
        """Bytes of the largest expert, which a slot for streaming must hold."""
        layers = range(self.layers) if self.expert_formats else (0,)
        return max(map(self.layer_expert_bytes, layers))

    @property
    def experts_bytes(self) -> int:
        """Bytes of all experts together."""
        if not self.expert_formats:
            return self.layers * self.experts * self.layer_expert_bytes(0)
        return self.experts * sum(map(self.layer_expert_bytes, range(self.layers)))

    @property
    def dense_parameters(self) -> int:
        """Weights outside the experts: embeddings, attention, norms, routers, lm_head."""
        if self.compatibility is not None:
            return self.compatibility.dense_parameters
        q_width = self.heads * self.head_dim
        kv_width = self.kv_heads * self.head_dim
        attention = self.hidden_size * (q_width + 2 * kv_width) + q_width * self.hidden_size
        layer = attention + self._small_parameters + self.routed_experts * self.hidden_size
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        ends = (2 if self.traits.layer_norm else 1) * self.hidden_size + (
            self.vocab_size if self.traits.head_bias else 0
        )
        return self.layers * layer + embeddings + ends

    @property
    def _small_parameters(self) -> int:
        """Norms, biases and sinks of a layer, and the expert that all tokens share with its gate."""
        wide, traits = self.hidden_size, self.traits
        q_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        normed = (q_width + kv_width if traits.wide_norms else 2 * self.head_dim) if self.query_key_norm else 0
        biases = (q_width + 2 * kv_width if traits.qkv_bias else 0) + (wide if traits.output_bias else 0)
        biases += (self.routed_experts if traits.router_bias else 0) + (self.heads if traits.sinks else 0)
        gate = wide if traits.shared_gated else 0
        shared = 3 * wide * traits.shared_size + gate if traits.shared_size else 0
        return (4 if traits.layer_norm else 2) * wide + normed + biases + shared

    @property
    def dense_bytes(self) -> int:
        """Bytes of the weights outside the experts where they are held in `dtype`, as torch does."""
        return self.dense_parameters * self.dtype_bytes

    @property
    def looked_up_weights(self) -> int:
        """Those of an embedding of which no product is taken: lm_head is another matrix."""
        return 0 if self.tie_word_embeddings else self.vocab_size * self.hidden_size

    @property
    def embedding_bytes(self) -> int:
        """Bytes of the embedding, packed."""
        name = self.embedding_format or DTYPE_FORMATS[self.dtype]
        return FORMATS[name].packed_bytes(self.vocab_size, self.hidden_size)

    def kv_format(self, precision: KvPrecision) -> str:
        """Format of the KV cache, a name in `engine.quant.formats`; as Q8_0 its rows are `KVCache`'s own."""
        return {"auto": DTYPE_FORMATS[self.dtype], "f16": "F16", "q8": "Q8_0"}[precision]

    @property
    def kv_group(self) -> int:
        """Numbers of one head's key or value that share a scale where the KV cache is int8."""
        return self.head_dim if self.head_dim % KV_GROUP else KV_GROUP

    def kv_row_bytes(self, precision: KvPrecision) -> int:
        """Bytes of one token's key, or value, of one head in the KV cache."""
        if precision == "q8":
            return self.head_dim + KV_SCALE_BYTES * (self.head_dim // self.kv_group)
        return self.head_dim * (2 if precision == "f16" else self.dtype_bytes)

    def kv_bytes_per_token(self, precision: KvPrecision) -> int:
        """Bytes that one token adds to the KV cache, all layers."""
        if self.compatibility is not None:
            return self.compatibility.kv_numbers * self.dtype_bytes
        return self.layers * 2 * self.kv_heads * self.kv_row_bytes(precision)

    @property
    def pair_weights(self) -> float:
        """Products that a query and an earlier key take in one of `layers`: for the score, and with the value."""
        if self.compatibility is not None:
            return self.compatibility.pair_weights / self.layers
        return 2 * self.heads * self.head_dim

    @property
    def fingerprint(self) -> str:
        """A short name for everything that a measurement of this model's experts depends on."""
        formats = "-".join(sorted({name for layer in self.expert_formats for name in layer})) or self.dtype
        return f"{self.family}-h{self.hidden_size}-i{self.intermediate_size}-e{self.experts}-{formats}"


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How to run a model.

    Attributes:
        device: Where the dense part lives; "auto" takes CUDA if there is one, else the CPU.
        gpu_index: Which NVIDIA GPU, as the driver counts them; None takes the one with the most VRAM.
        vram_budget_bytes: VRAM that the engine may use; None takes what is free, less a margin.
        context_tokens: Tokens that the KV cache holds (cut to the model's own limit).
        kv_precision: What the KV cache holds: "auto" the model's own type, "q8" int8 with scales, half of 16 bits.
        cpu_threads: Threads for CPU experts; None takes the physical cores.
        placement: How the first residents are ranked.
        policy: Who decides where an expert runs.
        adaptive: Whether residents follow the conversation while tokens are decoded, where that pays.
        isa: Instructions of the CPU kernels; "auto" takes the best that the CPU has, "torch" does without our kernels.
        experts_on_disk: Keep the experts in a file that the system reads as they are used, for a model larger than RAM.
        simulated_vram_bytes: VRAM of the simulated GPU.
        simulated_link_bytes_per_s: Speed of its PCIe link.
        simulated_memory_bytes_per_s: Speed of its own memory.
        simulated_flops: Its arithmetic, in operations per second.
        prefill_chunk_tokens: Prompt tokens per forward pass, at most; None lets the plan choose.
        cost_cache_dir: Folder that keeps measured costs; None measures and keeps nothing.
        pinned_budget_bytes: RAM that may be page-locked for a GPU; None for what the system bears. A simulated GPU has
            no need of any unless this is set.
        popularity_dir: Folder that keeps popularity counts; None keeps nothing.
        models_dir: Folder of downloaded models, where a name on the hub is looked for; None for the usual one.
        vram_reserve_bytes: VRAM that an automatic budget leaves to other programs, what they hold now included.

    Raises:
        ConfigurationError: A value is outside its limits.
    """

    device: DeviceName = "auto"
    vram_budget_bytes: int | None = None
    context_tokens: int = 8192
    kv_precision: KvPrecision = "auto"
    cpu_threads: int | None = None
    placement: PlacementName = "popularity"
    policy: PolicyName = "fiddler"
    adaptive: bool = True
    isa: IsaName = "auto"
    experts_on_disk: bool = False
    simulated_vram_bytes: int = 8 << 30
    simulated_link_bytes_per_s: float = 6e9  # PCIe 4 x4: slow enough that the guide shows all three places
    simulated_memory_bytes_per_s: float = 400e9
    simulated_flops: float = 40e12
    prefill_chunk_tokens: int | None = None
    cost_cache_dir: str | None = None
    popularity_dir: str | None = None
    models_dir: str | None = None
    gpu_index: int | None = None
    pinned_budget_bytes: int | None = None
    vram_reserve_bytes: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        one_of("device", self.device, ("auto", "cuda", "cpu", "simulated"))
        one_of("placement", self.placement, ("popularity", "uniform"))
        one_of("policy", self.policy, ("fiddler", "gpu_stream", "cpu_only"))
        one_of("isa", self.isa, get_args(IsaName))
        one_of("kv_precision", self.kv_precision, get_args(KvPrecision))
        between("context_tokens", self.context_tokens, MIN_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS)
        if self.prefill_chunk_tokens is not None:
            between("prefill_chunk_tokens", self.prefill_chunk_tokens, 1, 8192)
        if self.cpu_threads is not None:
            between("cpu_threads", self.cpu_threads, 1, 1024)
        if self.gpu_index is not None:
            between("gpu_index", self.gpu_index, 0, 255)
        if self.pinned_budget_bytes is not None:
            between("pinned_budget_bytes", self.pinned_budget_bytes, 0, 1 << 50)
        if self.vram_budget_bytes is not None:
            between("vram_budget_bytes", self.vram_budget_bytes, 0, 1 << 50)
        between("vram_reserve_bytes", self.vram_reserve_bytes, 0, 1 << 50)
        between("simulated_vram_bytes", self.simulated_vram_bytes, 1, 1 << 50)
        for name in ("simulated_link_bytes_per_s", "simulated_memory_bytes_per_s", "simulated_flops"):
            between(name, getattr(self, name), 1.0, 1e18)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn.

    Attributes:
        max_tokens: Most tokens of a reply.
        temperature: 0 takes the most likely token; higher is more varied.
        top_p: Nucleus sampling: the smallest set of tokens with this total probability.
        top_k: Only the k most likely tokens; 0 for all.
        min_p: Only tokens at least this share as likely as the best one.
        repetition_penalty: 1 for none; higher repeats less.
        seed: Fixes the draw; None draws anew each time.
        stop: Texts that end the reply and are left out of it.
        ignore_eos: Go on past the model's own end of a reply; for benchmarks.
        json_schema: The reply is JSON that this schema allows, and nothing else; None for any text. A reply that
            `max_tokens` or the context cuts off is the beginning of such JSON.
        grammar: The same for a grammar in Lark's notation.

    Raises:
        ConfigurationError: A value is outside its limits.
    """

    max_tokens: int = 1024
    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    json_schema: str | None = None
    grammar: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        between("max_tokens", self.max_tokens, 1, MAX_CONTEXT_TOKENS)
        between("temperature", self.temperature, 0.0, 10.0)
        between("top_p", self.top_p, 1e-6, 1.0)
        between("top_k", self.top_k, 0, 1 << 20)
        between("min_p", self.min_p, 0.0, 1.0)
        between("repetition_penalty", self.repetition_penalty, 0.1, 10.0)
        if self.seed is not None:
            between("seed", self.seed, -(1 << 63), (1 << 64) - 1)
            if not isinstance(self.seed, int):
                raise ConfigurationError(say("seed is {seed}.", seed=repr(self.seed)), say("Choose a whole number."))
        check_stop(self.stop)
        if self.json_schema is not None and self.grammar is not None:
            raise ConfigurationError(say("There are a JSON schema and a grammar."), say("Give one of them."))
        if self.json_schema is not None:
            check_schema(self.json_schema)
        if self.grammar is not None:
            check_length(say("grammar"), self.grammar)
