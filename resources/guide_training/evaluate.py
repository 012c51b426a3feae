"""Measures the guide on held-out phrasings: `python -m resources.guide_training.evaluate --model DIR`.

Every held-out question is asked twice with greedy decoding: alone, and as the third question of a chat. The replies
are judged by `judge`. The router is measured on the same chats: the share of each layer's picks that each expert got.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from resources.guide_training import corpus
from resources.guide_training.corpus import OFFTOPIC, UNSEEN_SUBJECTS, Corpus, Question
from resources.guide_training.dialogues import Dialogues, Message
from resources.guide_training.judge import MIN_OVERLAP, Verdict, judge

BATCH = 48
MAX_REPLY_TOKENS = 120
CHAT_SEED = 11
REPORT = "evaluation.json"
# Questions by somebody who saw each topic's first answer and nothing else: no phrasing, no grid, no reply of a model.
STRANGERS = corpus.CORPUS_DIR / "strangers.tsv"


@dataclass(frozen=True)
class Reply:
    """One answered question.

    Attributes:
        question: What was asked.
        text: The reply.
        token_ids: Prompt and reply.
        verdict: How it was judged.
    """

    question: Question
    text: str
    token_ids: tuple[int, ...]
    verdict: Verdict


class Guide:
    """A loaded guide with greedy, batched answering."""

    def __init__(self, folder: Path) -> None:
        """Loads model and tokenizer from `folder` in float32."""
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def answer(self, chats: Sequence[list[Message]]) -> Iterator[tuple[str, tuple[int, ...], bool]]:
        """Yields for each chat the reply, all token ids, and whether the reply ended by itself."""
        for start in range(0, len(chats), BATCH):
            part = chats[start : start + BATCH]
            prompts = [self.tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in part]
            inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
            with torch.inference_mode():
                output = self.model.generate(
                    input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False,
                    temperature=None, top_p=None, max_new_tokens=MAX_REPLY_TOKENS,
                )  # fmt: skip
            width = inputs["input_ids"].shape[1]
            for row in output:
                yield self._split(row, width)

    def _split(self, row: torch.Tensor, width: int) -> tuple[str, tuple[int, ...], bool]:
        ids = [int(i) for i in row if i != self.tokenizer.pad_token_id]
        text = self.tokenizer.decode(row[width:], skip_special_tokens=True)
        return str(text).strip(), tuple(ids), self.tokenizer.eos_token_id in row[width:].tolist()

    def expert_shares(self, sequences: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Returns the share [L, E] of each layer's picks that went to each expert."""
        config = self.model.config
        picks = torch.zeros(config.num_hidden_layers, config.num_local_experts)
        for ids in sequences:
            with torch.inference_mode():
                output = self.model(input_ids=torch.tensor([ids]), output_router_logits=True, use_cache=False)
            for layer, logits in enumerate(output.router_logits):
                chosen = logits.topk(config.num_experts_per_tok, dim=-1).indices
                picks[layer] += torch.bincount(chosen.flatten(), minlength=config.num_local_experts)
        return picks / picks.sum(1, keepdim=True)


def ask_all(guide: Guide, questions: Sequence[Question], chats: Sequence[list[Message]], texts: Corpus) -> list[Reply]:
    """Asks each question at the end of its chat and judges the replies."""
    answers = texts.answers_by_topic()
    full = [[*chat, {"role": "user", "content": q.text}] for q, chat in zip(questions, chats, strict=True)]
    return [
        Reply(question, text, ids, judge(text, question.topic, answers, finished))
        for question, (text, ids, finished) in zip(questions, guide.answer(full), strict=True)
    ]


def earlier_turns(texts: Corpus, count: int) -> list[list[Message]]:
    """Returns `count` chats of two training turns each, the same every time."""
    dialogues = Dialogues(texts, random.Random(CHAT_SEED))
    chats: list[list[Message]] = []
    while len(chats) < count:
        chat = [message for message in dialogues.sample() if message["role"] != "system"]
        if len(chat) >= 4:
            chats.append(chat[:4])
    return chats


