"""Prompts: what was said becomes token ids that the model can compute, or a refusal in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from engine.config import SamplingParams
from engine.constraint import Constraint, Vocabulary
from engine.context_window import Fitted, fit, reserved_tokens
from engine.errors import ConfigurationError, PromptTooLongError
from engine.messages import ChatMessage, Overflow, TokensCounted
from engine.sentences import Number, say
from engine.token_counts import TokenCounts
from engine.tokenizer import ChatTokenizer

Prompt = Sequence[ChatMessage | Mapping[str, str]] | Sequence[int] | str


class PromptReader:
    """Reads prompts for one model; opens its tokenizer when that is first needed.

    Args:
        path: The model's folder or file.
        vocab_size: How many token ids it knows.
    """

    def __init__(self, path: Path, vocab_size: int) -> None:
        self._path, self._vocab_size = path, vocab_size
        self._tokenizer: ChatTokenizer | None = None
        self._counts: TokenCounts | None = None
        self._vocabulary: Vocabulary | None = None

    @property
    def tokenizer(self) -> ChatTokenizer:
        """The model's tokenizer.

        Raises:
            CheckpointError: The model has none that can be used.
        """
        return self._tokenizer or self.open_tokenizer()

    def open_tokenizer(self) -> ChatTokenizer:
        """Open it now, to hear at once of a model that cannot chat; errors as in `tokenizer`."""
        self._tokenizer = ChatTokenizer.open(self._path)
        return self._tokenizer

    def tokenizer_of(self, prompt: Prompt) -> ChatTokenizer | None:
        """What turns the reply's ids into text; None where the prompt is ids, and its reply too."""
        return None if _is_ids(prompt) else self.tokenizer

    def read(
        self, prompt: Prompt, sampling: SamplingParams, overflow: Overflow, capacity: int, *, continue_reply: bool
    ) -> Fitted:
        """Ids of a conversation through the chat template, of a raw prompt, or as given.

        Args:
            prompt: As in `Engine.generate`.
            sampling: Says how many tokens a reply needs.
            overflow: What may be left out of a conversation that outgrew the context.
            capacity: Tokens that the context holds.
            continue_reply: The last message is a reply that goes on where it ended.
        """
        if isinstance(prompt, str):
            return Fitted(self.tokenizer.encode(prompt))
        if _is_ids(prompt):
            return Fitted([int(item) for item in prompt if isinstance(item, int)])
        limit = capacity - reserved_tokens(sampling.max_tokens, capacity)
        encode = partial(self.tokenizer.encode_chat, continue_reply=continue_reply)
        return fit([as_message(item) for item in prompt], encode, limit, overflow)

    def check(self, prompt: list[int], capacity: int, room: int) -> None:
        """Refuse a prompt that cannot be computed; `room` tokens must stay free after it.

        Raises:
            ConfigurationError: No tokens, or an id outside the vocabulary.
            PromptTooLongError: More tokens than the context holds.
        """
        if not prompt:
            raise ConfigurationError(say("The prompt is empty."), say("Write a message first."))
        if not all(0 <= token < self._vocab_size for token in prompt):
            raise ConfigurationError(
                say("A token id is outside this model's vocabulary of {vocab_size}.", vocab_size=self._vocab_size),
                say("Use the tokenizer that came with the model."),
            )
        if len(prompt) + room > capacity:
            raise PromptTooLongError(
                say(
                    "The prompt has {number} tokens and the context holds {capacity}.",
                    number=Number(f"{len(prompt):,}"),
                    capacity=Number(f"{capacity:,}"),
                ),
                say("Shorten the conversation, start a new chat, or raise the context length in the settings."),
            )

    def constraint(self, sampling: SamplingParams, tokenizer: ChatTokenizer | None) -> Constraint | None:
        """What the reply may say; None for anything.

        Raises:
            ConfigurationError: The schema or grammar cannot be followed, or the prompt is ids.
        """
        if sampling.json_schema is None and sampling.grammar is None:
            return None
        if tokenizer is None:
            raise ConfigurationError(say("Token ids cannot be bound to a schema."), say("Give the prompt as text."))
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(tokenizer)
        return Constraint(sampling, self._vocabulary)

    def count(self, number: int, messages: Sequence[ChatMessage], texts: Sequence[str], capacity: int) -> TokensCounted:
        """The answer to a `CountTokens`."""
        if self._counts is None:
            self._counts = TokenCounts(self.tokenizer)
        return self._counts.answer(number, messages, texts, capacity)


def _is_ids(prompt: Prompt) -> bool:
    """Whether a prompt is token ids."""
    return not isinstance(prompt, str) and all(isinstance(item, int) for item in prompt)


def as_message(message: object) -> ChatMessage:
    """A message in our own form.

    Raises:
        ConfigurationError: Not a role and a text.
    """
    if isinstance(message, ChatMessage):
        return message
    fields = message if isinstance(message, Mapping) else {}
    role, content = fields.get("role"), fields.get("content")
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise ConfigurationError(
            say("A message has role {role}.", role=repr(role)),
            say("Give each message a role (system, user, assistant) and a text."),
        )
    return ChatMessage(role, content)
