"""The corpus: topics read from Markdown, and which of their phrasings are held out.

A file is a list of topics:

    ## expert                     the topic's name
    Names: an expert; experts     noun phrases that fit generic questions ("tell me about ...")
    > An answer.                  one answer; a following "> - item" continues it as a list
    >> More about it.             the answer to "tell me more"
    - **what is an expert?**      a phrasing; bold ones are always trained on

`offtopic.md` differs: its first section holds the answers, every other one is a subject that the guide declines.
`grids.txt` has patterns of further questions per topic, for training only: they neither are nor become held-out
phrasings. Those under `names` are for every topic and take one of its noun phrases.
This module knows nothing about tokenisation or sampling.
"""

import itertools
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

CORPUS_DIR = Path(__file__).parent / "corpus"
OFFTOPIC = "offtopic"
SPLIT_SEED = "rooftop-guide-final"
HELD_OUT_SHARE = 0.2
UNSEEN_SUBJECTS = ("gardening", "law", "fashion", "space")


@dataclass(frozen=True)
class Topic:
    """One thing that users ask about.

    Attributes:
        name: The topic's name; all off-topic subjects share the name `offtopic`.
        subject: The off-topic subject, or the topic's name again.
        names: Noun phrases for generic question templates; may be empty.
        answers: Answers that say the same in different words.
        more: The answer to a follow-up such as "tell me more", or "" if there is none.
        asks: Hand-written phrasings of the question.
        grids: Patterns of further questions, see `expand`.
        pinned: Those of `asks` that are never held out.
    """

    name: str
    subject: str
    names: tuple[str, ...]
    answers: tuple[str, ...]
    more: str
    asks: tuple[str, ...]
    pinned: frozenset[str]
    grids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A phrasing together with the topic that it asks for."""

    text: str
    topic: str
    subject: str


@dataclass(frozen=True)
class Corpus:
    """All topics and the split of their phrasings.

    Attributes:
        topics: On-topic topics first, then one entry per off-topic subject.
        held_out: The phrasings that training never sees.
        words: Off-topic nouns for synthetic questions, none of which occurs in a held-out off-topic phrasing.
        name_grids: Patterns of questions with a place for a noun phrase, `{x}` or without its article `{bare}`.
        declined_grids: Patterns of off-topic questions.
    """

    topics: tuple[Topic, ...]
    held_out: tuple[Question, ...]
    words: tuple[str, ...]
    name_grids: tuple[str, ...]
    declined_grids: tuple[str, ...]

    @property
    def unseen_words(self) -> frozenset[str]:
        """The longer words of the wholly held-out subjects that no phrasing about Rooftop has."""
        unseen = (question.text for question in self.held_out if question.subject in UNSEEN_SUBJECTS)
        ours = {word for t in self.topics if t.name != OFFTOPIC for ask in t.asks for word in normalise(ask).split()}
        return frozenset(word for text in unseen for word in normalise(text).split() if len(word) > 3) - ours

    @property
    def held_out_keys(self) -> frozenset[str]:
        """The normalised texts that must not occur in training."""
        return frozenset(normalise(question.text) for question in self.held_out)

    def training_asks(self, topic: Topic) -> list[str]:
        """Returns the phrasings of `topic` that may be trained on."""
        keys = self.held_out_keys
        return [ask for ask in topic.asks if normalise(ask) not in keys]

    def answers_by_topic(self) -> dict[str, tuple[str, ...]]:
        """Returns for each topic's name its reference answers."""
        return {topic.name: topic.answers for topic in self.topics}


def normalise(text: str) -> str:
    """Returns the text in lower case without punctuation, or the bare text if nothing else is left."""
    words = re.findall(r"[^\W_]+", text.lower())
    return " ".join(words) or text.strip()


def load(folder: Path = CORPUS_DIR) -> Corpus:
    """Reads all topics and derives the split.

    Raises:
        ValueError: A topic has no answer, two topics share a phrasing, or a grid belongs to no topic.
    """
    topics: list[Topic] = []
    grids = _grids(folder)
    name_grids, declined_grids = grids.pop("names", ()), grids.pop(OFFTOPIC, ())
    for path in sorted(folder.glob("*.md")):
        parsed = [_parse_topic(block) for block in _blocks(path.read_text(encoding="utf-8"))]
        topics += _as_offtopic(parsed) if path.stem == OFFTOPIC else parsed
    topics = [replace(topic, grids=grids.pop(topic.name, ())) for topic in topics]
    topics.sort(key=lambda topic: topic.name == OFFTOPIC)
    _check(topics, grids)
    held_out = tuple(question for topic in topics for question in _held_out(topic))
    return Corpus(tuple(topics), held_out, tuple(_words(folder, held_out)), name_grids, declined_grids)


