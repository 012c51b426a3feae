"""Both engines answer the same calls: each from an empty context, with speeds above zero and the same logits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.bench.models import Shape, model_file
from engine.bench.peers import BATCH_TOKENS, LlamaCpp, Peer, Rooftop
from engine.errors import ConfigurationError, EngineFailure
from tests.checkpoints import write_mixtral
from tests.engine.bench.tiny import MIXTRAL, QWEN3, VOCABULARY

PROMPT = [300, 17, 400, 256, 9]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("gguf")
    return str(model_file(tmp_path_factory.mktemp("peers"), MIXTRAL, "Q4_0"))


@pytest.fixture(params=["rooftop", "llama.cpp"])
def peer(request: pytest.FixtureRequest, file: str) -> Iterator[Peer]:
    if request.param == "llama.cpp":
        pytest.importorskip("llama_cpp")
    peer = Rooftop(file, 1, 1024) if request.param == "rooftop" else LlamaCpp(file, 1, 1024)
    yield peer
    peer.close()


def test_speeds_are_above_zero(peer: Peer) -> None:
    assert peer.prefill(PROMPT) > 0
    assert peer.decode(PROMPT, [5, 6, 7]) > 0
    assert peer.details


def test_every_call_starts_from_an_empty_context(peer: Peer) -> None:
    first = peer.last_logits(PROMPT)
    peer.decode(PROMPT[::-1], [5, 6, 7])
    assert peer.last_logits(PROMPT) == first
    assert len(first) == VOCABULARY


def test_long_prompts_come_in_batches(peer: Peer) -> None:
    prompt = [index % VOCABULARY for index in range(BATCH_TOKENS + 100)]
    assert peer.prefill(prompt) > 0
    assert np.isfinite(peer.last_logits(prompt)).all()


@pytest.mark.parametrize("mix", ["F16", "Q4_0", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K"])
@pytest.mark.parametrize("shape", [MIXTRAL, QWEN3], ids=lambda shape: shape.name)
def test_both_engines_compute_the_same(tmp_path: Path, shape: Shape, mix: str) -> None:
    pytest.importorskip("llama_cpp")
    path = str(model_file(tmp_path, shape, mix))
    ours, theirs = Rooftop(path, 1, 64), LlamaCpp(path, 1, 64)
    left, right = np.array(ours.last_logits(PROMPT)), np.array(theirs.last_logits(PROMPT))
    ours.close()
    theirs.close()
    assert left @ right / np.linalg.norm(left) / np.linalg.norm(right) > 0.98


def test_this_engine_takes_whatever_it_can_load(tmp_path: Path) -> None:
    peer = Rooftop(str(write_mixtral(tmp_path / "m")), 1, 64)
    assert peer.decode([5, 6], [7, 8]) > 0
    peer.close()


def test_unknown_instructions_are_refused(file: str) -> None:
    with pytest.raises(ConfigurationError, match="isa is 'mmx'"):
        Rooftop(file, 1, 64, "mmx")


def test_llama_cpp_says_what_it_cannot_do(tmp_path: Path, file: str) -> None:
    pytest.importorskip("llama_cpp")
    with pytest.raises(EngineFailure, match="cannot load"):
        LlamaCpp(str(tmp_path / "nope.gguf"), 1, 64)
    peer = LlamaCpp(file, 1, 64)
    with pytest.raises(EngineFailure, match="stopped with code 1"):
        peer.prefill([5] * 600)
    peer.close()


def test_llama_cpp_without_a_gpu_refuses_to_use_one(file: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("it was built with one")
    with pytest.raises(EngineFailure, match="built without a GPU"):
        LlamaCpp(file, 1, 64, cpu_layers=1)


def test_experts_that_stay_on_the_cpu_change_no_result(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    plain = LlamaCpp(file, 1, 64)
    expected = plain.last_logits(PROMPT)
    plain.close()
    # Without a GPU, llama.cpp reads the same overrides and finds the CPU's buffers in all of them.
    monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: True)
    peer = LlamaCpp(file, 1, 64, cpu_layers=2, batch_tokens=64)
    patterns = [entry.pattern for entry in peer._overrides]
    assert patterns[0] == rb"blk\.0\.ffn_(up|down|gate|gate_up)_(ch|)exps"
    assert [pattern is None for pattern in patterns] == [False, False, True]
    assert all(entry.buffer_type for entry in peer._overrides[:2])
    found = np.array(peer.last_logits(PROMPT))
    peer.close()
    assert found @ np.array(expected) / np.linalg.norm(found) / np.linalg.norm(expected) > 0.999
