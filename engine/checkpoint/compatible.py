"""Models of any other family whose experts this engine can take out of transformers' own decoder.

Which layers have experts, and how many, how wide and in which type, is told by the tensors' names and shapes: every
published family that transformers runs through its experts interface stores gate, up and down of each expert by
itself. config.json adds what memory must be planned for. That transformers knows the family is seen from its files, as
importing it takes seconds; that its experts compute nothing else, when the model is loaded
(`engine.model.compatible_weights`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from engine.checkpoint.families import FAMILIES
from engine.checkpoint.fields import (
    MAX_EXPERTS,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_INTERMEDIATE,
    MAX_LAYERS,
    MAX_POSITIONS,
    MAX_VOCAB,
    Fields,
    screen_name,
)
from engine.checkpoint.model_folder import CONFIG
from engine.checkpoint.tensor_names import HEAD, ExpertPart, Shape, expert_tensor
from engine.checkpoint.tensor_reader import TensorEntry
from engine.checkpoint.untrusted import quote
from engine.config import DTYPE_FORMATS, MIN_CONTEXT_TOKENS, ModelConfig
from engine.errors import CheckpointError, UnsupportedModelError
from engine.sentences import say
from engine.traits import Compatibility

_MODEL_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LAYER = re.compile(r"model\.layers\.(\d{1,4})\.")
_EXPERT = re.compile(r"model\.layers\.(\d{1,4})\.\w+\.experts\.(\d{1,4})\.(\w+)\.weight")
_PARTS: Mapping[str, ExpertPart] = {
    "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2", "w1": "w1", "w3": "w3", "w2": "w2",
}  # fmt: skip
_ACTIVE = ("num_experts_per_tok", "moe_k", "moe_topk", "num_experts_per_token", "moe_top_k", "top_k_experts")
_DTYPES = {name: dtype for dtype, name in DTYPE_FORMATS.items()}
_INTERFACE = "@use_experts_implementation"  # on a family's class of experts
_OTHER_MODEL = say("Choose a model of a family that is known to run, or its GGUF file.")
_DOWNLOAD = say("Download the model again from its publisher.")


def may_be_compatible(content: Mapping[str, Any]) -> bool:
    """Whether a config names a family that this engine's own decoders do not run, but transformers' does."""
    named = content.get("model_type")
    if not isinstance(named, str) or named in FAMILIES or "hidden_size" not in content:
        return False
    return _MODEL_TYPE.fullmatch(named) is not None and _has_experts_interface(named)


@cache
def _has_experts_interface(model_type: str) -> bool:
    """Whether the installed transformers runs the experts of a family through its common interface."""
    package = find_spec("transformers")
    if package is None or package.origin is None:
        return False
    code = Path(package.origin).parent / "models" / model_type / f"modeling_{model_type}.py"
    try:
        return _INTERFACE in code.read_text(encoding="utf-8")
    except OSError:
        return False


def read_compatible(
    name: str, content: Mapping[str, Any], stored: Mapping[str, TensorEntry]
) -> tuple[ModelConfig, dict[str, TensorEntry]]:
    """The model's shape, and the tensors that it needs: experts by the engine's names, all others by their own.

    Args:
        name: What to call the model.
        content: Of config.json; `may_be_compatible`.
        stored: Every tensor of the folder.

    Raises:
        CheckpointError: Experts are missing or differ in shape, or a number is outside its limits.
        UnsupportedModelError: The experts are stored in another way, or in a type that the engine does not run.
    """
    fields = Fields(content, CONFIG, say("Download {config} again from the model's publisher.", config=CONFIG))
    layers = fields.integer("num_hidden_layers", 1, MAX_LAYERS)
    experts, dense = _sort(stored, layers)
    if not experts:
        raise UnsupportedModelError(
            say(
                "The architecture {named} keeps its experts in a way that is not supported yet.",
                named=quote(content["model_type"]),
            ),
            _OTHER_MODEL,
        )
    moe_layers = tuple(sorted({layer for layer, _, _ in experts}))
    count = 1 + max(expert for _, expert, _ in experts)
    hidden = fields.integer("hidden_size", 1, MAX_HIDDEN)
    width, tensors = _experts_by_our_names(experts, moe_layers, min(count, MAX_EXPERTS), hidden)
    heads = fields.integer("num_attention_heads", 1, MAX_HEADS)
    kv_heads = fields.integer("num_key_value_heads", 1, MAX_HEADS, null=heads, absent=heads)
    head_dim = fields.integer("head_dim", 1, MAX_HEAD_DIM, null=0, absent=0) or max(1, hidden // heads)
    latent = _latent_numbers(fields, heads)
    config = ModelConfig(
        name=screen_name(name),
        family=content["model_type"],
        hidden_size=hidden,
        intermediate_size=width,
        layers=len(moe_layers),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        experts=count,
        experts_per_token=_active(fields, count),
        vocab_size=fields.integer("vocab_size", 1, MAX_VOCAB),
        max_position_embeddings=fields.integer("max_position_embeddings", MIN_CONTEXT_TOKENS, MAX_POSITIONS),
        tie_word_embeddings=HEAD not in stored,
        dtype=_DTYPES[_commonest_format(tensors)],
        compatibility=Compatibility(
            moe_layers=moe_layers,
            dense_parameters=sum(prod(entry.shape) for entry in dense.values()),
            kv_numbers=layers * (latent or 2 * kv_heads * head_dim),
            pair_weights=layers * (latent or 2 * heads * head_dim),
        ),
    )
    return config, tensors | dense


_Experts = dict[tuple[int, int, ExpertPart], TensorEntry]


def _sort(stored: Mapping[str, TensorEntry], layers: int) -> tuple[_Experts, dict[str, TensorEntry]]:
    """Experts, and the rest; layers beyond the last, which predict further tokens, are left out."""
    experts: _Experts = {}
    dense: dict[str, TensorEntry] = {}
    for name, entry in stored.items():
        in_layer, found = _LAYER.match(name), _EXPERT.fullmatch(name)
        if in_layer is not None and int(in_layer[1]) >= layers:
            continue
        if found is not None and found[3] in _PARTS:
            experts[int(found[1]), int(found[2]), _PARTS[found[3]]] = entry
        else:
            dense[name] = entry
    return experts, dense


def _experts_by_our_names(
    experts: _Experts, moe_layers: tuple[int, ...], count: int, hidden: int
) -> tuple[int, dict[str, TensorEntry]]:
    """The width inside an expert, and every expert's tensors; all layers have the same number of the same shape."""
    first = experts.get((moe_layers[0], 0, "w1"))
    width = first.shape[0] if first is not None and len(first.shape) == 2 else 0
    if not 0 < width <= MAX_INTERMEDIATE:
        raise CheckpointError(
            say("The first expert of layer {layer} is missing or has no width.", layer=moe_layers[0]), _DOWNLOAD
        )
    shapes: tuple[tuple[ExpertPart, Shape], ...] = (
        ("w1", (width, hidden)),
        ("w3", (width, hidden)),
        ("w2", (hidden, width)),
    )
    tensors: dict[str, TensorEntry] = {}
    for index, layer in enumerate(moe_layers):
        for expert in range(count):
            for part, shape in shapes:
                entry = experts.pop((layer, expert, part), None)
                if entry is None or entry.shape != shape:
                    raise CheckpointError(
                        say(
                            "Expert {expert} of layer {layer} is missing or has another shape than the others.",
                            expert=expert,
                            layer=layer,
                        ),
                        _DOWNLOAD,
                    )
                _check_format(entry)
                tensors[expert_tensor(index, expert, part)] = entry
    if experts:
        raise CheckpointError(say("Layers have different numbers of experts."), _DOWNLOAD)
    return width, tensors


