"""What rounding costs the guide: `python -m engine.bench.perplexity` prints one line per format.

The text is fixed: chats of held-out questions, each followed by one of its topic's answers, in windows that the guide
overlooks as a whole. Only answers count, since the guide never learned to ask. Most of an answer follows from how it
begins, which the guide knows by heart: how well it understood the question shows in the first token of each answer,
which is therefore given apart. "same" is the share of the tokens where the format's first choice is that of the guide
as it is bundled.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from engine.bench.guide_gguf import MIXED, PLAIN, guide_file
from engine.checkpoint.catalog import GUIDE, guide_path, resolve_model
from engine.checkpoint.checkpoint import open_checkpoint
from engine.config import EngineConfig, IsaName, KvPrecision
from engine.engine import Engine
from engine.errors import InputError, RooftopError
from engine.tokenizer import ChatTokenizer
from resources.guide_training import corpus

SEED = 0
WINDOW_TOKENS = 256  # as far as the guide looks back
WINDOWS = 40
DEFAULT_FORMATS = ("Q8_0", "Q6_K", "Q5_0", "Q4_K_M", "Q4_0", "IQ4_NL", "MXFP4")


@dataclass(frozen=True, slots=True)
class Window:
    """Some questions and answers in a row.

    Attributes:
        tokens: Ids, at most `WINDOW_TOKENS`.
        answers: Where the answers' tokens are.
        openings: Those of `answers` that begin one.
    """

    tokens: tuple[int, ...]
    answers: tuple[int, ...]
    openings: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model made of every token of the answers.

    Attributes:
        losses: Minus the logarithm of the token's probability.
        choices: The token that it found most likely.
        opening: Whether the token begins an answer.
    """

    losses: NDArray[np.float64]
    choices: NDArray[np.int64]
    opening: NDArray[np.bool_]

    @property
    def perplexity(self) -> float:
        """Of the answers."""
        return float(np.exp(self.losses.mean()))

    @property
    def opening_perplexity(self) -> float:
        """Of the answers' first tokens."""
        return float(np.exp(self.losses[self.opening].mean()))


@dataclass(frozen=True, slots=True)
class Row:
    """One format's figures.

    Attributes:
        name: The format.
        bits: Per weight.
        predictions: What it made of the text.
    """

    name: str
    bits: float
    predictions: Predictions


def held_out_windows() -> Iterator[Window]:
    """The text, window by window; what is left at its end and fills no window is not used."""
    texts, tokenizer, draw = corpus.load(), ChatTokenizer.open(guide_path()), random.Random(SEED)
    answers = texts.answers_by_topic()
    chat = _Chat(tokenizer)
    for question in draw.sample(texts.held_out, len(texts.held_out)):
        answer = draw.choice(answers[question.topic])
        if not chat.add(question.text, answer):
            yield chat.window()
            chat = _Chat(tokenizer)
            chat.add(question.text, answer)


