"""Trains the guide from scratch on the CPU: `python -m resources.guide_training.train --out DIR [--minutes N]`.

Rows of packed conversations; cross-entropy weighted to the assistant's tokens, plus a load-balancing loss per layer
(Switch Transformer, arXiv 2101.03961, eq. 4), plus the cross-entropy of the question's topic, told by a linear head
on a late layer that is thrown away afterwards. Most rows hold only the openings of replies: what is hard is to find
the topic, not to recite the answer. The learning rate follows the clock, so the order of the data is
repeatable but the number of steps depends on the machine; `--steps` fixes that too.
"""

import argparse
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional
from transformers import MixtralForCausalLM

from resources.guide_training import corpus, network, vocabulary
from resources.guide_training.dialogues import Dialogues
from resources.guide_training.vocabulary import Encoded

ROW_TOKENS = 512
ROWS = 4
PEAK_RATE = 1.5e-3
FINAL_RATE_SHARE = 0.02
WARM_UP_STEPS = 80
WEIGHT_DECAY = 0.1
BALANCE_WEIGHT = 0.08
TOPIC_WEIGHT = 0.5
TOPIC_LAYER = 3
OPENINGS_SHARE = 0.65
LOG_EVERY_STEPS = 50
SAVE_EVERY_S = 600.0


@dataclass(frozen=True)
class Schedule:
    """When training ends, by the clock or by steps.

    Attributes:
        minutes: Wall-clock limit, used if `steps` is 0.
        steps: Number of optimizer steps, or 0.
        started_s: Value of `time.monotonic()` at the start.
    """

    minutes: float
    steps: int
    started_s: float

    def progress(self, step: int) -> float:
        """Returns the finished share of the training in 0..1."""
        elapsed = (time.monotonic() - self.started_s) / (60 * self.minutes)
        return min(1.0, step / self.steps if self.steps else elapsed)

    def rate(self, step: int) -> float:
        """Returns the learning rate: linear warm-up, then a cosine down to its final share."""
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(step)))
        return PEAK_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * cosine)


@dataclass(frozen=True)
class Batch:
    """Packed conversations, all [ROWS, ROW_TOKENS]: see `vocabulary.Encoded`.

    Attributes:
        ids: Token ids.
        positions: Positions, from 0 in each conversation; transformers then hides the conversations from each other.
        weights: Loss weights.
        topics: Topic indices or -1.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    weights: torch.Tensor
    topics: torch.Tensor


def batches(dialogues: Dialogues, tokenizer: Tokenizer, topics: Sequence[str]) -> Iterator[Batch]:
    """Yields batches without end; each row starts with a new conversation."""
    while True:
        rows = [_row(dialogues, tokenizer, topics) for _ in range(ROWS)]
        ids = torch.tensor([row.ids[:ROW_TOKENS] for row in rows])
        yield Batch(
            ids,
            positions(ids),
            torch.tensor([row.weights[:ROW_TOKENS] for row in rows]),
            torch.tensor([row.topics[:ROW_TOKENS] for row in rows]),
        )


def positions(ids: torch.Tensor) -> torch.Tensor:
    """Returns the position [R, T] of each token in its conversation, which a beginning-of-sequence token opens."""
    index = torch.arange(ids.shape[1]).expand_as(ids)
    starts = torch.where(ids == network.CONFIG["bos_token_id"], index, 0).cummax(1).values
    return index - starts


def _row(dialogues: Dialogues, tokenizer: Tokenizer, topics: Sequence[str]) -> Encoded:
    row = Encoded()
    only_openings = dialogues.rng.random() < OPENINGS_SHARE
    while len(row.ids) < ROW_TOKENS:
        more = vocabulary.encode_dialogue(tokenizer, dialogues.sample(), topics, only_openings)
        row = Encoded(row.ids + more.ids, row.weights + more.weights, row.topics + more.topics)
    return row


def balance_loss(router_logits: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Returns the mean over layers of E * sum(share of picks * mean probability); 1 is perfect balance."""
    losses = []
    for logits in router_logits:
        probabilities = logits.float().softmax(-1)
        picks = probabilities.topk(network.EXPERTS_PER_TOKEN, dim=-1).indices
        share = functional.one_hot(picks, network.EXPERTS).float().mean((0, 1))
        losses.append(network.EXPERTS * (share * probabilities.mean(0)).sum())
    return torch.stack(losses).mean()


