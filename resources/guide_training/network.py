"""The guide's shape, and its checkpoint in the layout of real Mixtral checkpoints on disk.

Letters: L layers, E experts, H hidden, I intermediate.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import MixtralConfig, MixtralForCausalLM

from resources.guide_training.vocabulary import MAX_TOKENS, SPECIAL_TOKENS, VOCABULARY_SIZE

LAYERS, EXPERTS, EXPERTS_PER_TOKEN = 6, 8, 2
HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM = 256, 224, 8, 2, 32
SLIDING_WINDOW = 256
SHARDS = 2

CONFIG: dict[str, Any] = {
    "architectures": ["MixtralForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": SPECIAL_TOKENS.index("<s>"),
    "eos_token_id": SPECIAL_TOKENS.index("</s>"),
    "pad_token_id": SPECIAL_TOKENS.index("<pad>"),
    "head_dim": HEAD_DIM,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": INTERMEDIATE,
    "max_position_embeddings": MAX_TOKENS,
    "model_type": "mixtral",
    "num_attention_heads": HEADS,
    "num_experts_per_tok": EXPERTS_PER_TOKEN,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": KV_HEADS,
    "num_local_experts": EXPERTS,
    "output_router_logits": False,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.02,
    "sliding_window": SLIDING_WINDOW,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": VOCABULARY_SIZE,
}
GENERATION: dict[str, Any] = {
    "bos_token_id": CONFIG["bos_token_id"],
    "eos_token_id": CONFIG["eos_token_id"],
    "pad_token_id": CONFIG["pad_token_id"],
    "do_sample": True,
    "temperature": 0.3,
    "top_p": 0.9,
}


def build(seed: int) -> MixtralForCausalLM:
    """Returns an untrained guide in float32."""
    torch.manual_seed(seed)
    config = MixtralConfig.from_dict({key: value for key, value in CONFIG.items() if key != "torch_dtype"})
    model = MixtralForCausalLM(config)
    model.set_experts_implementation("grouped_mm")
    return model


def load(folder: Path) -> MixtralForCausalLM:
    """Returns a saved guide in float32, ready to be trained further."""
    model = MixtralForCausalLM.from_pretrained(folder, dtype=torch.float32, experts_implementation="grouped_mm")
    model.train()
    return model


def disk_tensors(model: MixtralForCausalLM) -> dict[str, torch.Tensor]:
    """Returns the weights in bfloat16 under their names on disk.

    Each expert has its own w1 (gate) [I, H], w2 (down) [H, I] and w3 (up) [I, H].
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        for key, part in _split(name, tensor):
            tensors[key] = part.to(torch.bfloat16).contiguous().clone()
    return tensors


def _split(name: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    base = name.replace(".mlp.", ".block_sparse_moe.")
    parts: list[tuple[str, torch.Tensor]] = []
    if name.endswith("experts.gate_up_proj"):
        prefix = base.removesuffix("gate_up_proj")
        for expert, gate_up in enumerate(tensor):
            gate, up = gate_up.chunk(2)
            parts += [(f"{prefix}{expert}.w1.weight", gate), (f"{prefix}{expert}.w3.weight", up)]
    elif name.endswith("experts.down_proj"):
        prefix = base.removesuffix("down_proj")
        parts += [(f"{prefix}{expert}.w2.weight", down) for expert, down in enumerate(tensor)]
    else:
        parts.append((base, tensor))
    return parts


def save_model(model: MixtralForCausalLM, folder: Path) -> None:
    """Writes the shards, their index, `config.json` and `generation_config.json`."""
    tensors = disk_tensors(model)
    names = sorted(tensors, key=_reading_order)
    cut = len(names) // SHARDS
    weight_map: dict[str, str] = {}
    for shard in range(SHARDS):
        own = names[shard * cut : (shard + 1) * cut if shard + 1 < SHARDS else None]
        file = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors"
        save_file({name: tensors[name] for name in own}, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)
        weight_map.update(dict.fromkeys(own, file))
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / "model.safetensors.index.json", index)
    write_json(folder / "config.json", CONFIG)
    write_json(folder / "generation_config.json", GENERATION)


def _reading_order(name: str) -> tuple[int, str]:
    if name.startswith("model.layers."):
        return int(name.split(".")[2]), name
    return (-1 if "embed" in name else LAYERS), name


def write_json(path: Path, data: object) -> None:
    """Writes indented JSON with a final newline."""
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