def _check_format(entry: TensorEntry) -> None:
    """Hold that an expert is stored in floats."""
    if entry.format not in _DTYPES:
        raise UnsupportedModelError(
            say(
                "Tensor {entry} in {file} is stored as {format}, not one of {names}.",
                entry=quote(entry.name),
                file=quote(entry.file.name),
                format=entry.format,
                names=", ".join(_DTYPES),
            ),
            say("Choose the original bfloat16 version of the model."),
        )


def _commonest_format(tensors: Mapping[str, TensorEntry]) -> str:
    """What most experts are stored in."""
    return Counter(entry.format for entry in tensors.values()).most_common(1)[0][0]


def _active(fields: Fields, count: int) -> int:
    """Experts that a token visits; families differ in the word, and Hunyuan has a number for each layer."""
    for name in _ACTIVE:
        value = fields.content.get(name)
        if isinstance(value, list) and value and all(type(number) is int for number in value):
            value = max(value)
        if value is not None:
            return Fields({name: value}, fields.source, fields.remedy).integer(name, 1, count)
    return fields.integer(_ACTIVE[0], 1, count)


def _latent_numbers(fields: Fields, heads: int) -> int:
    """With latent attention, the numbers of all heads' keys and values of a token in one layer; 0 without."""
    if not fields.content.get("kv_lora_rank"):
        return 0
    parts = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    return heads * sum(fields.integer(part, 1, MAX_HEAD_DIM) for part in parts)
