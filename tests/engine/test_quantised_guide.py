"""The bundled guide in every format, on the native kernels: against transformers, against llama.cpp, and as a reader.

The oracle is transformers' eager model in fp32 with the weights that the file's blocks mean, as ggml tells. Activations
are rounded to eight bits beside blocks, so routers whose second and third expert are nearly equal may choose otherwise
than in fp32, in llama.cpp as here; such a token's logits can be anything (the lowest cosine seen is 0.6, and llama.cpp
has as low ones on the same text). Therefore agreement is asked of nearly all tokens, and of all of them where the
oracle takes the very experts that the engine took.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine import Engine, EngineConfig, SamplingParams
from engine.bench.guide_gguf import MIXED, PLAIN, guide_file
from engine.bench.models import model_file
from engine.bench.perplexity import Predictions, held_out_windows, predict
from engine.checkpoint.catalog import GUIDE, guide_path
from engine.config import IsaName
from engine.experts.record import CpuRecord
from engine.kernels.cpu_library import available_isas
from engine.messages import Token
from resources.guide_training import corpus
from tests.checkpoints import write_safetensors
from tests.engine.bench.tiny import QWEN3
from tests.oracle import open_oracle, oracle_logits, write_dequantised

gguf = pytest.importorskip("gguf")

Floats = NDArray[np.float32]
Made = Callable[[str], Path]

ALIKE = 0.999  # cosine of two tokens' logits
PROMPTS, PROMPT_TOKENS = 3, 200
ROUTER_TIE = 0.15  # between routers' logits; 0.083 is the most that was seen, and their spread is about 2
NEAR = 0.1  # between two tokens' logits, whose spread is about 4
CPU = EngineConfig(device="cpu", cpu_threads=2, context_tokens=512)
DENSE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate_inp": "block_sparse_moe.gate",
}
EXPERTS = {"ffn_gate_exps": "w1", "ffn_up_exps": "w3", "ffn_down_exps": "w2"}


# ---- the models -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guide")


@pytest.fixture(scope="module")
def made(folder: Path) -> Made:
    """Makes the guide in a format."""

    def make(name: str) -> Path:
        if name in MIXED:
            pytest.importorskip("llama_cpp", reason="llama.cpp makes the mixes (pip install llama-cpp-python)")
        return guide_file(folder, name)

    return make


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    return [list(window.tokens[:PROMPT_TOKENS]) for window in islice(held_out_windows(), PROMPTS)]


def dequantised(path: Path) -> Iterator[tuple[str, Floats]]:
    """The weights of the guide's file by transformers' names, read apart from the engine."""
    config = json.loads((guide_path() / "config.json").read_text(encoding="utf-8"))
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in gguf.GGUFReader(path).tensors:
        *place, kind = tensor.name.removesuffix(".weight").split(".")
        prefix = f"model.layers.{place[1]}." if place else ""
        weights = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if kind in heads:  # a head's halves alternate in the file
            pairs = weights.reshape(heads[kind], -1, 2, weights.shape[-1])
            weights = pairs.swapaxes(1, 2).reshape(weights.shape)
        if kind in EXPERTS:
            for expert, matrix in enumerate(weights):
                yield f"{prefix}block_sparse_moe.experts.{expert}.{EXPERTS[kind]}.weight", matrix
        else:
            yield f"{prefix}{DENSE[kind]}.weight", weights


def open_guide_oracle(path: Path) -> Any:
    """transformers' model of what a file of the guide means."""
    folder = path.with_suffix(".oracle")
    if not folder.exists():
        folder.mkdir()
        shutil.copy(guide_path() / "config.json", folder)
        write_safetensors(folder / "model.safetensors", dict(dequantised(path)))
    return open_oracle(folder)


def read(oracle: Any, tokens: Sequence[int]) -> Floats:
    """The oracle's logits [T, V]."""
    with torch.inference_mode():
        logits: Floats = oracle(torch.tensor([tokens])).logits[0].numpy()
    return logits


def read_with_experts(oracle: Any, tokens: Sequence[int], experts: NDArray[np.int32]) -> tuple[Floats, Floats]:
    """The oracle's logits where its layers take these experts [L, T, A], and what its routers find worse about them.

    Returns:
        [T, V], and [L, T]: by how much a router's logit of one of the experts is below that of its own choice.
    """
    worse = []

    def route(chosen: torch.Tensor, output: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = output[0]
        taken = logits.gather(1, chosen)
        worse.append((logits.topk(chosen.shape[1]).values - taken.sort(descending=True).values).amax(dim=1).numpy())
        return logits, torch.softmax(taken, dim=-1), chosen

    with ExitStack() as hooks:
        for layer, chosen in zip(oracle.model.layers, torch.from_numpy(experts.astype(np.int64)), strict=True):
            hook = layer.mlp.gate.register_forward_hook(lambda _, __, output, chosen=chosen: route(chosen, output))
            hooks.callback(hook.remove)
        return read(oracle, tokens), np.stack(worse)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.int32]]:
    """The experts [1, T, A] that the engine's layers took, pass by pass."""
    passes: list[NDArray[np.int32]] = []
    record_pass = CpuRecord.record_pass

    def listen(record: CpuRecord, first: int, experts: NDArray[np.int32], seconds: NDArray[np.float32]) -> None:
        passes.append(experts.copy())
        record_pass(record, first, experts, seconds)

    monkeypatch.setattr(CpuRecord, "record_pass", listen)
    return passes


