"""What sets a model apart beside its shape: its dense blocks, what it computes, and how transformers holds it.

Plain frozen data, filled by `engine.checkpoint`; parts of `engine.config.ModelConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DenseBlocks:
    """Matrices outside the experts that are stored in one block format.

    Attributes:
        format: Its name in `engine.quant.formats`.
        weights: Of all of them.
        packed_bytes: Of all of them, packed.
    """

    format: str
    weights: int
    packed_bytes: int


@dataclass(frozen=True, slots=True)
class LongRope:
    """A rotary embedding stretched for long contexts (LongRoPE): each pair of a head's numbers by a factor of its own.

    YaRN is the same with one set of factors for every length.

    Attributes:
        original_tokens: Sequences up to here use the short factors, longer ones the long factors.
        short: Divisors of the frequencies [head_dim / 2].
        long: The same.
        short_scale: Factor of rotated queries and keys in a short sequence.
        long_scale: The same in a long one.
    """

    original_tokens: int
    short: tuple[float, ...]
    long: tuple[float, ...]
    short_scale: float
    long_scale: float


@dataclass(frozen=True, slots=True)
class ClampedGate:
    """What experts with biases compute (gpt-oss): (up + 1) * gate * sigmoid(slope * gate).

    Attributes:
        slope: Of the gate's sigmoid.
        limit: The largest gate, and the largest magnitude of up.
    """

    slope: float
    limit: float


@dataclass(frozen=True, slots=True)
class Traits:
    """What a model computes beyond what every family here does; as it stands, nothing.

    Attributes:
        qkv_bias: Whether the projections to queries, keys and values have biases.
        output_bias: Whether attention's output projection has one.
        wide_norms: Whether the norms of queries and keys span all heads together (OLMoE), instead of each head.
        clip_qkv: Largest magnitude of a query, key or value; None for any.
        embedding_scale: Factor of what the embedding says (Granite).
        residual_scale: Factor of what attention and experts add.
        attention_scale: Factor of attention's scores; None for 1 / sqrt(head_dim).
        logit_scale: Factor of the logits.
        shared_size: Width inside the expert that every token visits (Qwen2-MoE); 0 where there is none.
        shared_gated: Whether that expert's weight is a sigmoid of its own; otherwise 1 (Granite-MoE-Shared).
        layer_norm: Whether norms take the mean away and have biases (Phi-3.5-MoE).
        head_bias: Whether the projection to logits has a bias.
        router_jitter: How near, in halves of the best score, scores must be to count in the weights of the two chosen
            experts (sparsemixer, arXiv 2409.12136); None for a softmax over scores.
        long_rope: How the rotary embedding is stretched; None for not.
        full_layers: Layers that look back on everything, whatever the sliding window (gpt-oss).
        sinks: Whether each query head has a score that no key has, which takes its share of the weights.
        router_bias: Whether the router has a bias.
        clamped_gate: How experts compute that have biases; None for silu(gate) * up without any.
    """

    qkv_bias: bool = False
    output_bias: bool = False
    wide_norms: bool = False
    clip_qkv: float | None = None
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    attention_scale: float | None = None
    logit_scale: float = 1.0
    shared_size: int = 0
    shared_gated: bool = True
    layer_norm: bool = False
    head_bias: bool = False
    router_jitter: float | None = None
    long_rope: LongRope | None = None
    full_layers: tuple[int, ...] = ()
    sinks: bool = False
    router_bias: bool = False
    clamped_gate: ClampedGate | None = None


@dataclass(frozen=True, slots=True)
class Compatibility:
    """What is known of a model that transformers' own decoder runs, with the experts taken out of it.

    Attributes:
        moe_layers: Which of its decoder layers have experts; `ModelConfig.layers` counts these alone.
        dense_parameters: Weights outside the experts.
        kv_numbers: Numbers that one token adds to the KV cache, at most.
        pair_weights: Products that a query and an earlier key take, all layers, at most.
    """

    moe_layers: tuple[int, ...]
    dense_parameters: int
    kv_numbers: int
    pair_weights: int
