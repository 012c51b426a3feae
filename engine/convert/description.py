"""What a converted file says of its model by itself: all of it, so that other programs can load it, or nothing.

Half a description would be worse than none: a program that finds a shape without what the model computes beyond it
would run it a little wrong. The files beside the weights are what this engine reads in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.checkpoint.tensor_reader import TensorEntry
from engine.config import ModelConfig
from engine.convert.shape_metadata import shape_metadata
from engine.convert.source import Description
from engine.convert.tokenizer_metadata import tokenizer_metadata
from engine.errors import RooftopError
from engine.sentences import say


def describe(folder: Path, config: ModelConfig, tensors: Mapping[str, TensorEntry]) -> Description:
    """Say in GGUF's words what a folder's config and tokenizer say.

    Args:
        folder: The model's own.
        config: Its shape.
        tensors: Those of the new file, by their names there.
    """
    try:
        shape = shape_metadata(folder, config, tensors)
        tokenizer = tokenizer_metadata(folder, config.vocab_size, config.name)
    except RooftopError as error:
        note = say("Other programs cannot load the new file by itself. {reason}", reason=error.message)
        return Description({}, (note,))
    return Description({**shape, **tokenizer.metadata}, tokenizer.notes)