# ---- against transformers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How alike two models' logits are, token by token."""

    cosines: NDArray[np.float64]
    same_choice: float

    @property
    def unlike(self) -> float:
        """The share of the tokens whose logits point elsewhere."""
        return float(np.mean(self.cosines < ALIKE))


def compare(logits: Sequence[Floats], expected: Sequence[Floats]) -> Agreement:
    left, right = np.concatenate(logits).astype(np.float64), np.concatenate(expected).astype(np.float64)
    cosines = (left * right).sum(axis=1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))
    return Agreement(cosines, float(np.mean(left.argmax(axis=1) == right.argmax(axis=1))))


def assert_nearly_all_agree(agreement: Agreement) -> None:
    assert agreement.cosines.mean() >= ALIKE
    assert np.median(agreement.cosines) >= 0.9999
    assert agreement.unlike <= 0.05
    assert agreement.same_choice >= 0.98


@pytest.mark.parametrize("name", [*PLAIN, *MIXED])
def test_every_format_agrees_with_the_oracle(
    made: Made, prompts: list[list[int]], chosen: list[NDArray[np.int32]], name: str
) -> None:
    path = made(name)
    oracle = open_guide_oracle(path)
    logits, routed, worse = [], [], []
    with Engine.load(str(path), CPU) as engine:
        for tokens in prompts:
            chosen.clear()
            logits.append(engine.logits(tokens))
            expected, loss = read_with_experts(oracle, tokens, np.concatenate(chosen))
            routed.append(expected)
            worse.append(loss)
    free = compare(logits, [read(oracle, tokens) for tokens in prompts])
    same_experts = compare(logits, routed)
    assert_nearly_all_agree(free)
    assert same_experts.cosines.min() >= 0.99
    assert same_experts.unlike <= 0.01
    assert same_experts.same_choice >= 0.98
    assert max(loss.max() for loss in worse) <= ROUTER_TIE, "an expert was taken that is clearly not the best"
    if name == "F32":
        assert free.cosines.min() >= 0.99999


@pytest.mark.parametrize("name", ["Q4_0", "Q4_K_M"])
@pytest.mark.parametrize("isa", ["scalar", "avx2", "avxvnni", "avx512"])
def test_all_instructions_agree_with_the_oracle(made: Made, prompts: list[list[int]], isa: IsaName, name: str) -> None:
    if isa not in available_isas():
        pytest.skip(f"this CPU or this build is without {isa}")
    path = made(name)
    oracle = open_guide_oracle(path)
    with Engine.load(str(path), EngineConfig(device="cpu", isa=isa, cpu_threads=2, context_tokens=512)) as engine:
        logits = [engine.logits(tokens) for tokens in prompts]
    assert_nearly_all_agree(compare(logits, [read(oracle, tokens) for tokens in prompts]))


@pytest.mark.parametrize("name", ["F32", "Q8_0", "Q4_K_M"])
def test_a_prompt_in_chunks_and_token_by_token_is_the_same(made: Made, prompts: list[list[int]], name: str) -> None:
    path = made(name)

    def logits(chunk_tokens: int) -> list[Floats]:
        config = EngineConfig(device="cpu", cpu_threads=2, context_tokens=512, prefill_chunk_tokens=chunk_tokens)
        with Engine.load(str(path), config) as engine:
            return [engine.logits(tokens) for tokens in prompts]

    at_once, by_token = logits(512), logits(1)
    for chunk_tokens in (64, 7):
        assert compare(logits(chunk_tokens), at_once).cosines.min() >= 0.99999
    if name == "F32":
        assert compare(by_token, at_once).cosines.min() >= 0.99999
    else:
        assert_nearly_all_agree(compare(by_token, at_once))
        oracle = open_guide_oracle(path)
        assert_nearly_all_agree(compare(by_token, [read(oracle, tokens) for tokens in prompts]))


@pytest.mark.parametrize("name", ["F32", "Q8_0"])
def test_a_prompt_longer_than_the_window_agrees_with_the_oracle(
    made: Made, prompts: list[list[int]], name: str
) -> None:
    """The file says how far the guide looks back."""
    tokens, path = prompts[0] + prompts[1], made(name)
    oracle = open_guide_oracle(path)
    assert oracle.config.sliding_window == 256 < len(tokens)
    with Engine.load(str(path), CPU) as engine:
        agreement = compare([engine.logits(tokens)], [read(oracle, tokens)])
    assert_nearly_all_agree(agreement)
    if name == "F32":
        assert agreement.cosines.min() >= 0.99999