def _blocks(text: str) -> Iterator[list[str]]:
    for block in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        yield [line.rstrip() for line in block.splitlines() if line.strip()]


def _parse_topic(lines: list[str]) -> Topic:
    names: list[str] = []
    answers: list[str] = []
    more = ""
    asks: list[str] = []
    pinned: set[str] = set()
    for line in lines[1:]:
        if line.startswith("Names: "):
            names = [name.strip() for name in line.removeprefix("Names: ").split(";")]
        elif line.startswith(">> "):
            more = line[3:]
        elif line.startswith("> - "):
            answers[-1] += "\n" + line[2:]
        elif line.startswith("> "):
            answers.append(line[2:])
        elif line.startswith("- "):
            asks.append(line[2:].removeprefix("**").removesuffix("**"))
            if line.startswith("- **"):
                pinned.add(asks[-1])
    return Topic(lines[0], lines[0], tuple(names), tuple(answers), more, tuple(_distinct(asks)), frozenset(pinned))


def expand(pattern: str, rng: random.Random) -> str:
    """Returns one question of a pattern: of each `(a|b|c)` one alternative, which may be empty."""
    return _join(rng.choice(options) for options in _options(pattern))


def expansions(pattern: str) -> Iterator[str]:
    """Yields all questions of a pattern."""
    return (_join(choice) for choice in itertools.product(*_options(pattern)))


def _options(pattern: str) -> list[list[str]]:
    parts = re.split(r"\(([^()]*\|[^()]*)\)", pattern)
    return [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]


def _join(parts: Iterable[str]) -> str:
    return " ".join("".join(parts).split())


def _grids(folder: Path) -> dict[str, tuple[str, ...]]:
    path = folder / "grids.txt"
    blocks = _blocks(path.read_text(encoding="utf-8")) if path.exists() else iter(())
    return {block[0]: tuple(block[1:]) for block in blocks}


def _as_offtopic(parsed: list[Topic]) -> list[Topic]:
    answers = parsed[0].answers
    return [Topic(OFFTOPIC, topic.name, (), answers, "", topic.asks, topic.pinned) for topic in parsed[1:]]


def _distinct(asks: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for ask in asks:
        if normalise(ask) not in seen:
            seen.add(normalise(ask))
            yield ask


def _check(topics: list[Topic], orphans: dict[str, tuple[str, ...]]) -> None:
    if orphans:
        raise ValueError(f"grids.txt has patterns for {sorted(orphans)}, but there are no such topics: rename them")
    owner: dict[str, str] = {}
    for topic in topics:
        if not topic.answers:
            raise ValueError(f"topic {topic.name!r} has no answer: add a line that starts with '> '")
        for ask in topic.asks:
            other = owner.setdefault(normalise(ask), topic.subject)
            if other != topic.subject:
                raise ValueError(f"{ask!r} is in both {other!r} and {topic.subject!r}: keep it in one")


def _held_out(topic: Topic) -> list[Question]:
    pinned = {normalise(ask) for ask in topic.pinned}
    free = [ask for ask in topic.asks if normalise(ask) not in pinned]
    if topic.name == OFFTOPIC and topic.subject in UNSEEN_SUBJECTS:
        chosen = free
    else:
        size = round(HELD_OUT_SHARE * len(topic.asks))
        chosen = random.Random(f"{SPLIT_SEED}:{topic.subject}").sample(free, size)
    return [Question(ask, topic.name, topic.subject) for ask in chosen]


def _words(folder: Path, held_out: tuple[Question, ...]) -> Iterator[str]:
    reserved = {word for q in held_out if q.topic == OFFTOPIC for word in normalise(q.text).split() if len(word) > 3}
    path = folder / "offtopic_words.txt"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        for word in line.split(","):
            if word.strip() and not reserved & set(normalise(word).split()):
                yield word.strip()
