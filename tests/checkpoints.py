"""Small random Mixtrals and Qwen3-MoEs on disk, in the very layout that `save_pretrained` writes.

Written with numpy and the standard library alone, so that a test has its model in milliseconds and a broken file
can be made byte by byte. `tests/engine/checkpoint/test_checkpoint.py` holds that transformers loads what is written
here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config import DTypeName

SAFETENSORS_DTYPES: dict[str, str] = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
UNKNOWN_ID, BOS_ID, EOS_ID = 0, 1, 2
MIN_TOKENIZER_VOCAB = 3 + 256
FIXED_CONFIG: dict[str, Any] = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "hidden_act": "silu",
    "bos_token_id": BOS_ID,
    "eos_token_id": EOS_ID,
}
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %} {{ message['content'] }}{{ eos_token }}"
    "{% else %}[INST] {{ message['content'] }} [/INST]{% endif %}{% endfor %}"
)


def write_mixtral(
    folder: Path,
    *,
    layers: int = 2,
    hidden: int = 32,
    intermediate: int = 48,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int | None = None,
    experts: int = 4,
    experts_per_token: int = 2,
    vocab_size: int = 300,
    max_position_embeddings: int = 512,
    rms_norm_eps: float = 1e-5,
    rope_theta: float = 10000.0,
    sliding_window: int | None = None,
    tied: bool = False,
    dtype: DTypeName = "float32",
    shards: int = 1,
    seed: int = 0,
    tokenizer: bool = True,
) -> Path:
    """Write a random Mixtral that any loader can open, and return the folder.

    Weights are drawn with a standard deviation of 1/sqrt(fan in), so that logits and routing vary between tokens.

    Args:
        folder: Where to write; made if it is missing.
        head_dim: Width of one head; None for hidden / heads.
        vocab_size: At least 259 where a tokenizer is written.
        tied: Leave lm_head.weight out.
        dtype: Type of every weight.
        shards: Files to spread the tensors over; more than one adds an index.
        tokenizer: Also write a byte-level tokenizer with a chat template.

    The others are config.json's fields under shorter names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        **FIXED_CONFIG,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "num_local_experts": experts,
        "num_experts_per_tok": experts_per_token,
        "vocab_size": vocab_size,
        "max_position_embeddings": max_position_embeddings,
        "rms_norm_eps": rms_norm_eps,
        "rope_parameters": {"rope_theta": rope_theta, "rope_type": "default"},
        "sliding_window": sliding_window,
        "tie_word_embeddings": tied,
        "dtype": dtype,
    }
    _write_model(folder, config, shards, seed)
    if tokenizer:
        write_tokenizer(folder, vocab_size)
    return folder


def write_qwen3_moe(
    folder: Path,
    *,
    layers: int = 2,
    hidden: int = 32,
    intermediate: int = 16,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 16,
    experts: int = 4,
    experts_per_token: int = 2,
    vocab_size: int = 300,
    max_position_embeddings: int = 512,
    rms_norm_eps: float = 1e-6,
    rope_theta: float = 10000.0,
    normalise_top_k: bool = True,
    tied: bool = False,
    dtype: DTypeName = "float32",
    shards: int = 1,
    seed: int = 0,
    tokenizer: bool = True,
) -> Path:
    """Write a random Qwen3-MoE that any loader can open, and return the folder.

    Args:
        folder: Where to write; made if it is missing.
        intermediate: Width inside one expert.
        normalise_top_k: config.json's norm_topk_prob.

    The others are as for `write_mixtral`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "hidden_act": "silu",
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "hidden_size": hidden,
        "intermediate_size": 3 * intermediate,  # of dense layers, of which there are none
        "moe_intermediate_size": intermediate,
        "norm_topk_prob": normalise_top_k,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "num_experts": experts,
        "num_experts_per_tok": experts_per_token,
        "vocab_size": vocab_size,
        "max_position_embeddings": max_position_embeddings,
        "rms_norm_eps": rms_norm_eps,
        "rope_theta": rope_theta,
        "rope_scaling": None,
        "sliding_window": 4096,
        "use_sliding_window": False,
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
    }
    _write_model(folder, config, shards, seed)
    if tokenizer:
        write_tokenizer(folder, vocab_size)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Set top-level keys of a JSON file; `...` removes a key."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        if value is ...:
            content.pop(key, None)
        else:
            content[key] = value
    path.write_text(json.dumps(content), encoding="utf-8")


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[np.float32]], dtype: DTypeName = "float32") -> None:
    """Write float32 arrays as one safetensors file, converted to `dtype`."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts: list[bytes] = []
    offset = 0
    for name in sorted(tensors):
        data = encode(tensors[name], dtype)
        end = offset + len(data)
        header[name] = {
            "dtype": SAFETENSORS_DTYPES[dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, end],
        }
        parts.append(data)
        offset = end
    write_raw_safetensors(path, json.dumps(header).encode(), b"".join(parts))


