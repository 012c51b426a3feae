"""The bundled guide in every format, on the native kernels: against transformers, against llama.cpp, and as a reader.

The oracle is transformers' eager model in fp32 with the weights that the file's blocks mean, as ggml tells. Activations
are rounded to eight bits beside blocks, so a router that finds two experts nearly equal may choose otherwise than in
fp32, and that token's logits can then be anything: the lowest cosine seen is 0.25, here and in llama.cpp alike, with
some 2 % of the tokens below 0.999 in both. Therefore agreement is asked of nearly all tokens, and of all of them where
the oracle takes the very experts that the engine took.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
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
from engine.config import ExpertFormats, IsaName
from engine.experts.record import CpuRecord
from engine.kernels.cpu_library import available_isas
from engine.messages import Token
from resources.guide_training import corpus
from tests.checkpoints import write_safetensors
from tests.engine.bench.tiny import QWEN3
from tests.gguf_files import write_gguf_qwen3moe
from tests.oracle import open_oracle, write_dequantised

gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.skipif(not available_isas(), reason="the native library was not built: no C++ compiler")

Floats = NDArray[np.float32]
Made = Callable[[str], Path]

ALIKE, SAME = 0.999, 0.99999  # cosines of two tokens' logits
PROMPTS, PROMPT_TOKENS = 10, 200
FEW = 3  # prompts, where the computation is slow
ROUTER_TIE = 0.2  # between two experts' logits, whose spread is about 1; 0.11 is the most that was seen
NEAR = 0.1  # between two tokens' logits, whose spread is 1 to 2
CPU = EngineConfig(device="cpu", cpu_threads=2, context_tokens=512)
ALONE = replace(CPU, cpu_threads=1)  # for many short steps: two threads wait long for each other on a busy machine
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


class TakenExperts:
    """What the engine's layers took since the last look."""

    def __init__(self) -> None:
        self._layers: defaultdict[int, list[NDArray[np.int32]]] = defaultdict(list)

    def forget(self) -> None:
        """Nothing was taken."""
        self._layers.clear()

    def add(self, first_layer: int, experts: NDArray[np.int32]) -> None:
        """Experts [layers, T, A] of the next tokens."""
        for layer, taken in enumerate(experts.copy(), first_layer):
            self._layers[layer].append(taken)

    def take(self) -> NDArray[np.int32]:
        """[L, T, A]."""
        experts = np.stack([np.concatenate(self._layers[layer]) for layer in sorted(self._layers)])
        self.forget()
        return experts


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> TakenExperts:
    """Listens to every engine of the test."""
    experts, record_pass = TakenExperts(), CpuRecord.record_pass

    def listen(record: CpuRecord, first: int, chosen: NDArray[np.int32], seconds: NDArray[np.float32]) -> None:
        experts.add(first, chosen)
        record_pass(record, first, chosen, seconds)

    monkeypatch.setattr(CpuRecord, "record_pass", listen)
    return experts


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


def agreements(
    oracle: Any, path: Path, config: EngineConfig, prompts: Sequence[list[int]], taken: TakenExperts
) -> tuple[Agreement, Agreement]:
    """The engine against the oracle that takes the engine's experts, and against the oracle that takes its own."""
    logits, routed = [], []
    with Engine.load(str(path), config) as engine:
        taken.forget()  # what measuring the machine chose
        for tokens in prompts:
            logits.append(engine.logits(tokens))
            expected, worse = read_with_experts(oracle, tokens, taken.take())
            assert worse.max() <= ROUTER_TIE, "an expert was taken that is clearly not among the best"
            routed.append(expected)
    return compare(logits, routed), compare(logits, [read(oracle, tokens) for tokens in prompts])


def check(path: Path, config: EngineConfig, prompts: Sequence[list[int]], taken: TakenExperts) -> Agreement:
    """Hold that the engine reads as the oracle does; returns how alike they are, each with its own experts."""
    same_experts, free = agreements(open_guide_oracle(path), path, config, prompts, taken)
    assert same_experts.cosines.min() >= 0.99
    assert same_experts.cosines.mean() >= 0.9998
    assert same_experts.unlike <= 0.01
    assert same_experts.same_choice >= 0.98
    assert np.median(free.cosines) >= 0.9999
    assert free.unlike <= 0.05
    assert free.same_choice >= 0.98
    return free


@pytest.mark.parametrize("name", [*PLAIN, *MIXED])
def test_every_format_agrees_with_the_oracle(
    made: Made, prompts: list[list[int]], taken: TakenExperts, name: str
) -> None:
    agreement = check(made(name), CPU, prompts, taken)
    assert agreement.cosines.mean() >= ALIKE
    if name == "F32":
        assert agreement.cosines.min() >= SAME


@pytest.mark.parametrize("name", ["Q4_0", "Q4_K_M"])
@pytest.mark.parametrize("isa", ["scalar", "avx2", "avxvnni", "avx512"])
def test_all_instructions_agree_with_the_oracle(
    made: Made, prompts: list[list[int]], taken: TakenExperts, isa: IsaName, name: str
) -> None:
    if isa not in available_isas():
        pytest.skip(f"this CPU or this build is without {isa}")
    check(made(name), replace(CPU, isa=isa), prompts[:FEW], taken)


