"""transformers with accelerate's offload: layers that VRAM does not hold are copied there each time they are needed.

The model has the shape of a file but weights of its own, random and in 16 bits: neither package runs such a file in its
blocks. So it moves about 3.5 times the bytes of a 4-bit file, which a comparison must say.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.bench.peers import Peer
from engine.checkpoint.checkpoint import read_config
from engine.config import ModelConfig

_AMPLE_RAM_BYTES = 1 << 40


class Accelerated(Peer):
    """A model that accelerate spreads over GPU and CPU.

    Args:
        path: A model file, for its shape alone.
        threads: CPU threads.
        context_tokens: Not asked for: its cache grows.
        vram_bytes: VRAM for weights; 0 keeps everything on the CPU.
    """

    def __init__(self, path: str, threads: int, context_tokens: int, vram_bytes: int = 0) -> None:
        """Make the model and place it."""
        import torch

        accelerate: Any = importlib.import_module("accelerate")  # not among our packages
        del context_tokens
        torch.set_num_threads(threads)
        self._torch = torch
        model = _random_model(read_config(Path(path)))
        where: dict[str, Any] = {"": "cpu"}
        if vram_bytes:
            limits = {0: vram_bytes, "cpu": _AMPLE_RAM_BYTES}
            where = accelerate.infer_auto_device_map(model, limits, no_split_module_classes=model._no_split_modules)
        self._model = accelerate.dispatch_model(model, where, main_device="cuda:0" if vram_bytes else "cpu")
        self._input_device = torch.device("cuda", 0) if vram_bytes else torch.device("cpu")

    @property
    def details(self) -> str:
        """The weights' type: the others run 4-bit files."""
        return "16-bit weights"

    def prefill(self, tokens: Sequence[int]) -> float:
        """In one pass."""
        started = time.perf_counter()
        self._feed(tokens, None)
        return len(tokens) / (time.perf_counter() - started)

    def decode(self, prompt: Sequence[int], tokens: Sequence[int]) -> float:
        """One pass per token."""
        cache = self._feed(prompt, None).past_key_values
        started = time.perf_counter()
        for token in tokens:
            cache = self._feed([token], cache).past_key_values
        return len(tokens) / (time.perf_counter() - started)

    def last_logits(self, tokens: Sequence[int]) -> list[float]:
        """Logits after the last of some tokens."""
        return [float(value) for value in self._feed(tokens, None).logits[0, -1]]

    def close(self) -> None:
        """Nothing that the end of the process does not do."""

    def _feed(self, tokens: Sequence[int], cache: Any) -> Any:  # noqa: ANN401 - transformers' own types
        """One pass, until its logits are on the host."""
        with self._torch.inference_mode():
            ids = self._torch.tensor([list(tokens)], device=self._input_device)
            out = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            out.logits.cpu()
            return out


def _random_model(shape: ModelConfig) -> Any:  # noqa: ANN401 - transformers' own types
    """A random model of a shape, in 16 bits."""
    import torch

    transformers: Any = importlib.import_module("transformers")  # its models come without types
    fields: dict[str, Any] = {
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "num_experts_per_tok": shape.experts_per_token,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.max_position_embeddings,
    }
    config: Any
    if shape.family == "mixtral":
        config = transformers.MixtralConfig(
            **fields, num_local_experts=shape.experts, intermediate_size=shape.intermediate_size
        )
    else:
        config = transformers.Qwen3MoeConfig(
            **fields, num_experts=shape.experts, moe_intermediate_size=shape.intermediate_size
        )
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
