"""The guide's tokenizer: a byte-level BPE trained on the corpus, with its chat template."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from resources.guide_training.corpus import Corpus
from resources.guide_training.dialogues import NAME_TEMPLATES, PREFIXES, SUFFIXES, SYSTEM_PROMPTS, WORD_TEMPLATES

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL_TOKENS = [BOS, EOS, PAD, *ROLES.values()]
VOCABULARY_SIZE = 3072
MAX_TOKENS = 4096
OPENING_TOKENS, REST_WEIGHT = 8, 0.4

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<|system|> ' + message['content'] | trim }}"
    "{% elif message['role'] == 'user' %}{{ '<|user|> ' + message['content'] | trim }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' }}{% generation %}{{ message['content'] | trim + eos_token }}{% endgeneration %}"
    "{% else %}{{ raise_exception('unknown role ' + message['role'] + ': use system, user or assistant') }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
WORD_PATTERN = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def train_tokenizer(corpus: Corpus) -> Tokenizer:
    """Trains the BPE on answers and on the training phrasings only."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        min_frequency=2,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(corpus), trainer)
    return tokenizer


def _texts(corpus: Corpus) -> Iterator[str]:
    for topic in corpus.topics:
        for answer in (*topic.answers, topic.more):
            yield answer
            yield " " + answer
        for ask in corpus.training_asks(topic):
            yield from (" " + ask, " " + ask.lower(), " " + ask.capitalize())
        yield from (" " + name for name in topic.names)
    for word in corpus.words:
        yield " " + word
    yield from (" " + text for text in (*NAME_TEMPLATES, *WORD_TEMPLATES, *PREFIXES, *SUFFIXES, *SYSTEM_PROMPTS))


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`."""
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    config = {
        **special,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_TOKENS,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
        "additional_special_tokens": list(ROLES.values()),
    }
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "special_tokens_map.json", special)


@dataclass
class Encoded:
    """A conversation, or several in a row, as numbers.

    Attributes:
        ids: Token ids [T].
        weights: How much predicting each token counts [T]: nothing in questions, most in the opening of a reply.
        topics: At the token that opens a reply the index of its topic, else -1 [T].
    """

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    topics: list[int] = field(default_factory=list)

    def add(self, ids: list[int], weights: list[float], topic: int = -1) -> None:
        """Appends tokens with their weights; `topic` belongs to the last of them."""
        self.ids += ids
        self.weights += weights
        self.topics += [-1] * (len(ids) - 1) + [topic]


def encode_dialogue(
    tokenizer: Tokenizer, messages: list[dict[str, str]], topics: Sequence[str] = (), only_openings: bool = False
) -> Encoded:
    """Encodes a conversation as the chat template would.

    Args:
        tokenizer: The guide's tokenizer.
        messages: The conversation.
        topics: Names of all topics, if the replies' topics are wanted.
        only_openings: Cut each reply after its opening, so that more questions fit in a row of training text.
    """
    encoded = Encoded()
    encoded.add([SPECIAL_TOKENS.index(BOS)], [0.0])
    for message in messages:
        spoken = message["role"] == "assistant"
        topic = topics.index(message["topic"]) if spoken and topics else -1
        encoded.add([SPECIAL_TOKENS.index(ROLES[message["role"]])], [0.0], topic)
        text = message["content"].strip()
        body = tokenizer.encode(text + EOS if spoken else " " + text).ids
        if spoken and only_openings:
            body = body[:OPENING_TOKENS]
        rest = max(0, len(body) - OPENING_TOKENS)
        reply_weights = [1.0] * (len(body) - rest) + [REST_WEIGHT] * rest
        encoded.add(body, reply_weights if spoken else [0.0] * len(body))
    return encoded


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
