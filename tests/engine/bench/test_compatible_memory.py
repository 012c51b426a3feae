"""What a model in transformers' decoder takes of the memory, in a process of its own."""

from __future__ import annotations

from pathlib import Path

from engine.bench.compatible_memory import measure, write_random
from engine.checkpoint.checkpoint import read_config


def test_experts_are_in_memory_once(tmp_path: Path) -> None:
    """Were they in transformers' modules too, twice the weights would not do."""
    folder = write_random(tmp_path / "model", 0.15)
    config = read_config(folder)
    memory = measure(folder)
    assert config.compatibility is not None
    assert config.experts_bytes > 0.8 * memory.weights_bytes
    assert memory.imported_bytes < memory.loaded_bytes <= memory.computed_bytes
    assert 0.9 < memory.share < 1.7
