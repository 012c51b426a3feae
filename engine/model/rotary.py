"""How fast each pair of a head's numbers turns with the position, and what rotated heads are scaled by."""

from __future__ import annotations

import torch

from engine.config import ModelConfig


def rotation_frequencies(model: ModelConfig, sequence_tokens: int) -> tuple[torch.Tensor, float]:
    """Radians per position of each pair, fp32 [D / 2], and the scale of rotated queries and keys.

    Args:
        model: Its shape.
        sequence_tokens: How long the sequence may become: LongRoPE (arXiv 2402.13753) has other frequencies beyond
            what the model was first trained on.
    """
    half = torch.arange(0, model.head_dim, 2, dtype=torch.float32) / model.head_dim
    plain = 1.0 / model.rope_theta**half
    rope = model.traits.long_rope
    if rope is None:
        return plain, 1.0
    beyond = sequence_tokens > rope.original_tokens
    factors = torch.tensor(rope.long if beyond else rope.short, dtype=torch.float32)
    return 1.0 / (factors * model.rope_theta**half), rope.long_scale if beyond else rope.short_scale
