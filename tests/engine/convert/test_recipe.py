"""What each tensor becomes."""

from __future__ import annotations

import pytest

from engine.checkpoint import tensor_names
from engine.convert.recipe import ConversionFormat, target_format


@pytest.mark.parametrize(
    ("conversion", "columns", "wanted"),
    [
        ("q4", 256, "Q4_K"), ("q4", 224, "Q4_1"), ("q4", 48, "BF16"),
        ("q8", 256, "Q8_0"), ("q8", 48, "BF16"), ("bf16", 256, "BF16"),
    ],
)  # fmt: skip
def test_matrices_take_the_first_format_whose_blocks_fit(
    conversion: ConversionFormat, columns: int, wanted: str
) -> None:
    for name in (tensor_names.expert_tensor(0, 1, "w2"), tensor_names.attention(3, "q")):
        assert target_format(conversion, name, (64, columns)) == wanted


def test_the_vocabulary_keeps_eight_bits() -> None:
    for name in (tensor_names.EMBEDDING, tensor_names.HEAD):
        assert target_format("q4", name, (300, 256)) == "Q8_0"
        assert target_format("bf16", name, (300, 256)) == "BF16"


@pytest.mark.parametrize("conversion", ["q4", "q8", "bf16"])
def test_norms_biases_and_routers_stay_in_full_floats(conversion: ConversionFormat) -> None:
    for name, shape in (
        (tensor_names.FINAL_NORM, (256,)),
        (tensor_names.attention_bias(0, "q"), (256,)),
        (tensor_names.router(0), (8, 256)),
        (tensor_names.shared_gate(0), (1, 256)),
    ):
        assert target_format(conversion, name, shape) == "F32"