# ---- against llama.cpp ----------------------------------------------------------------------------------------------


class LlamaCpp:
    """llama.cpp on a file, greedily."""

    def __init__(self, path: Path) -> None:
        llama_cpp: Any = pytest.importorskip("llama_cpp", reason="compares with llama.cpp")
        self._model = llama_cpp.Llama(
            str(path), n_ctx=256, n_batch=256, n_threads=2, n_threads_batch=2, logits_all=True, verbose=False
        )

    def reply(self, prompt: Sequence[int], count: int, end: int | None) -> tuple[list[int], list[Floats]]:
        """The next tokens, `end` the last of them if it comes, and the logits that each was taken from."""
        self._model.reset()
        reply: list[int] = []
        logits: list[Floats] = []
        batch = list(prompt)
        while len(reply) < count and end not in reply:
            self._model.eval(batch)
            logits.append(np.array(self._model.scores[self._model.n_tokens - 1]))
            reply.append(int(logits[-1].argmax()))
            batch = reply[-1:]
        return reply, logits

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(self, *_: object) -> None:
        self._model.close()


def assert_same_reply(engine: Engine, llama: LlamaCpp, prompt: list[int], count: int, end: int | None) -> int:
    """Hold that both engines reply alike, or else first differ where two tokens are nearly equal; the reply's length."""
    theirs, their_logits = llama.reply(prompt, count, end)
    sampling = SamplingParams(max_tokens=len(theirs), temperature=0.0, ignore_eos=True)
    ours = [event.id for event in engine.generate(prompt, sampling) if isinstance(event, Token)]
    assert len(ours) == len(theirs)
    if ours != theirs:
        at = next(place for place, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)
        our_logits = engine.logits([*prompt, *ours[:at]])[-1]
        assert abs(float(our_logits[ours[at]] - our_logits[theirs[at]])) < NEAR
        assert abs(float(their_logits[at][ours[at]] - their_logits[at][theirs[at]])) < NEAR
    return len(theirs)


@pytest.mark.parametrize("name", ["F32", "BF16", "Q8_0", "Q4_0"])
def test_replies_equal_llama_cpps(made: Made, name: str) -> None:
    texts = corpus.load()
    answers, path = texts.answers_by_topic(), made(name)
    with LlamaCpp(path) as llama, Engine.load(str(path), CPU) as engine:
        tokenizer = engine.tokenizer
        long = {topic for topic, known in answers.items() if min(len(tokenizer.encode(text)) for text in known) >= 36}
        questions = [question.text for question in texts.held_out if question.topic in long]
        (end,) = tokenizer.eos_ids
        for question in random.Random(0).sample(questions, 10):
            prompt = tokenizer.encode_chat([{"role": "user", "content": question}])
            assert assert_same_reply(engine, llama, prompt, 64, end) >= 32, question


# ---- what rounding costs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled() -> Predictions:
    """What the guide as it is bundled makes of the text."""
    return predictions(GUIDE)


def predictions(model: str) -> Predictions:
    with Engine.load(model, CPU) as engine:
        return predict(engine, islice(held_out_windows(), 40))


@pytest.mark.parametrize(("name", "goal"), [("Q8_0", 0.005), ("Q4_0", 0.03), ("Q4_K_M", 0.03), ("IQ4_NL", 0.03)])
def test_perplexity_stays_near_the_bundled_guides(made: Made, bundled: Predictions, name: str, goal: float) -> None:
    assert len(bundled.losses) > 5000
    found = predictions(str(made(name)))
    assert found.perplexity <= (1 + goal) * bundled.perplexity
    assert found.opening_perplexity <= (1 + goal) * bundled.opening_perplexity
    assert np.mean(found.choices == bundled.choices) >= 0.99


# ---- Qwen3-MoE ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mix", ["Q8_0", "Q4_K_M"])
def test_random_qwen3_agrees_with_the_oracle_and_llama_cpp(folder: Path, mix: str) -> None:
    """Random weights; the routers' are large, so that few tokens find two experts nearly equal."""
    path = model_file(folder, QWEN3, mix)
    tokens = [int(token) for token in np.random.default_rng(5).integers(3, QWEN3.vocabulary, 200)]
    expected = oracle_logits(write_dequantised(path, folder / f"qwen3-{mix}"), tokens)
    with Engine.load(str(path), CPU) as engine:
        agreement = compare([engine.logits(tokens)], [expected])
        assert agreement.cosines.mean() >= ALIKE
        assert agreement.unlike <= 0.05
        with LlamaCpp(path) as llama:
            for first in range(0, 50, 10):
                assert_same_reply(engine, llama, tokens[first : first + 10], 16, None)