@pytest.mark.parametrize("name", ["F32", "Q8_0", "Q4_K_M"])
def test_a_prompt_in_chunks_and_token_by_token_is_the_same(
    made: Made, prompts: list[list[int]], taken: TakenExperts, name: str
) -> None:
    path, tokens = made(name), prompts[0]

    def logits(config: EngineConfig, chunk_tokens: int) -> list[Floats]:
        with Engine.load(str(path), replace(config, prefill_chunk_tokens=chunk_tokens)) as engine:
            return [engine.logits(tokens)]

    at_once = logits(CPU, PROMPT_TOKENS)
    for config, chunk_tokens in ((CPU, 64), (ALONE, 64), (ALONE, 7), *([(ALONE, 1)] if name == "F32" else [])):
        assert compare(logits(config, chunk_tokens), at_once).cosines.min() >= SAME
    check(path, replace(ALONE, prefill_chunk_tokens=1), prompts[:FEW], taken)


@pytest.mark.parametrize("name", ["F32", "Q8_0"])
def test_a_prompt_longer_than_the_window_agrees_with_the_oracle(
    made: Made, prompts: list[list[int]], taken: TakenExperts, name: str
) -> None:
    """The file says how far the guide looks back."""
    tokens, path = prompts[0] + prompts[1], made(name)
    assert open_guide_oracle(path).config.sliding_window == 256 < len(tokens)
    agreement = check(path, CPU, [tokens], taken)
    if name == "F32":
        assert agreement.cosines.min() >= SAME


# ---- against llama.cpp ----------------------------------------------------------------------------------------------


class LlamaCpp:
    """llama.cpp on a file, greedily."""

    def __init__(self, path: Path) -> None:
        llama_cpp: Any = pytest.importorskip("llama_cpp", reason="compares with llama.cpp")
        self._model = llama_cpp.Llama(
            str(path), n_ctx=256, n_batch=256, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
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

    def close(self) -> None:
        self._model.close()


def assert_same_reply(engine: Engine, llama: LlamaCpp, prompt: list[int], count: int, end: int | None) -> int:
    """Hold that both reply alike, or first differ where two tokens are nearly equal; returns the reply's length."""
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
    """Held-out questions, until ten have had a reply of 32 tokens or more."""
    path, lengths = made(name), list[int]()
    questions = [question.text for question in corpus.load().held_out]
    with closing(LlamaCpp(path)) as llama, Engine.load(str(path), ALONE) as engine:
        (end,) = engine.tokenizer.eos_ids
        for question in random.Random(0).sample(questions, 40):
            prompt = engine.tokenizer.encode_chat([{"role": "user", "content": question}])
            lengths.append(assert_same_reply(engine, llama, prompt, 64, end))
            if sum(length >= 32 for length in lengths) == 10:
                return
    pytest.fail(f"the replies are short: {lengths}")


# ---- what rounding costs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled() -> Predictions:
    """What the guide as it is bundled makes of the text."""
    return predictions(GUIDE)


def predictions(model: str) -> Predictions:
    with Engine.load(model, CPU) as engine:
        return predict(engine, islice(held_out_windows(), 30))


@pytest.mark.parametrize(("name", "goal"), [("Q8_0", 0.005), ("Q4_0", 0.03), ("Q4_K_M", 0.03)])
def test_perplexity_stays_near_the_bundled_guides(made: Made, bundled: Predictions, name: str, goal: float) -> None:
    assert len(bundled.losses) > 5000
    found = predictions(str(made(name)))
    assert found.perplexity <= (1 + goal) * bundled.perplexity
    assert found.opening_perplexity <= (1 + goal) * bundled.opening_perplexity
    assert np.mean(found.choices == bundled.choices) >= 0.99


# ---- Qwen3-MoE ------------------------------------------------------------------------------------------------------

TOKENS = [int(token) for token in np.random.default_rng(5).integers(3, 300, 200)]
K_MIX: list[ExpertFormats] = [("Q4_K", "Q4_K", "Q6_K"), ("Q4_K", "Q4_K", "Q4_K")]


@pytest.mark.parametrize(
    ("formats", "dense"), [([("F32",) * 3], "F32"), ([("Q8_0",) * 3], "Q8_0"), (K_MIX, "Q6_K")], ids=str
)
def test_qwen3_of_random_blocks_agrees_with_the_oracle(
    tmp_path: Path, taken: TakenExperts, formats: list[ExpertFormats], dense: str
) -> None:
    """Its routers find two experts nearly equal everywhere, so the oracle must take the same."""
    path = write_gguf_qwen3moe(tmp_path / "m.gguf", formats=formats, dense_format=dense)
    oracle = open_oracle(write_dequantised(path, tmp_path / "dequantised"))
    same_experts, free = agreements(oracle, path, CPU, [TOKENS], taken)
    assert same_experts.cosines.mean() >= ALIKE
    assert same_experts.cosines.min() >= 0.99
    if dense == "F32":
        assert free.cosines.min() >= SAME


@pytest.mark.parametrize("mix", ["Q8_0", "Q4_K_M"])
def test_qwen3_with_clear_routers_agrees_with_the_oracle_and_llama_cpp(
    folder: Path, taken: TakenExperts, mix: str
) -> None:
    path = model_file(folder, QWEN3, mix)
    oracle = open_oracle(write_dequantised(path, folder / f"qwen3-{mix}"))
    same_experts, free = agreements(oracle, path, CPU, [TOKENS], taken)
    assert same_experts.cosines.min() >= ALIKE
    assert free.cosines.mean() >= ALIKE
    assert free.unlike <= 0.05
    with closing(LlamaCpp(path)) as llama, Engine.load(str(path), ALONE) as engine:
        for first in range(0, 100, 10):
            assert_same_reply(engine, llama, TOKENS[first : first + 10], 16, None)