class _Chat:
    """A window being filled."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        (self._end,) = tokenizer.eos_ids
        self._messages: list[dict[str, str]] = []
        self._tokens: list[int] = []
        self._answers: list[int] = []
        self._openings: list[int] = []

    def add(self, question: str, answer: str) -> bool:
        """Add a question and its answer; False where they do not fit."""
        asked = [*self._messages, {"role": "user", "content": question}]
        prompt = self._tokenizer.encode_chat(asked)
        tokens = [*prompt, *self._tokenizer.encode(answer, bos=False), self._end]
        if len(tokens) > WINDOW_TOKENS:
            return False
        self._messages = [*asked, {"role": "assistant", "content": answer}]
        self._tokens = tokens
        self._answers += range(len(prompt), len(tokens))
        self._openings.append(len(prompt))
        return True

    def window(self) -> Window:
        """What was added."""
        return Window(tuple(self._tokens), tuple(self._answers), tuple(self._openings))


def predict(engine: Engine, windows: Iterable[Window]) -> Predictions:
    """Let a model read the text, window by window."""
    losses, choices, opening = [], [], []
    for window in windows:
        places = np.array(window.answers)
        logits = engine.logits(window.tokens)[places - 1].astype(np.float64)
        best = logits.max(axis=1)
        right = logits[np.arange(len(places)), np.array(window.tokens)[places]]
        losses.append(np.log(np.exp(logits - best[:, None]).sum(axis=1)) + best - right)
        choices.append(logits.argmax(axis=1))
        opening.append(np.isin(places, window.openings))
    return Predictions(np.concatenate(losses), np.concatenate(choices), np.concatenate(opening))


def measure(model: str, name: str, windows: Iterable[Window], config: EngineConfig) -> Row:
    """One format's figures.

    Args:
        model: What `Engine.load` takes.
        name: What to call it.
        windows: The text.
        config: How to run it.

    Raises:
        RooftopError: As `Engine.load`.
    """
    with Engine.load(model, config) as engine:
        return Row(name, _bits(model), predict(engine, windows))


def _bits(model: str) -> float:
    """Bits of one weight, on average."""
    with open_checkpoint(resolve_model(model)) as checkpoint:
        shape = checkpoint.config
        weights = shape.dense_parameters + shape.total_experts * shape.expert_parameters
        return 8 * checkpoint.total_bytes / weights


def as_table(base: Row, rows: Sequence[Row]) -> str:
    """The figures beside those of the guide as it is bundled, ready to print."""
    first = base.predictions
    lines = [f"{'':8}{'bits':>6}{'perplexity':>12}{'change':>9}{'first token':>13}{'change':>9}{'same':>9}"]
    for row in (base, *rows):
        found = row.predictions
        change = found.perplexity / first.perplexity - 1
        opening_change = found.opening_perplexity / first.opening_perplexity - 1
        same = np.mean(found.choices == first.choices)
        lines.append(
            f"{row.name:8}{row.bits:6.2f}{found.perplexity:12.4f}{change:+9.2%}"
            f"{found.opening_perplexity:13.4f}{opening_change:+9.2%}{same:9.2%}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the formats that the command line names; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        config = EngineConfig(device="cpu", isa=options.isa, context_tokens=WINDOW_TOKENS)
        windows = list(islice(held_out_windows(), options.windows))
        base = measure(GUIDE, "bundled", windows, config)
        rows, formats = [], options.formats or DEFAULT_FORMATS
        if options.kv_precision:
            config, formats = replace(config, kv_precision=options.kv_precision), options.formats
            rows = [measure(GUIDE, f"KV {options.kv_precision}", windows, config)]
        rows += [measure(str(guide_file(options.models, name)), name, windows, config) for name in formats]
    except RooftopError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    print(as_table(base, rows))
    return 0


def _parser() -> argparse.ArgumentParser:
    known = (*PLAIN, *MIXED)
    parser = argparse.ArgumentParser(prog="python -m engine.bench.perplexity", description="What rounding costs.")
    add = parser.add_argument
    add("formats", nargs="*", type=_one_of(known), metavar="FORMAT", help=f"any of {', '.join(known)}")
    add("--windows", type=int, default=WINDOWS, metavar="N", help=f"of {WINDOW_TOKENS} tokens; there are about 100")
    add("--isa", choices=get_args(IsaName), default="auto", help="instructions of the CPU kernels")
    add(
        "--kv-precision",
        choices=get_args(KvPrecision),
        help="of the KV cache; of the guide itself where no format is named",
    )
    add("--models", type=Path, default=Path("build/bench"), metavar="DIR", help="where the files are kept")
    return parser


def _one_of(known: Sequence[str]) -> Callable[[str], str]:
    """A check of an argument; `choices` would refuse that there is none."""

    def check(name: str) -> str:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is no format")
        return name

    return check


if __name__ == "__main__":
    sys.exit(main())