def evaluate(folder: Path) -> dict[str, Any]:
    """Returns the report on the guide in `folder`."""
    texts = corpus.load()
    guide = Guide(folder)
    questions = list(texts.held_out)
    alone = ask_all(guide, questions, [[] for _ in questions], texts)
    in_chat = ask_all(guide, questions, earlier_turns(texts, len(questions)), texts)
    shares = guide.expert_shares([reply.token_ids for reply in in_chat])
    strangers = stranger_questions(texts)
    by_strangers = ask_all(guide, strangers, [[] for _ in strangers], texts)
    near = grid_questions(texts)
    beyond = [reply for reply in alone if corpus.normalise(reply.question.text) not in near]
    return {
        "held_out_phrasings": len(questions),
        "all_phrasings": sum(len(topic.asks) for topic in texts.topics),
        "topics": len(texts.answers_by_topic()),
        "judge": f"nearest reference answer is of the asked topic, content-word F1 >= {MIN_OVERLAP}, reply ended",
        "on_topic_share": _share(alone),
        "on_topic_share_about_rooftop": _share([r for r in alone if r.question.topic != OFFTOPIC]),
        "on_topic_share_declined": _share([r for r in alone if r.question.topic == OFFTOPIC]),
        "on_topic_share_unseen_subjects": _share([r for r in alone if r.question.subject in UNSEEN_SUBJECTS]),
        "on_topic_share_as_third_question": _share(in_chat),
        "held_out_beyond_grids": len(beyond),
        "on_topic_share_beyond_grids": _share(beyond),
        "strangers_questions": len(strangers),
        "on_topic_share_strangers": _share(by_strangers),
        "on_topic_share_strangers_about_rooftop": _share([r for r in by_strangers if r.question.topic != OFFTOPIC]),
        "verbatim_share": round(sum(r.verdict.overlap == 1.0 for r in alone) / len(alone), 4),
        "min_expert_share_by_layer": [round(float(share), 4) for share in shares.amin(1)],
        "max_expert_share_by_layer": [round(float(share), 4) for share in shares.amax(1)],
        "parameters": sum(parameter.numel() for parameter in guide.model.parameters()),
        "folder_bytes": sum(p.stat().st_size for p in folder.iterdir() if p.is_file() and p.name != REPORT),
        "misses_strangers": [_miss(reply) for reply in by_strangers if not reply.verdict.on_topic],
        "misses": [_miss(reply) for reply in alone if not reply.verdict.on_topic],
    }


def stranger_questions(texts: Corpus) -> list[Question]:
    """Returns the strangers' questions, without those that our phrasings or grids happen to spell the same way."""
    ours = grid_questions(texts).union(corpus.normalise(ask) for topic in texts.topics for ask in topic.asks)
    rows = (line.split("\t") for line in STRANGERS.read_text(encoding="utf-8").splitlines())
    return [Question(text, topic, topic) for topic, text in rows if corpus.normalise(text) not in ours]


def grid_questions(texts: Corpus) -> frozenset[str]:
    """Returns all questions of the grids, normalised.

    Training leaves out those that are held out, but it sees their like: they are easier than the other held-out ones.
    """
    patterns = [*texts.declined_grids, *(pattern for topic in texts.topics for pattern in topic.grids)]
    return frozenset(corpus.normalise(text) for pattern in patterns for text in corpus.expansions(pattern))


def _share(replies: Sequence[Reply]) -> float:
    return round(sum(reply.verdict.on_topic for reply in replies) / max(1, len(replies)), 4)


def _miss(reply: Reply) -> dict[str, Any]:
    return {**asdict(reply.question), "judged": reply.verdict.topic, "overlap": reply.verdict.overlap,
            "reply": reply.text}  # fmt: skip


def _print(report: dict[str, Any]) -> None:
    for key, value in report.items():
        if not key.startswith("misses"):
            print(f"{key:35} {value}")
    for miss in report["misses"]:
        start = miss["reply"][:70]
        print(f"  {miss['text']!r} asks {miss['topic']}, got {miss['judged']} ({miss['overlap']}): {start!r}")


def main() -> None:
    """Reads the arguments, evaluates and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, required=True, help="folder of the guide")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT} into the model's folder")
    arguments = parser.parse_args()
    report = evaluate(arguments.model)
    if arguments.write:
        path = arguments.model / REPORT
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if arguments.json:
        json.dump(report, sys.stdout)
    else:
        _print(report)


if __name__ == "__main__":
    main()
