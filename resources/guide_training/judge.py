"""Judges a reply mechanically: which topic's reference answer is nearest, and how near is it?

The measure is the F1 of content words, so a reply must both say what the answer says and add little else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_OVERLAP = 0.6
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an and are as at be been but by can do does for from has have how i if in into is it its me more
        my no not of on one only or other so such than that the their them then there they this to too up
        was what when where which while who why will with you your""",
    )
)


@dataclass(frozen=True)
class Verdict:
    """How a reply was judged.

    Attributes:
        topic: The topic of the nearest reference answer.
        overlap: F1 of content words with that answer, 0..1.
        on_topic: Whether it is the asked topic, near enough, and the reply came to its end.
    """

    topic: str
    overlap: float
    on_topic: bool


def content_words(text: str) -> frozenset[str]:
    """Returns the lower-case words of the text that carry meaning."""
    return frozenset(re.findall(r"[a-z0-9]+", text.lower())) - STOP_WORDS


def overlap(reply: frozenset[str], reference: frozenset[str]) -> float:
    """Returns the F1 of two sets of words in 0..1."""
    return 2 * len(reply & reference) / max(1, len(reply) + len(reference))


def judge(reply: str, asked: str, answers: Mapping[str, Sequence[str]], finished: bool) -> Verdict:
    """Compares a reply with the reference answers of all topics.

    Args:
        reply: What the model said.
        asked: The topic that the question is about.
        answers: For each topic its reference answers.
        finished: Whether the reply ended by itself before the token limit.
    """
    words = content_words(reply)
    scores = {topic: max(overlap(words, content_words(text)) for text in texts) for topic, texts in answers.items()}
    nearest = max(scores, key=lambda topic: scores[topic])
    good = finished and nearest == asked and scores[nearest] >= MIN_OVERLAP
    return Verdict(nearest, round(scores[nearest], 3), good)
