"""What a model in transformers' decoder takes of the memory: `python -m engine.bench.compatible_memory`.

Writes a random DeepSeek-V3 whose weights are nearly all in experts, then loads it and computes a prompt in a process of
its own, and prints the most memory that this process ever held beside the size of the weights. Experts that passed
through transformers would be there twice, in its modules and where our executor keeps them: then "of the weights" is
near 200 %.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.bench.peer_process import peak_rss_bytes
from engine.config import EngineConfig
from engine.engine import Engine

GB = 1e9
PROMPT = list(range(1, 17))
LAYERS, HIDDEN, NARROW = 4, 1024, 512
_EXPERT_BYTES = 3 * HIDDEN * NARROW * 2
SHAPE: dict[str, Any] = {
    "vocab_size": 1024, "hidden_size": HIDDEN, "intermediate_size": 1024, "moe_intermediate_size": NARROW,
    "num_hidden_layers": LAYERS + 1, "first_k_dense_replace": 1, "num_attention_heads": 8, "num_key_value_heads": 8,
    "num_experts_per_tok": 4, "n_shared_experts": 1, "n_group": 2, "topk_group": 1, "q_lora_rank": 128,
    "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64,
    "max_position_embeddings": 512,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Memory:
    """One process that loaded a model and computed with it.

    Attributes:
        weights_bytes: Of the model's files.
        imported_bytes: The most memory before anything was loaded, all libraries included.
        loaded_bytes: The most by the time that it was loaded.
        computed_bytes: The most in all, after a prompt.
    """

    weights_bytes: int
    imported_bytes: int
    loaded_bytes: int
    computed_bytes: int

    @property
    def share(self) -> float:
        """What the model took at most, beyond the libraries, as a share of its weights."""
        return (self.computed_bytes - self.imported_bytes) / self.weights_bytes


def write_random(folder: Path, size_gb: float) -> Path:
    """A random DeepSeek-V3 in bfloat16 of about some size; what is there already is kept."""
    if (folder / "config.json").exists():
        return folder
    experts = max(8, round(size_gb * GB / LAYERS / _EXPERT_BYTES / 2) * 2)
    command = [sys.executable, "-m", __spec__.name, "--write", str(folder), "--experts", str(experts)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def measure(folder: Path) -> Memory:
    """Load a model and compute a prompt in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--load", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Memory(**json.loads(done.stdout))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.write is not None:
        _write(options.write, options.experts)
    elif options.load is not None:
        print(json.dumps(asdict(_load(options.load))))
    else:
        memory = measure(write_random(options.folder / f"deepseek-v3-{options.gb:g}gb", options.gb))
        print(f"weights on the drive        {memory.weights_bytes / GB:6.2f} GB")
        print(f"peak memory, libraries only {memory.imported_bytes / GB:6.2f} GB")
        print(f"peak memory, loaded         {memory.loaded_bytes / GB:6.2f} GB")
        print(f"peak memory, after a prompt {memory.computed_bytes / GB:6.2f} GB")
        print(f"the model's, of the weights {memory.share:6.0%}")
    return 0


def _write(folder: Path, experts: int) -> None:
    """Have transformers make the model and write it, in this process."""
    transformers = importlib.import_module("transformers")
    config = transformers.AutoConfig.for_model("deepseek_v3", n_routed_experts=experts, **SHAPE)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype="bfloat16")
    model.save_pretrained(folder)


def _load(folder: Path) -> Memory:
    """Load the model and compute in this process."""
    importlib.import_module("engine.model.compatible_weights")
    importlib.import_module("transformers.models.deepseek_v3.modeling_deepseek_v3")
    imported = peak_rss_bytes()
    with Engine.load(str(folder), EngineConfig(device="cpu", context_tokens=64)) as engine:
        loaded = peak_rss_bytes()
        engine.logits(PROMPT)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    # Linux counts pages in batches: what it calls the most may be some dozens fewer than it called so before.
    return Memory(weights, imported, loaded, max(loaded, peak_rss_bytes()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine.bench.compatible_memory", description="Peak memory.")
    add = parser.add_argument
    add("--gb", type=float, default=1.5, help="size of the random model, about")
    add("--folder", type=Path, default=Path("build/bench"), metavar="DIR", help="where it is written")
    add("--write", type=Path, help=argparse.SUPPRESS)
    add("--experts", type=int, default=8, help=argparse.SUPPRESS)
    add("--load", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
