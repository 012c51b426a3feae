"""A family's safetensors folder as GGUF, converted as llama.cpp's own converter does it.

Names come from the `gguf` package's tables, which that converter uses. Blocks come from its quantisers, and a second
folder tells in fp32 what they mean, for transformers to compute with.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests.gguf_files import FLOAT32, STRING, UINT32, Gguf, Tensor, Value, gguf_model

ARCHITECTURES = {
    "olmoe": "olmoe", "granitemoe": "granitemoe", "granitemoeshared": "granitemoe", "qwen2_moe": "qwen2moe",
    "phimoe": "phimoe", "gpt_oss": "gpt-oss",
}  # fmt: skip
_CONSTANTS = {
    "olmoe": "OLMOE", "granitemoe": "GRANITE_MOE", "qwen2moe": "QWEN2MOE", "phimoe": "PHIMOE", "gpt-oss": "GPT_OSS",
}  # fmt: skip
_EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(\w+\.weight)")
_SMALL = re.compile(r".*(router|moe\.gate|mlp\.gate|shared_expert_gate|norm)\b.*|.*[._]bias|.*sinks")
_TURNED = re.compile(r".*\.mlp\.experts\.(gate_up|down)_proj")  # gpt-oss's experts have inputs as rows

Array = NDArray[Any]
Kind = gguf.GGMLQuantizationType


def write_family_gguf(
    folder: Path,
    path: Path,
    stored: str = "F32",
    extra: Mapping[str, Value] = MappingProxyType({}),
    long_factors: Sequence[float] | None = (),
) -> Path:
    """Write the model of a folder as GGUF; returns a folder of what its weights mean.

    Args:
        folder: What `write_family` wrote, in float32.
        path: The file to write.
        stored: The format of every matrix but routers.
        extra: More metadata, without the architecture's name before it.
        long_factors: To write instead of the config's; None leaves them out.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = ARCHITECTURES[config["model_type"]]
    constant = getattr(gguf.MODEL_ARCH, _CONSTANTS[architecture])
    names = gguf.get_tensor_name_map(constant, config["num_hidden_layers"])
    model = Gguf(_metadata(config, architecture))
    model.metadata += [(f"{architecture}.{key}", value) for key, value in extra.items()]
    meant: dict[str, Array] = {}
    blocks: dict[str, tuple[Kind, Array]] = {}
    for name, weights in load_file(folder / "model.safetensors").items():
        kind = Kind.F32 if _SMALL.fullmatch(name) else Kind.__members__[stored]
        turned = _TURNED.fullmatch(name) is not None
        rows = np.ascontiguousarray(weights.swapaxes(1, 2)) if turned else weights
        blocks[name] = kind, gguf.quantize(rows, kind)
        means = gguf.dequantize(blocks[name][1], kind).reshape(rows.shape)
        meant[name] = np.ascontiguousarray(means.swapaxes(1, 2)) if turned else means
    for name, kind, rows in _converted(config, blocks):
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert target is not None, name
        block_columns, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        columns = rows.view(np.uint8).shape[-1] // block_bytes * block_columns
        model.tensors.append(Tensor(target, (*rows.shape[:-1], columns), rows.tobytes(), int(kind)))
    for key in ("short", "long") if "long_factor" in config["rope_parameters"] else ():
        given = long_factors if key == "long" else ()
        if given is None:
            continue
        factors = np.array(given or config["rope_parameters"][f"{key}_factor"], dtype=np.float32)
        model.tensors.append(Tensor(f"rope_factors_{key}.weight", factors.shape, factors.tobytes(), int(Kind.F32)))
    path.write_bytes(model.encode())
    out = path.with_name(f"{path.stem}-meant")
    shutil.copytree(folder, out)
    save_file(meant, out / "model.safetensors", {"format": "pt"})
    return out


