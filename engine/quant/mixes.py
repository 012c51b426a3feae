"""Which format each tensor of a quantised file gets, as llama.cpp's own quantiser chooses.

A mix ("Q4_K_M") names one format for most tensors and better ones for the few that suffer most. The rules are those of
`llama_tensor_get_type` in llama.cpp's src/llama-quant.cpp, for models without an importance matrix; the tests hold them
against that quantiser itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engine.quant.formats import FORMATS

Applies = Callable[["Place"], bool]

_FALLBACKS = {"Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}


@dataclass(frozen=True, slots=True)
class Mix:
    """One way to quantise a model.

    Attributes:
        base: The format of every tensor that no rule names.
        file_type: Its number in a GGUF file (llama_ftype).
    """

    base: str
    file_type: int


MIXES: Mapping[str, Mix] = MappingProxyType(
    {
        "F16": Mix("F16", 1),
        "Q4_0": Mix("Q4_0", 2),
        "Q4_1": Mix("Q4_1", 3),
        "Q8_0": Mix("Q8_0", 7),
        "Q5_0": Mix("Q5_0", 8),
        "Q5_1": Mix("Q5_1", 9),
        "Q3_K_M": Mix("Q3_K", 12),
        "Q4_K_S": Mix("Q4_K", 14),
        "Q4_K_M": Mix("Q4_K", 15),
        "Q5_K_S": Mix("Q5_K", 16),
        "Q5_K_M": Mix("Q5_K", 17),
        "Q6_K": Mix("Q6_K", 18),
        "IQ4_NL": Mix("IQ4_NL", 25),
        "IQ4_XS": Mix("IQ4_XS", 30),
        "MXFP4": Mix("Q8_0", 38),
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands in its model.

    Attributes:
        layer: Its layer; 0 outside the layers.
        layers: Layers of the model.
        experts: Experts per layer.
        query_groups: Query heads per key/value head.
    """

    layer: int
    layers: int
    experts: int
    query_groups: int


@dataclass(frozen=True, slots=True)
class _Rule:
    """In some mixes, tensors whose kind begins so get another format where the condition holds."""

    kind: str
    mixes: frozenset[str]
    format: str
    applies: Applies


def tensor_format(mix: str, name: str, columns: int, place: Place) -> str:
    """The format of one matrix.

    Args:
        mix: A key of `MIXES`.
        name: The tensor's name in a GGUF file, e.g. "blk.0.ffn_down_exps.weight".
        columns: Its columns, a multiple of 32.
        place: Where it stands.
    """
    kind = name.removesuffix(".weight").rpartition(".")[2]
    if kind.endswith(("_norm", "_inp", "_inp_shexp", "_sinks")):
        return "F32"
    base = MIXES[mix].base
    if FORMATS[base].is_float:
        return base
    wanted = _output(base, columns) if kind == "output" else _wanted(mix, kind, place)
    return wanted if columns % FORMATS[wanted].block_columns == 0 else _FALLBACKS[wanted]


def _output(base: str, columns: int) -> str:
    """The format of the matrix that makes logits."""
    return "Q8_0" if base == "Q8_0" or columns % FORMATS[base].block_columns else "Q6_K"


def _wanted(mix: str, kind: str, place: Place) -> str:
    """The format by the first rule that applies, whatever the columns."""
    for rule in _RULES:
        if kind.startswith(rule.kind) and mix in rule.mixes and rule.applies(place):
            return rule.format
    return MIXES[mix].base


def _always(place: Place) -> bool:
    del place
    return True


def _eight_experts(place: Place) -> bool:
    """The Mixtrals, whose attention is so small beside the experts that more bits cost nothing."""
    return place.experts == 8


def _shared_values(place: Place) -> bool:
    return place.query_groups >= 4


def _first(share: int) -> Applies:
    """The first 1/share of the layers."""
    return lambda place: place.layer < place.layers // share


def _first_layers(count: int) -> Applies:
    return lambda place: place.layer < count


def _more_bits(place: Place) -> bool:
    """The first and last eighth of the layers, and every third between."""
    layer, eighth = place.layer, place.layers // 8
    return layer < eighth or layer >= 7 * place.layers // 8 or (layer - eighth) % 3 == 2


_ALL = frozenset(MIXES)
_IQ4 = frozenset({"IQ4_NL", "IQ4_XS"})
_RULES = (
    _Rule("attn_k", _ALL, "Q8_0", _eight_experts),
    _Rule("attn_v", _ALL, "Q8_0", _eight_experts),
    _Rule("attn_v", frozenset({"Q3_K_M"}), "Q5_K", _first_layers(2)),
    _Rule("attn_v", frozenset({"Q3_K_M"}), "Q4_K", _always),
    _Rule("attn_v", _IQ4, "Q5_K", _shared_values),
    _Rule("attn_v", frozenset({"Q4_K_M", "Q5_K_M"}), "Q6_K", _more_bits),
    _Rule("attn_v", frozenset({"Q4_K_S"}), "Q5_K", _first_layers(4)),
    _Rule("attn_output", _IQ4 | {"Q3_K_M", "Q4_K_S", "Q4_K_M"}, "Q5_K", _eight_experts),
    _Rule("attn_output", frozenset({"Q3_K_M"}), "Q4_K", _always),
    _Rule("ffn_down", frozenset({"Q3_K_M"}), "Q5_K", _first(16)),
    _Rule("ffn_down", frozenset({"Q3_K_M"}), "Q4_K", _always),
    _Rule("ffn_down", frozenset({"Q4_K_M", "Q5_K_M"}), "Q6_K", _more_bits),
    _Rule("ffn_down", _IQ4 | {"Q4_K_S"}, "Q5_K", _first(8)),
    *(_Rule(f"ffn_{part}_exps", frozenset({"MXFP4"}), "MXFP4", _always) for part in ("gate", "up", "down")),
)
