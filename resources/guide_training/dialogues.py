"""Endless, seeded conversations for training: topics in random order, questions in many spellings.

No held-out phrasing ever leaves this module, neither as it stands nor as the result of an augmentation.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from resources.guide_training.corpus import OFFTOPIC, Corpus, Topic, expand, normalise

Message = dict[str, str]

FOLLOW_UP = "follow-up"
OFFTOPIC_SHARE = 0.28
FOLLOW_UP_SHARE = 0.1
GRID_SHARE, NAME_SHARE = 0.4, 0.2
SYSTEM_SHARE = 0.12
TURN_WEIGHTS = (45, 22, 13, 8, 5, 2, 1, 1, 1, 1, 1)
EMPHASISED = {"expert": 3.0}

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are the guide of Rooftop.",
    "Answer briefly and kindly.",
    "You are a friendly assistant. Keep your answers short.",
    "You are Rooftop's guide. Explain the app to the user.",
)
NAME_TEMPLATES = (
    "what is {x}?", "explain {x}", "tell me about {x}", "{bare}?", "{bare}", "what about {x}", "can you explain {x}?",
    "what do you know about {x}", "i want to know about {x}", "describe {x}", "give me some information about {x}",
    "i have a question about {x}", "what can you tell me about {x}?", "{bare} please", "help me with {x}",
    "i don't understand {x}", "what does {bare} mean?", "and {x}?", "what is meant by {x}", "question: {bare}",
    "how does {x} work?", "why {bare}?", "i would like to learn about {x}", "is there something to know about {x}",
    "please tell me everything about {x}", "a word on {x}?", "could you say something about {x}",
)  # fmt: skip
WORD_TEMPLATES = (
    *NAME_TEMPLATES, "how do i make {x}", "where can i buy {x}?", "who invented {x}?", "how much is {x}",
    "which {bare} is the best", "do you like {x}?", "why is {x} so expensive", "how do i learn {bare}",
    "write a text about {x}", "how many kinds of {bare} are there", "tell me a story about {x}", "is {x} dangerous?",
    "my {bare} is broken", "i want to buy {x}", "when was {x} discovered", "how do i repair {x}", "draw {x}",
    "where is {x}?", "who is {x}", "how old is {x}", "what colour is {x}", "how big is {x}", "how fast is {x}",
    "is {x} free?", "can you run {x}", "how do i open {x}", "how do i use {x}", "why is my {bare} slow",
)  # fmt: skip
PREFIXES = (
    "please ", "hi, ", "hello, ", "hey, ", "can you tell me, ", "could you tell me: ", "i would like to know, ",
    "ok, ", "so, ", "quick question: ", "tell me, ", "sorry, ", "well, ", "now, ", "next question: ", "hm, ",
    "one more thing: ", "excuse me, ", "i wonder, ", "pls ", "good morning, ", "dear guide, ", "and ", "but ",
)  # fmt: skip
SUFFIXES = (
    " please", " thanks", ", please", " in simple words", " in short", " thank you", " pls", " for me", " exactly",
    " again", " now", " actually", " in a few words", ", can you tell me?", " i wonder", ", i am new here", " :)",
)  # fmt: skip
SLANG = {
    "what is": ("what's", "whats", "wots", "wats", "wat is", "what iz"), "you": ("u", "ya"), "are": ("r",),
    "please": ("pls", "plz"), "because": ("cuz",), "the": ("teh", "da", ""), "how do i": ("how to", "how can i",
    "how would i", "how do you"), "can i": ("could i", "may i"), "explain": ("can you explain", "pls explain"),
    "why is": ("why's", "y is"), "i am": ("i'm", "im"), "what are": ("what r", "wat are"), "a": ("",), "an": ("a", ""),
    "don't": ("dont",), "where is": ("wheres", "where's"), "does": ("do", "duz"), "model": ("modell",),
}  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Dialogues:
    """Samples conversations from the training part of a corpus.

    Attributes:
        corpus: All topics with their split.
        rng: The only source of randomness.
    """

    corpus: Corpus
    rng: random.Random

    def __post_init__(self) -> None:
        """Prepares what every conversation needs."""
        self._keys = self.corpus.held_out_keys
        self._unseen_words = self.corpus.unseen_words
        self._topics = [topic for topic in self.corpus.topics if topic.name != OFFTOPIC]
        self._declined = [t for t in self.corpus.topics if t.name == OFFTOPIC and self.corpus.training_asks(t)]
        self._asks = {topic.subject: self.corpus.training_asks(topic) for topic in self.corpus.topics}
        self._weights = [EMPHASISED.get(topic.name, 1.0) for topic in self._topics]
        self._follow_ups = next(self._asks[t.subject] for t in self._topics if t.name == FOLLOW_UP)

    def __iter__(self) -> Iterator[list[Message]]:
        """Yields conversations without end."""
        while True:
            yield self.sample()

    def sample(self) -> list[Message]:
        """Returns one conversation of 1 to 11 turns, mostly few, sometimes with a system message.

        The assistant's messages also tell their topic, under the key "topic".
        """
        messages: list[Message] = []
        if self.rng.random() < SYSTEM_SHARE:
            messages.append({"role": "system", "content": self.rng.choice(SYSTEM_PROMPTS)})
        turns = self.rng.choices(range(1, len(TURN_WEIGHTS) + 1), TURN_WEIGHTS)[0]
        previous: Topic | None = None
        for _ in range(turns):
            question, answer, previous = self._turn(previous)
            messages += [{"role": "user", "content": question}, answer]
        return messages

    def _turn(self, previous: Topic | None) -> tuple[str, Message, Topic | None]:
        if previous and previous.more and self.rng.random() < FOLLOW_UP_SHARE:
            question = self._vary(lambda: self.rng.choice(self._follow_ups), long=False)
            return question, _reply(previous.more, FOLLOW_UP), previous
        if self.rng.random() < OFFTOPIC_SHARE:
            declined = _reply(self.rng.choice(self._declined[0].answers), OFFTOPIC)
            return self._vary(self._declined_question), declined, None
        topic = self.rng.choices(self._topics, self._weights)[0]
        question = self._vary(lambda: self._question(topic), long=bool(topic.names))
        return question, _reply(self.rng.choice(topic.answers), topic.name), topic

    def _question(self, topic: Topic) -> str:
        kind = self.rng.random()
        if topic.grids and kind < GRID_SHARE:
            return expand(self.rng.choice(topic.grids), self.rng)
        if topic.names and kind < GRID_SHARE + NAME_SHARE:
            return fill(self._template(NAME_TEMPLATES), self.rng.choice(topic.names))
        return self.rng.choice(self._asks[topic.subject])

    def _template(self, templates: tuple[str, ...]) -> str:
        if self.rng.random() < 0.4:
            return expand(self.rng.choice(self.corpus.name_grids), self.rng)
        return self.rng.choice(templates)

    def _declined_question(self) -> str:
        kind = self.rng.random()
        if kind < 0.35:
            return self.rng.choice(self._asks[self.rng.choice(self._declined).subject])
        if kind < 0.65:
            return self._spared(lambda: expand(self.rng.choice(self.corpus.declined_grids), self.rng))
        if kind < 0.92:
            return fill(self._template(WORD_TEMPLATES), self.rng.choice(self.corpus.words))
        nonsense = " ".join(self._pseudo_word() for _ in range(self.rng.randint(1, 3)))
        return nonsense if self.rng.random() < 0.5 else fill(self.rng.choice(WORD_TEMPLATES), "a " + nonsense)

    def _spared(self, draw: Callable[[], str]) -> str:
        """Draws until no word belongs to a subject that training must not see."""
        while True:
            text = draw()
            if not self._unseen_words & set(normalise(text).split()):
                return text

    def _pseudo_word(self) -> str:
        return "".join(self.rng.choice(LETTERS) for _ in range(self.rng.randint(3, 9)))

    def _vary(self, draw: Callable[[], str], long: bool = True) -> str:
        """Draws a question and varies it until the result is not held out."""
        while True:
            base = draw()
            if normalise(base) in self._keys:
                continue
            text = augment(base, self.rng, wrap=long)
            if text.strip() and normalise(text) not in self._keys:
                return text


def _reply(text: str, topic: str) -> Message:
    return {"role": "assistant", "content": text, "topic": topic}


def fill(template: str, name: str) -> str:
    """Puts a noun phrase into a question; `{bare}` is the phrase without its article."""
    bare = name
    for article in ("a ", "an ", "the "):
        bare = bare.removeprefix(article)
    return template.format(x=name, bare=bare)


def augment(text: str, rng: random.Random, wrap: bool = True) -> str:
    """Returns the question as another user might have typed it."""
    if rng.random() < 0.12:
        text = _slang(text, rng)
    if wrap and rng.random() < 0.12:
        text = rng.choice(PREFIXES) + text
    if wrap and rng.random() < 0.07:
        text = text.rstrip("?. ") + rng.choice(SUFFIXES)
    if rng.random() < 0.05:
        text = _drop_word(text, rng)
    if rng.random() < 0.1:
        text = _typo(text, rng)
    return _case(_punctuation(text, rng), rng)


def _slang(text: str, rng: random.Random) -> str:
    padded = f" {text} "
    found = [key for key in SLANG if f" {key} " in padded]
    if not found:
        return text
    key = rng.choice(found)
    return " ".join(padded.replace(f" {key} ", f" {rng.choice(SLANG[key])} ", 1).split())


def _drop_word(text: str, rng: random.Random) -> str:
    words = text.split()
    small = [i for i, word in enumerate(words) if len(word) <= 3 and len(words) > 2]
    if small:
        del words[rng.choice(small)]
    return " ".join(words)


def _typo(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long:
        return text
    i = rng.choice(long)
    word, at = words[i], rng.randrange(1, len(words[i]) - 1)
    kind = rng.random()
    if kind < 0.3:
        words[i] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif kind < 0.6:
        words[i] = word[:at] + word[at + 1 :]
    elif kind < 0.8:
        words[i] = word[:at] + word[at] + word[at:]
    else:
        words[i] = word[:at] + rng.choice(LETTERS) + word[at + 1 :]
    return " ".join(words)


def _punctuation(text: str, rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.35:
        return text.rstrip("?. ")
    if kind < 0.55:
        return text.rstrip("?. ") + "?"
    if kind < 0.6:
        return text.rstrip("?. ") + rng.choice((".", "!", "??", " ?", "..."))
    return text


def _case(text: str, rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return text.lower()
    if kind < 0.7:
        return text[:1].upper() + text[1:]
    if kind < 0.73:
        return text.upper()
    return text
