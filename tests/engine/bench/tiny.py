"""Small shapes for the comparison's tests, with columns that every block format divides."""

from __future__ import annotations

from engine.bench.models import Shape
from engine.bench.results import Metric

VOCABULARY = 512
MIXTRAL = Shape("tiny-mixtral", "llama", 256, 512, 2, 8, 2, 4, 2, 64, vocabulary=VOCABULARY, context_tokens=1024)
QWEN3 = Shape("tiny-qwen3", "qwen3moe", 256, 256, 2, 16, 4, 4, 2, 128, vocabulary=VOCABULARY, context_tokens=1024)
METRICS = (Metric("decode", 8, 4), Metric("prefill 512", 40), Metric("prefill 32", 8))
