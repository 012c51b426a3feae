"""Reads a Mixtral's config.json by our own schema.

Every number has a sane limit, so that an absurd file is refused by arithmetic and not by running out of memory.
`auto_map` and `_name_or_path` are never looked at: no code and no path comes out of a config.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from engine.checkpoint.model_folder import CONFIG, find_config
from engine.checkpoint.untrusted import quote, read_json_object
from engine.config import DTypeName, ModelConfig
from engine.errors import CheckpointError, UnsupportedModelError

SUPPORTED_FAMILIES = ("mixtral",)
MAX_CONFIG_BYTES = 4 << 20
MAX_LAYERS = 512
MAX_EXPERTS = 1024
MAX_HIDDEN = 1 << 16
MAX_INTERMEDIATE = 1 << 18
MAX_HEADS = 1024
MAX_HEAD_DIM = 1024
MAX_VOCAB = 1 << 21
MAX_POSITIONS = 1 << 24
MAX_NAME_CHARS = 80

DTYPES: tuple[DTypeName, ...] = get_args(DTypeName)
DEFAULT_DTYPE: DTypeName = "bfloat16"
DEFAULT_ROPE_THETA = 1e6
DEFAULT_RMS_NORM_EPS = 1e-5

_ARCHITECTURES = {"MixtralForCausalLM": "mixtral"}
_EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_tok")
_CHOOSE_MIXTRAL = "Choose a Mixtral folder; that is the architecture supported today."
_DOWNLOAD_CONFIG = f"Download {CONFIG} again from the model's publisher."


def read_model_config(folder: Path) -> ModelConfig:
    """The shape of the model in a folder, from its config.json alone.

    `dtype` is what the config says, bfloat16 where it says nothing; `Checkpoint.open` corrects it by the weights.

    Args:
        folder: A model folder.

    Raises:
        CheckpointError: The folder or config.json is missing or damaged, or a number is outside its limits.
        UnsupportedModelError: A sound config of a model that this engine does not run.
    """
    path = find_config(folder)
    content = read_json_object(path, MAX_CONFIG_BYTES)
    family = _family(content)
    _refuse_variants(content)
    fields = _Fields(content)
    hidden = fields.integer("hidden_size", 1, MAX_HIDDEN)
    heads = fields.integer("num_attention_heads", 1, MAX_HEADS)
    experts = fields.integer("num_local_experts", 1, MAX_EXPERTS)
    return ModelConfig(
        name=model_name(folder),
        family=family,
        hidden_size=hidden,
        intermediate_size=fields.integer("intermediate_size", 1, MAX_INTERMEDIATE),
        layers=fields.integer("num_hidden_layers", 1, MAX_LAYERS),
        heads=heads,
        kv_heads=_kv_heads(fields, heads),
        head_dim=_head_dim(fields, hidden, heads),
        experts=experts,
        experts_per_token=fields.integer("num_experts_per_tok", 1, experts),
        vocab_size=fields.integer("vocab_size", 1, MAX_VOCAB),
        max_position_embeddings=fields.integer("max_position_embeddings", 1, MAX_POSITIONS),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-12, 1.0, DEFAULT_RMS_NORM_EPS),
        rope_theta=_rope_theta(fields),
        sliding_window=fields.integer("sliding_window", 1, MAX_POSITIONS, null=0, absent=0) or None,
        tie_word_embeddings=fields.flag("tie_word_embeddings"),
        dtype=_dtype(content),
    )


def model_name(folder: Path) -> str:
    """What to call the model in a folder on screen: the folder's name, or the hub's name inside a hub cache."""
    try:
        folder = folder.resolve()
    except (OSError, RuntimeError, ValueError):
        folder = folder.absolute()
    name = folder.name
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        name = folder.parent.parent.name.rpartition("--")[2]
    words = re.sub(r"[\s_-]+", " ", "".join(char for char in name if char.isprintable())).strip()
    return (words[:1].upper() + words[1:MAX_NAME_CHARS]) or "Model"


@dataclass(frozen=True, slots=True)
class _Fields:
    """Typed, limited access to one JSON object of config.json."""

    content: dict[str, Any]

    def integer(self, name: str, low: int, high: int, *, null: int | None = None, absent: int | None = None) -> int:
        """A whole number in low..high; `null` and `absent` stand in for a null and a missing field where given."""
        if name not in self.content and absent is not None:
            return absent
        value = self._given(name)
        if value is None and null is not None:
            return null
        if type(value) is not int or not low <= value <= high:
            raise self.refusal(name, value, f"not a whole number from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float, absent: float) -> float:
        """A number in low..high."""
        value = self.content.get(name, absent)
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.refusal(name, value, f"not a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, name: str) -> bool:
        """A boolean, false where it is missing."""
        value = self.content.get(name, False)
        if not isinstance(value, bool):
            raise self.refusal(name, value, "neither true nor false")
        return value

    def refusal(self, name: str, value: object, limit: str) -> CheckpointError:
        """The error for a value outside its limits."""
        return CheckpointError(f"{CONFIG} says {name} is {quote(value)}, {limit}.", _DOWNLOAD_CONFIG)

    def _given(self, name: str) -> Any:  # noqa: ANN401 - parsed JSON
        """A field that must be there."""
        if name not in self.content:
            raise CheckpointError(f"{CONFIG} lacks {name}.", _DOWNLOAD_CONFIG)
        return self.content[name]


def _family(content: dict[str, Any]) -> str:
    """The architecture, refused unless this engine runs it."""
    named = content.get("model_type")
    if named is None:
        architectures = content.get("architectures")
        first = architectures[0] if isinstance(architectures, list) and architectures else None
        named = _ARCHITECTURES.get(first, first) if isinstance(first, str) else None
    if named is None:
        raise UnsupportedModelError(f"{CONFIG} does not say which architecture the model has.", _CHOOSE_MIXTRAL)
    if isinstance(named, str) and named in SUPPORTED_FAMILIES:
        return named
    if not _has_experts(content):
        raise UnsupportedModelError(
            f"The model ({CONFIG}: {quote(named)}) is a dense model, not a Mixture-of-Experts.", _CHOOSE_MIXTRAL
        )
    raise UnsupportedModelError(f"{CONFIG} names the architecture {quote(named)}, not supported yet.", _CHOOSE_MIXTRAL)


def _has_experts(content: dict[str, Any]) -> bool:
    """Whether a config speaks of experts, itself or one level down (`text_config`, `ffn_config`)."""
    nested = (value for value in content.values() if isinstance(value, dict))
    return any(part.get(key) for part in (content, *nested) for key in _EXPERT_COUNTS)


def _refuse_variants(content: dict[str, Any]) -> None:
    """Refuse what would load but compute something else."""
    quantization = content.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise UnsupportedModelError(
            f"{CONFIG} says that the weights are quantized ({quote(method)}), which is not supported yet.",
            "Choose the original bfloat16 version of the model.",
        )
    activation = content.get("hidden_act", "silu")
    if activation != "silu":
        raise UnsupportedModelError(f"{CONFIG} says hidden_act is {quote(activation)}, not 'silu'.", _CHOOSE_MIXTRAL)


def _kv_heads(fields: _Fields, heads: int) -> int:
    """Key/value heads, each shared by the same number of query heads; null means one for each."""
    kv_heads = fields.integer("num_key_value_heads", 1, MAX_HEADS, null=heads)
    if heads % kv_heads:
        raise fields.refusal("num_key_value_heads", kv_heads, f"no divisor of num_attention_heads {heads}")
    return kv_heads


def _head_dim(fields: _Fields, hidden: int, heads: int) -> int:
    """The width of a head: given, or hidden_size / num_attention_heads; even, for the rotary embedding."""
    head_dim = fields.integer("head_dim", 1, MAX_HEAD_DIM, null=0, absent=0)
    if not head_dim:
        if hidden % heads or hidden // heads > MAX_HEAD_DIM:
            limit = f"not a multiple of num_attention_heads {heads} up to {MAX_HEAD_DIM} times that"
            raise fields.refusal("hidden_size", hidden, limit)
        head_dim = hidden // heads
    if head_dim % 2:
        raise fields.refusal("head_dim", head_dim, "not an even number")
    return head_dim


def _rope_theta(fields: _Fields) -> float:
    """The base of the rotary embedding; only the plain kind is supported.

    Reads `rope_parameters` (transformers 5) and `rope_theta` with `rope_scaling` (before), in transformers' order.
    """
    rope = fields.content.get("rope_scaling") or fields.content.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise fields.refusal("rope_parameters", rope, "not an object")
    kind = rope.get("rope_type") or rope.get("type") or "default"
    plain = kind == "default" and not any(isinstance(value, dict) for value in rope.values())
    partial = rope.get("partial_rotary_factor", fields.content.get("partial_rotary_factor"))
    if not plain or partial not in (None, 1):
        raise UnsupportedModelError(
            f"{CONFIG} asks for the rotary embedding {quote(rope)}, of which only rope_type 'default' is supported.",
            _CHOOSE_MIXTRAL,
        )
    source = _Fields(rope) if "rope_theta" in rope else fields
    return source.number("rope_theta", 1.0, 1e12, DEFAULT_ROPE_THETA)


def _dtype(content: dict[str, Any]) -> DTypeName:
    """The type of the weights as the config says it, before the weights are asked."""
    stated = content.get("dtype") or content.get("torch_dtype") or DEFAULT_DTYPE
    plain = stated.removeprefix("torch.") if isinstance(stated, str) else stated
    for dtype in DTYPES:
        if plain == dtype:
            return dtype
    raise UnsupportedModelError(
        f"{CONFIG} says that the weights are {quote(stated)}, not one of {', '.join(DTYPES)}.",
        "Choose the bfloat16 version of the model.",
    )