def _converted(config: dict[str, Any], blocks: dict[str, tuple[Kind, Array]]) -> Iterator[tuple[str, Kind, Array]]:
    """Every tensor of the GGUF file under a name that llama.cpp's tables know."""
    stacks: dict[str, dict[int, Array]] = {}
    kinds: dict[str, Kind] = {}
    for name, (kind, rows) in blocks.items():
        expert = _EXPERT.fullmatch(name)
        if expert is not None:
            stack = f"{expert[1]}.{expert[3]}"
            stacks.setdefault(stack, {})[int(expert[2])] = rows
            kinds[stack] = kind
        elif name.endswith("input_linear.weight"):
            gate, up = np.split(rows, 2, axis=-2)
            layer, _, owner = name.removesuffix(".input_linear.weight").rpartition(".")
            words = ("mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj")
            if owner == "block_sparse_moe":
                words = ("block_sparse_moe.experts.w1", "block_sparse_moe.experts.w3")
            yield f"{layer}.{words[0]}.weight", kind, gate
            yield f"{layer}.{words[1]}.weight", kind, up
        elif config["model_type"] == "gpt_oss" and ".mlp.experts." in name:
            yield from _alternating(name, kind, rows)
        elif name.endswith(".sinks"):
            yield f"{name}.weight", kind, rows
        elif config["model_type"].startswith("granitemoe") and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            yield name, kind, rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)
        else:
            yield name, kind, rows.reshape(-1) if len(rows) == 1 else rows
    for stack, experts in stacks.items():
        yield stack, kinds[stack], np.stack([experts[index] for index in sorted(experts)])


def _alternating(name: str, kind: Kind, rows: Array) -> Iterator[tuple[str, Kind, Array]]:
    """gpt-oss's matrices [E, rows, columns] and biases [E, rows], gate and up apart."""
    ending = "bias" if name.endswith("_bias") else "weight"
    stem = name.removesuffix("_bias")
    if stem.endswith("gate_up_proj"):
        for first, word in enumerate(("gate_proj", "up_proj")):
            yield stem.replace("gate_up_proj", f"{word}.{ending}"), kind, np.ascontiguousarray(rows[:, first::2])
    else:
        yield f"{stem}.{ending}", kind, rows


def _metadata(config: dict[str, Any], architecture: str) -> list[tuple[str, Value]]:
    """What the converter writes about a model; its vocabulary is that of every GGUF file of these tests."""
    experts, rope = config.get("num_local_experts") or config.get("num_experts"), config["rope_parameters"]
    stretched = [("rope.scaling.type", (STRING, "yarn"))] if rope["rope_type"] == "yarn" else []
    numbers = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "expert_count": experts,
        "expert_used_count": config["num_experts_per_tok"],
        "vocab_size": config["vocab_size"],
        "rope.scaling.original_context_length": rope.get("original_max_position_embeddings")
        or config.get("original_max_position_embeddings"),
        "expert_feed_forward_length": config.get("moe_intermediate_size")
        or (config["intermediate_size"] if architecture == "gpt-oss" else None),
        "expert_shared_feed_forward_length": config.get("shared_expert_intermediate_size")
        or config.get("shared_intermediate_size"),
        "attention.sliding_window": config["sliding_window"] if architecture == "gpt-oss" else None,
        "attention.key_length": config.get("head_dim"),
        "attention.value_length": config.get("head_dim"),
    }
    factors = {
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": rope["rope_theta"],
        "rope.scaling.attn_factor": rope.get("short_mscale"),
        "rope.scaling.factor": rope.get("factor"),
        "rope.scaling.yarn_beta_fast": rope.get("beta_fast"),
        "rope.scaling.yarn_beta_slow": rope.get("beta_slow"),
        "embedding_scale": config.get("embedding_multiplier"),
        "residual_scale": config.get("residual_multiplier"),
        "attention.scale": config.get("attention_multiplier"),
        "logit_scale": config.get("logits_scaling"),
    }
    vocabulary = [(key, value) for key, value in gguf_model().metadata if key.startswith("tokenizer.")]
    return [
        ("general.architecture", (STRING, architecture)),
        ("general.name", (STRING, "Random weights")),
        *((f"{architecture}.{key}", (UINT32, value)) for key, value in numbers.items() if value is not None),
        *((f"{architecture}.{key}", (FLOAT32, value)) for key, value in factors.items() if value is not None),
        *((f"{architecture}.{key}", value) for key, value in stretched),
        *vocabulary,
    ]
