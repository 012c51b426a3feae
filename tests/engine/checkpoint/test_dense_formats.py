"""What is stored in blocks outside the experts is added up by format, the embedding apart where it is looked up."""

from __future__ import annotations

from dataclasses import replace

from engine.checkpoint.dense_formats import with_dense_formats
from engine.checkpoint.tensor_names import EMBEDDING, HEAD
from engine.traits import DenseBlocks
from tests.engine.shapes import TINY

ROWS = 20  # not whole strips
TENSORS = [
    (EMBEDDING, "Q8_0", (ROWS, 64)),
    (HEAD, "Q8_0", (ROWS, 64)),
    ("a", "Q4_0", (16, 64)),
    ("b", "Q4_0", (32, 64)),
    ("router", "F32", (4, 64)),
    ("norm", "F32", (64,)),
]
STRIPS = 32 * 64 // 32 * 34  # of an end in Q8_0


def test_matrices_are_added_up_by_format_and_the_embedding_is_apart() -> None:
    found = with_dense_formats(TINY, TENSORS)
    assert found.dense_blocks == (DenseBlocks("Q4_0", 48 * 64, 48 * 36), DenseBlocks("Q8_0", ROWS * 64, STRIPS))
    assert found.embedding_format == "Q8_0"
    assert found.dense_packed_bytes == 2 * STRIPS + 48 * 36 + 4 * 64 * 4 + 64 * 4


def test_an_embedding_that_is_lm_head_too_is_multiplied() -> None:
    tied = replace(TINY, tie_word_embeddings=True)
    found = with_dense_formats(tied, [tensor for tensor in TENSORS if tensor[0] != HEAD])
    assert found.dense_blocks[1] == DenseBlocks("Q8_0", ROWS * 64, STRIPS)
    assert found.embedding_format == "Q8_0"


def test_floats_are_no_blocks() -> None:
    found = with_dense_formats(TINY, [(EMBEDDING, "F16", (ROWS, 64)), ("a", "F32", (4, 64))])
    assert (found.dense_blocks, found.embedding_format) == ((), None)
