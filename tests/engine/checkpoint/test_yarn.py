"""YaRN as transformers computes it, and what of it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GptOssConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from engine.checkpoint.checkpoint import read_config
from engine.checkpoint.model_config import read_model_config
from engine.config import ModelConfig
from engine.errors import CheckpointError
from engine.model.rotary import rotation_frequencies
from tests.checkpoints import edit_json
from tests.families import write_family, yarn_rope
from tests.family_gguf import write_family_gguf
from tests.gguf_files import FLOAT32

PUBLISHED: dict[str, Any] = {
    "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
    "truncate": False, "original_max_position_embeddings": 4096,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_family(tmp_path / "model", "gpt_oss", num_hidden_layers=1, head_dim=64)


def _expected(rope: dict[str, Any]) -> tuple[torch.Tensor, float]:
    config = GptOssConfig(head_dim=64, rope_parameters=dict(rope))
    frequencies, scale = ROPE_INIT_FUNCTIONS["yarn"](config)
    return frequencies, scale


def _check(config: ModelConfig, rope: dict[str, Any]) -> None:
    frequencies, scale = _expected(rope)
    for tokens in (1, 100_000):
        ours, our_scale = rotation_frequencies(config, tokens)
        torch.testing.assert_close(ours, frequencies, rtol=1e-6, atol=0)
        assert our_scale == pytest.approx(scale)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"truncate": True}, {"truncate": None}, {"attention_factor": 1.25}, {"beta_fast": 8, "beta_slow": 2},
        {"beta_fast": 4.0, "beta_slow": 4.0}, {"factor": 1.0}, {"original_max_position_embeddings": 64},
    ],
)  # fmt: skip
def test_frequencies_equal_transformers(folder: Path, changes: dict[str, Any]) -> None:
    rope = {name: value for name, value in {**PUBLISHED, **changes}.items() if value is not None}
    edit_json(folder / "config.json", rope_parameters=rope)
    _check(read_model_config(folder), rope)


def test_the_form_of_the_published_config(folder: Path) -> None:
    scaling = {name: value for name, value in PUBLISHED.items() if name != "rope_theta"}
    edit_json(folder / "config.json", rope_parameters=..., rope_scaling=scaling, rope_theta=150000)
    _check(read_model_config(folder), PUBLISHED)


def test_what_stands_in_for_a_missing_one(folder: Path) -> None:
    edit_json(folder / "config.json", rope_parameters=..., rope_theta=...)
    _check(read_model_config(folder), PUBLISHED)


def test_from_a_gguf_file(folder: Path) -> None:
    edit_json(folder / "config.json", rope_parameters=PUBLISHED)
    write_family_gguf(folder, folder.parent / "model.gguf")
    _check(read_config(folder.parent / "model.gguf"), PUBLISHED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": ...}, "lacks factor"),
        ({"factor": 0.5}, "factor is 0.5, not a number from 1"),
        ({"original_max_position_embeddings": 0}, "original_max_position_embeddings is 0"),
        ({"mscale": 0.7}, "mscale is 0.7, which is not supported"),
        ({"truncate": "no"}, "truncate is 'no', neither true nor false"),
        ({"rope_theta": 0}, "rope_theta is 0, not a number"),
    ],
)
def test_fields_outside_their_limits(folder: Path, changes: dict[str, Any], message: str) -> None:
    rope = {name: value for name, value in (yarn_rope() | changes).items() if value is not ...}
    edit_json(folder / "config.json", rope_parameters=rope)
    with pytest.raises(CheckpointError, match=message):
        read_model_config(folder)


@pytest.mark.parametrize("key", ["rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor", "rope.freq_base_swa"])
def test_keys_of_a_gguf_file_that_would_change_it(folder: Path, key: str) -> None:
    edit_json(folder / "config.json", rope_parameters=PUBLISHED)
    write_family_gguf(folder, folder.parent / "model.gguf", extra={key: (FLOAT32, 0.5)})
    with pytest.raises(CheckpointError, match=f"gpt-oss.{key} is 0.5, not a number from"):
        read_config(folder.parent / "model.gguf")
