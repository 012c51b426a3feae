"""What is read of a model's tokenizer, whichever files it came in."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from tokenizers import Tokenizer

from engine.checkpoint.untrusted import quote
from engine.errors import CheckpointError
from engine.sentences import say


@dataclass(frozen=True, slots=True)
class TokenizerParts:
    """A tokenizer as a model's files describe it.

    Attributes:
        tokenizer: Text to ids and back; special tokens written out in a text are taken as such.
        specials: Text of `bos_token`, `eos_token` and their like, by name.
        chat_template: The file's own, None where it has none.
        eos_ids: Every id that ends a reply.
        bos_id: What a raw prompt begins with, None for nothing.
    """

    tokenizer: Tokenizer
    specials: dict[str, str]
    chat_template: str | None
    eos_ids: frozenset[int]
    bos_id: int | None


class _TokenizerFaults:
    """What `tokenizer_faults` gives: it holds nothing, so that one serves all, at every token."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise an error of ours in place of the library's."""
        if error is not None and comes_from_tokenizers(error):
            raise CheckpointError(
                say("The model's tokenizer fails: {error}.", error=quote(" ".join(str(error).split()))),
                say("Download the model again, or use one with a sound tokenizer."),
            ) from error


_FAULTS = _TokenizerFaults()


def tokenizer_faults() -> _TokenizerFaults:
    """Turn what the library raises at work, by the fault of what the files told it, into an error of ours.

    Raises:
        CheckpointError: It gave up, or broke.
    """
    return _FAULTS


def comes_from_tokenizers(error: BaseException) -> bool:
    """Whether Rust raised it: the library raises bare `Exception`s, and panics that derive from BaseException."""
    return type(error) is Exception or type(error).__name__ == "PanicException"