def write_raw_safetensors(path: Path, header: bytes, data: bytes) -> None:
    """Write a safetensors file with exactly this header text, well formed or not."""
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def read_raw_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a safetensors file, without any check."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def encode(array: NDArray[np.float32], dtype: DTypeName) -> bytes:
    """The bytes of float32 values in a weight type; bfloat16 rounds to nearest even, as torch does."""
    if dtype == "float32":
        return array.astype("<f4").tobytes()
    if dtype == "float16":
        return array.astype("<f2").tobytes()
    bits = array.astype("<f4").view("<u4")
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype("<u2").tobytes()


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """Write a tokenizer with one token per byte, `<unk>` `<s>` `</s>` in front, and a chat template."""
    if vocab_size < MIN_TOKENIZER_VOCAB:
        raise ValueError(f"vocab_size {vocab_size} has no room for {MIN_TOKENIZER_VOCAB} tokens")
    specials = ["<unk>", "<s>", "</s>"]
    vocab = {token: index for index, token in enumerate([*specials, *byte_alphabet()])}
    bos = [{"SpecialToken": {"id": "<s>", "type_id": 0}}]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": token, **flags} for index, token in enumerate(specials)],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [*bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS_ID], "tokens": ["<s>"]}},
        },
        "decoder": byte_level,
        "model": {"type": "BPE", "unk_token": "<unk>", "vocab": vocab, "merges": []},
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _write_model(folder: Path, config: dict[str, Any], shards: int, seed: int) -> None:
    """Write config.json and random weights."""
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    generator = np.random.default_rng(seed)
    tensors = {name: _draw(generator, name, shape) for name, shape in _shapes(config)}
    _write_shards(folder, tensors, config.get("dtype") or config["torch_dtype"], shards)


def _shapes(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of a model, spelled out apart from the engine's own list."""
    wide = config["hidden_size"]
    head_dim = config["head_dim"] or wide // config["num_attention_heads"]
    q_width = head_dim * config["num_attention_heads"]
    kv_width = head_dim * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", (config["vocab_size"], wide)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (wide,)
        yield f"{prefix}.self_attn.q_proj.weight", (q_width, wide)
        yield f"{prefix}.self_attn.k_proj.weight", (kv_width, wide)
        yield f"{prefix}.self_attn.v_proj.weight", (kv_width, wide)
        yield f"{prefix}.self_attn.o_proj.weight", (wide, q_width)
        if config["model_type"] == "qwen3_moe":
            yield f"{prefix}.self_attn.q_norm.weight", (head_dim,)
            yield f"{prefix}.self_attn.k_norm.weight", (head_dim,)
        yield f"{prefix}.post_attention_layernorm.weight", (wide,)
        yield from _expert_shapes(config, prefix)
    yield "model.norm.weight", (wide,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], wide)


def _expert_shapes(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The router and the experts of one layer."""
    qwen, wide = config["model_type"] == "qwen3_moe", config["hidden_size"]
    block = f"{prefix}.mlp" if qwen else f"{prefix}.block_sparse_moe"
    experts = config["num_experts"] if qwen else config["num_local_experts"]
    narrow = config["moe_intermediate_size"] if qwen else config["intermediate_size"]
    gate, down, up = ("gate_proj", "down_proj", "up_proj") if qwen else ("w1", "w2", "w3")
    yield f"{block}.gate.weight", (experts, wide)
    for expert in range(experts):
        yield f"{block}.experts.{expert}.{gate}.weight", (narrow, wide)
        yield f"{block}.experts.{expert}.{down}.weight", (wide, narrow)
        yield f"{block}.experts.{expert}.{up}.weight", (narrow, wide)


def _draw(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Random weights of a sensible size; norms lie around 1."""
    values = generator.standard_normal(shape, dtype=np.float32)
    if name.endswith("norm.weight"):
        return np.float32(1) + np.float32(0.1) * values
    return values * np.float32(shape[-1] ** -0.5)


def _write_shards(folder: Path, tensors: dict[str, NDArray[np.float32]], dtype: DTypeName, shards: int) -> None:
    """One `model.safetensors`, or several files and their index."""
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
        return
    weight_map: dict[str, str] = {}
    names = list(tensors)
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        write_safetensors(folder / file, {name: tensors[name] for name in part}, dtype)
        weight_map |= dict.fromkeys(part, file)
    total = sum(len(encode(tensor, dtype)) for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte, byte 0 first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]