def training_loss(model: MixtralForCausalLM, topic_head: nn.Linear, batch: Batch) -> tuple[torch.Tensor, list[float]]:
    """Returns the loss, and its terms for the log.

    The terms are the weighted mean cross-entropy of the next token, that of the topic (both in nats), and the balance.
    """
    with torch.autocast("cpu", torch.bfloat16):
        output = model.model(input_ids=batch.ids, use_cache=False, output_router_logits=True, output_hidden_states=True)
        weights = batch.weights[:, 1:].flatten()
        used = weights > 0
        logits = model.lm_head(output.last_hidden_state[:, :-1].flatten(0, 1)[used])
        opens = batch.topics >= 0
        topic_logits = topic_head(output.hidden_states[TOPIC_LAYER][opens])
    losses = functional.cross_entropy(logits.float(), batch.ids[:, 1:].flatten()[used], reduction="none")
    text = (losses * weights[used]).sum() / weights.sum()
    topic = functional.cross_entropy(topic_logits.float(), batch.topics[opens])
    balance = balance_loss(output.router_logits)
    return text + TOPIC_WEIGHT * topic + BALANCE_WEIGHT * balance, [text.item(), topic.item(), balance.item()]


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Returns AdamW; norms and embeddings are not decayed."""
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim == 1 or "embed" in name]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)


def train(out: Path, schedule: Schedule, seed: int, start: Path | None = None) -> int:
    """Trains and writes the finished folder.

    Args:
        out: Folder to write; it is also written every few minutes on the way.
        schedule: When to end.
        seed: Of the first weights and of the order of the data.
        start: A finished folder to train further, instead of random weights.

    Returns:
        The number of optimizer steps.
    """
    texts = corpus.load()
    topics = list(texts.answers_by_topic())
    tokenizer = vocabulary.train_tokenizer(texts)
    model = network.load(start) if start else network.build(seed)
    topic_head = nn.Linear(network.HIDDEN, len(topics))
    both = nn.ModuleList([model, topic_head])
    optimizer = make_optimizer(both)
    data = batches(Dialogues(texts, random.Random(seed)), tokenizer, topics)
    saved_s, step = time.monotonic(), 0
    while schedule.progress(step) < 1:
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        loss, terms = training_loss(model, topic_head, next(data))
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % LOG_EVERY_STEPS == 0:
            _log(schedule, step, terms)
        if time.monotonic() - saved_s > SAVE_EVERY_S:
            save(out, model, tokenizer)
            saved_s = time.monotonic()
        step += 1
    save(out, model, tokenizer)
    return step


def save(out: Path, model: MixtralForCausalLM, tokenizer: Tokenizer) -> None:
    """Writes model and tokenizer into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    network.save_model(model, out)
    vocabulary.save_tokenizer(tokenizer, out)


def _log(schedule: Schedule, step: int, terms: Sequence[float]) -> None:
    elapsed_s = time.monotonic() - schedule.started_s
    rate = (step + 1) * ROWS * ROW_TOKENS / max(elapsed_s, 1e-9)
    losses = "  ".join(f"{name} {term:.3f}" for name, term in zip(("text", "topic", "balance"), terms, strict=True))
    print(f"{elapsed_s:6.0f} s  step {step:5d}  {losses}  {rate:.0f} tok/s", file=sys.stderr, flush=True)


def main() -> None:
    """Reads the arguments and trains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished model")
    parser.add_argument("--minutes", type=float, default=40.0, help="wall-clock limit")
    parser.add_argument("--steps", type=int, default=0, help="number of steps instead of minutes")
    parser.add_argument("--start", type=Path, help="folder to train further, made from the same corpus")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for torch's own choice")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    schedule = Schedule(arguments.minutes, arguments.steps, time.monotonic())
    steps = train(arguments.out, schedule, arguments.seed, arguments.start)
    print(f"{steps} steps of {ROWS * ROW_TOKENS} tokens; written to {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
