"""Loads transformers' decoder of any family without its experts; imported only where needed, as that takes seconds."""

from __future__ import annotations

import re
from typing import Any

import torch
import transformers
from torch import nn
from transformers.integrations.moe import _default_apply_gate
from transformers.monkey_patching import clear_patch_mapping, register_patch_mapping

from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.model_config import read_config_json
from engine.checkpoint.tensor_names import expected_tensors
from engine.config import ModelConfig
from engine.devices import Device
from engine.errors import CheckpointError, UnsupportedModelError
from engine.kernels.packed import TORCH_FLOATS
from engine.model.compatible_decoder import ExpertsSlot
from engine.model.weight_reader import Progress, WeightReader
from engine.model.weights import TORCH_DTYPES
from engine.quant.formats import FORMATS
from engine.sentences import Sentence, say

_LAYER = re.compile(r"layers\.(\d+)\.")
_OTHER_MODEL = say("Choose a model of a family that is known to run, or its GGUF file.")
# What transformers' code may raise on a file's numbers.
_REFUSALS = (
    ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, ArithmeticError, AssertionError,
    ImportError, NotImplementedError,
)  # fmt: skip


def load_compatible(checkpoint: Checkpoint, device: Device, progress: Progress) -> nn.Module:
    """The decoder of transformers, with its dense weights on the device, and no experts.

    Args:
        checkpoint: Of a model with `compatibility`.
        device: Where to, counted under the term "dense".
        progress: Called with the bytes read after every tensor; may raise to stop.

    Raises:
        CheckpointError: A file is truncated, unreadable or holds NaN, or config and weights do not fit together.
        UnsupportedModelError: transformers does not know the family, or its experts compute something else.
        DeviceOutOfMemoryError: The device's budget does not hold the weights.
    """
    model = checkpoint.config
    compatibility = model.compatibility
    assert compatibility is not None
    config = _transformers_config(checkpoint)
    causal: Any = transformers.AutoModelForCausalLM._model_mapping[type(config)]  # there is no public way to the class
    replaced = _experts_classes(causal, config, model)
    device.reserve("dense", model.dense_bytes)
    experts = {name for name, _ in expected_tensors(model)}
    dense: dict[str, torch.Tensor] = {}
    with WeightReader(checkpoint, progress) as reader:
        for name, entry in checkpoint.tensors.items():
            if name in experts:
                continue
            dense[name] = torch.empty(entry.shape, dtype=TORCH_FLOATS[FORMATS[entry.format].name])
            reader.read(name, dense[name])
    register_patch_mapping(dict.fromkeys(replaced, ExpertsSlot))
    try:
        loaded, notes = causal.from_pretrained(
            None,
            config=config,
            state_dict=dense,
            dtype=TORCH_DTYPES[model.dtype],
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, in a sentence of our own
        )
    finally:
        clear_patch_mapping()
    for key in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if notes.get(key):
            first = min(notes[key])
            raise _do_not_fit(first if isinstance(first, str) else first[0])  # with both shapes, where they differ
    whole: nn.Module = loaded.eval().to(device.torch_device)
    return whole


def _transformers_config(checkpoint: Checkpoint) -> transformers.PretrainedConfig:
    """config.json as transformers reads it: no code of the model's own is ever run."""
    content = dict(read_config_json(checkpoint.path))
    family = content.pop("model_type")
    content.pop("auto_map", None)
    content.pop("quantization_config", None)
    try:
        config = transformers.AutoConfig.for_model(family, **content)
        known = type(config) in transformers.AutoModelForCausalLM._model_mapping
    except _REFUSALS as error:
        raise _not_known(family) from error
    if not known:
        raise _not_known(family)
    config._attn_implementation = "sdpa"  # as transformers asks for it itself
    return config


def _experts_classes(causal: type[nn.Module], config: transformers.PretrainedConfig, model: ModelConfig) -> set[str]:
    """Names of the classes that hold experts, made sure to be of the one kind that our kernels compute."""
    compatibility = model.compatibility
    assert compatibility is not None
    try:
        with torch.device("meta"):
            whole = causal(config)
    except _REFUSALS as error:
        raise _not_known(model.family) from error
    found = {name: part for name, part in whole.named_modules() if hasattr(part, "has_gate")}
    layers = tuple(sorted(int(match[1]) for match in map(_LAYER.search, found) if match))
    plain = all(
        part.has_gate
        and part.is_concatenated
        and not (part.has_bias or getattr(part, "has_post_expert_norm", False))  # transformers 5.17 knows none
        and type(part)._apply_gate is _default_apply_gate
        and isinstance(part.act_fn, nn.SiLU | transformers.activations.SiLUActivation)
        for part in found.values()
    )
    if not found or not plain:
        raise _not_known(model.family)
    if layers != compatibility.moe_layers:
        raise _do_not_fit(_first_difference(layers, compatibility.moe_layers))
    return {type(part).__name__ for part in found.values()}


def _first_difference(layers: tuple[int, ...], stored: tuple[int, ...]) -> Sentence:
    """The first layer that has experts in one account only."""
    return say("layer {number}", number=min(set(layers) ^ set(stored)))


def _not_known(family: str) -> UnsupportedModelError:
    """The error for a family that cannot be run."""
    return UnsupportedModelError(
        say("The architecture {family} is not supported: its experts cannot be run from here.", family=family),
        _OTHER_MODEL,
    )


def _do_not_fit(name: str) -> CheckpointError:
    """The error for weights that are not those of the config."""
    return CheckpointError(
        say("config.json and the weights do not fit together at {name}.", name=name),
        say("Download the model again from its publisher."),
    )
