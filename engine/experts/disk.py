"""What it costs to keep the experts on disk: an estimate, as nobody measures the reader's drive. Pure arithmetic.

Experts that are neither in VRAM nor in what RAM may hold of the file are read when a token visits them. The system
keeps what was used last, so that the share in RAM is taken to serve the same share of visits.
"""

from __future__ import annotations

from dataclasses import replace

from engine.config import ModelConfig
from engine.experts.explain import human_bytes, human_speed
from engine.experts.forecast import PREFILL_TOKENS, Forecast
from engine.sentences import Number, join, say

ASSUMED_SSD_BYTES_PER_S = 2e9


def reading_seconds(model: ModelConfig, room_bytes: int) -> float:
    """Time to read what RAM does not hold of all experts, as every chunk of a prompt does.

    Args:
        model: Its experts.
        room_bytes: RAM that may hold some of the file.
    """
    return model.experts_bytes * (1.0 - _kept(model, room_bytes)) / ASSUMED_SSD_BYTES_PER_S


def _kept(model: ModelConfig, room_bytes: int) -> float:
    """The share of the file that RAM may hold."""
    return min(1.0, max(0, room_bytes) / model.experts_bytes)


def from_disk(speed: Forecast, model: ModelConfig, room_bytes: int, chunk_tokens: int) -> Forecast:
    """A forecast with the time that reading takes.

    Args:
        speed: What it would be with every expert in RAM.
        model: Its experts.
        room_bytes: RAM that may hold some of the file.
        chunk_tokens: Prompt tokens per forward pass; each is taken to visit every expert.

    Returns:
        The forecast; its `limit` tells of the disk.
    """
    kept = _kept(model, room_bytes)
    visited_bytes = model.experts_bytes * model.experts_per_token / model.experts * (1.0 - speed.hit_rate)
    read_bytes = visited_bytes * (1.0 - kept)
    chunk = min(chunk_tokens, PREFILL_TOKENS)
    chunk_s = chunk / speed.prefill_tokens_per_s + reading_seconds(model, room_bytes)
    decode_tokens_per_s = 1.0 / (1.0 / speed.decode_tokens_per_s + read_bytes / ASSUMED_SSD_BYTES_PER_S)
    sentence = say(
        "The experts are kept on disk: a token visits {size} of them outside VRAM, of which RAM may hold {kept}%; "
        "about {speed}, an estimate for an SSD that reads {rate} GB/s.",
        size=human_bytes(round(visited_bytes)),
        kept=round(100 * kept),
        speed=human_speed(decode_tokens_per_s),
        rate=Number(f"{ASSUMED_SSD_BYTES_PER_S / 1e9:g}"),
    )
    return replace(
        speed,
        decode_tokens_per_s=decode_tokens_per_s,
        prefill_tokens_per_s=chunk / chunk_s,
        limit=join([speed.limit, sentence]) if kept == 1.0 else sentence,
    )
