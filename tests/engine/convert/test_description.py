"""Converted files by themselves: the same model to this engine and to llama.cpp, or none at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.checkpoint.checkpoint import open_checkpoint
from engine.checkpoint.gguf_file import read_gguf_header
from engine.convert.conversion import convert
from engine.convert.description import describe
from engine.convert.workplace import WEIGHTS
from engine.errors import RooftopError
from engine.messages import Token
from engine.tokenizer import ChatTokenizer
from tests.checkpoints import write_mixtral, write_qwen3_moe
from tests.engine.checkpoint.test_gguf_oracle import TOKENS, llama_logits
from tests.engine.convert.test_conversion import shape_of
from tests.families import write_family


def write_olmoe(folder: Path, **changes: Any) -> Path:
    """As it is published."""
    return write_family(folder, "olmoe", **{"norm_topk_prob": False, "num_key_value_heads": 4, **changes})


CPU = EngineConfig(device="cpu", cpu_threads=1)
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "mixtral": lambda folder: write_mixtral(folder, rms_norm_eps=1e-5),
    "mixtral, tied": lambda folder: write_mixtral(folder, tied=True),
    "qwen3_moe": write_qwen3_moe,
    "qwen2_moe": lambda folder: write_family(folder, "qwen2_moe", norm_topk_prob=False),
    "olmoe": write_olmoe,
    "granitemoe": lambda folder: write_family(folder, "granitemoe", num_experts_per_tok=6),
    "granitemoeshared": lambda folder: write_family(folder, "granitemoeshared", num_experts_per_tok=6),
    "gpt_oss": lambda folder: write_family(folder, "gpt_oss"),
}
# llama.cpp rounds YaRN's ramp to whole pairs, which shows in heads as small as these.
LIKENESS = {"gpt_oss": 0.99}
UNSAID: dict[str, tuple[Callable[[Path], Path], str]] = {
    "window": (lambda folder: write_mixtral(folder, sliding_window=64), "sliding_window"),
    "normed": (lambda folder: write_olmoe(folder, norm_topk_prob=True), "normalise_top_k"),
    "clipped": (lambda folder: write_olmoe(folder, clip_qkv=3.0), "clip_qkv"),
    "grouped": (lambda folder: write_olmoe(folder, num_key_value_heads=2), "num_key_value_heads"),
    "routed": (lambda folder: write_family(folder, "phimoe"), "router_jitter_noise"),
    "no tokenizer": (lambda folder: write_mixtral(folder, tokenizer=False), "tokenizer.json"),
}


def alone(source: Path, folder: Path) -> Path:
    """The weights' file of a conversion, without the files beside it."""
    done = convert(source, folder / "converted", "bf16", describe=describe)
    assert done.notes == ()
    (folder / "alone").mkdir()
    return Path(shutil.copy(done.path / WEIGHTS, folder / "alone" / WEIGHTS))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_alone_is_the_same_model(family: str, tmp_path: Path) -> None:
    file = alone(FAMILIES[family](tmp_path / "source"), tmp_path)
    with open_checkpoint(tmp_path / "converted") as wanted, open_checkpoint(file) as found:
        for name in ("rms_norm_eps", "rope_theta", "family", "traits", "sliding_window"):
            object.__setattr__(found.config, name, getattr(wanted.config, name))
        assert shape_of(found.config) == shape_of(wanted.config)
    with Engine.load(str(tmp_path / "converted"), CPU) as engine:
        wanted_logits = engine.logits(TOKENS)
    with Engine.load(str(file), CPU) as engine:
        np.testing.assert_allclose(engine.logits(TOKENS), wanted_logits, atol=1e-4)
    ours, beside = ChatTokenizer.open(file), ChatTokenizer.open(tmp_path / "converted")
    assert ours.encode("Hello, w\u00f6rld </s> a") == beside.encode("Hello, w\u00f6rld </s> a")
    assert ours.eos_ids >= beside.eos_ids
    chat = [{"role": "user", "content": "Hi"}]
    assert ours.render_chat(chat) == beside.render_chat(chat)


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_the_same_with_the_file_alone(family: str, tmp_path: Path) -> None:
    file = alone(FAMILIES[family](tmp_path / "source"), tmp_path)
    theirs = llama_logits(file).astype(np.float64)
    with Engine.load(str(file), CPU) as engine:
        ours = engine.logits(TOKENS).astype(np.float64)
    assert float((ours * theirs).sum() / np.sqrt((ours**2).sum() * (theirs**2).sum())) > LIKENESS.get(family, 0.999)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "granitemoe"])
def test_llama_cpp_replies_the_same(family: str, tmp_path: Path) -> None:
    """From a text: both tokenizers, then the most likely token eight times."""
    llama_cpp = pytest.importorskip("llama_cpp")
    file = alone(FAMILIES[family](tmp_path / "source"), tmp_path)
    model = llama_cpp.Llama(model_path=str(file), n_ctx=128, n_threads=1, n_gpu_layers=0, verbose=False)
    prompt = "It's 2024, w\u00f6rld!"
    ids = model.tokenize(prompt.encode(), add_bos=True, special=True)
    theirs = [token for token, _ in zip(model.generate(ids, temp=0.0, repeat_penalty=1.0), range(8), strict=False)]
    model.close()
    with Engine.load(str(file), CPU) as engine:
        events = engine.generate(prompt, SamplingParams(max_tokens=8, temperature=0.0))
        ours = [event.id for event in events if isinstance(event, Token)]
    assert ids == ChatTokenizer.open(file).encode(prompt)
    assert ours == theirs[: len(ours)]
    assert ours


@pytest.mark.parametrize("model", UNSAID)
def test_what_gguf_cannot_say_is_noted_and_left_to_the_folder(model: str, tmp_path: Path) -> None:
    write, word = UNSAID[model]
    done = convert(write(tmp_path / "source"), tmp_path / "out", "q8", describe=describe)
    (note,) = done.notes
    assert note.startswith("Other programs cannot load the new file by itself.")
    assert word in note
    assert note in done.as_lines()
    metadata = read_gguf_header(done.path / WEIGHTS).metadata
    assert not any(key.startswith("tokenizer.") or key.endswith(".block_count") for key in metadata)
    with open_checkpoint(done.path):
        pass
    (done.path / "config.json").unlink()
    with pytest.raises(RooftopError) as caught:
        open_checkpoint(done.path)
    assert caught.value.remedy


def test_a_description_is_the_same_every_time(tmp_path: Path) -> None:
    """Otherwise nothing that was interrupted could go on."""
    source = write_qwen3_moe(tmp_path / "source")
    first, second = (convert(source, tmp_path / name, "q8", describe=describe) for name in ("a", "b"))
    assert (first.path / WEIGHTS).read_bytes() == (second.path / WEIGHTS).read_bytes()
    again = convert(source, tmp_path / "a", "q8", describe=describe)
    assert (again.tensors, again.notes) == (first.tensors, first.notes)
