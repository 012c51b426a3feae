"""What a reply may say: JSON by a schema, or text by a grammar, as the tokens that may come next.

The work is llguidance's: it knows a grammar's state after every token, and which tokens of the vocabulary go on from
there. A schema is compiled before anything is generated; what it takes is bounded then and at every token, because
schemas come from others. Keywords that it does not know are refused, so that what was written does validate.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from engine.errors import ConfigurationError, UnsupportedModelError
from engine.sentences import say
from engine.tokenizer import without_half_pairs
from engine.tokenizer_parts import comes_from_tokenizers

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

    from engine.config import SamplingParams
    from engine.tokenizer import ChatTokenizer

# Between two parts of the JSON: a space or a new, indented line; small models lose themselves in more.
WHITE_SPACE = r" |\n {0,24}"
# More than real vocabularies have, and what llguidance bears: beyond, it panics or asks for gigabytes.
MOST_TOKEN_BYTES, MOST_TOKENS = 1024, 1 << 21
_MAX_REASON_CHARS = 160


def check_constraint(sampling: SamplingParams) -> None:
    """Refuse a schema or grammar that cannot be followed; needs no model.

    Raises:
        ConfigurationError: It is damaged, too complicated, allows nothing, or asks for what is not supported.
    """
    source = _source(sampling)
    if source is not None:
        failed, words = LLMatcher.validate_grammar_with_warnings(source, limits=_limits())
        if failed:
            raise _refused(sampling, " ".join(words))


class Vocabulary:
    """A tokenizer's vocabulary as the grammar needs it: the bytes of every token, as a tree. Made once per model.

    Args:
        tokenizer: Whose tokens are to be drawn.

    Raises:
        UnsupportedModelError: The tokenizer is of a kind whose tokens' bytes are not known, or has tokens that the
            library does not hold.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        """See the class."""
        # Without a token that ends a reply, a number that nothing follows would never end: one is made up.
        self.size = tokenizer.vocab_size
        ends = sorted(tokenizer.eos_ids) or [self.size]
        if tokenizer.longest_token_bytes > MOST_TOKEN_BYTES or self.size > MOST_TOKENS:
            raise _not_bound(say("its vocabulary is too large"))
        try:
            self.tokens = LLTokenizer(tokenizer.as_json(), n_vocab=max(self.size, ends[-1] + 1), eos_token=ends)
        except BaseException as error:
            if isinstance(error, ValueError) or comes_from_tokenizers(error):
                raise _not_bound(_one_line(str(error))) from error
            raise


def _not_bound(reason: str) -> UnsupportedModelError:
    """The error for a vocabulary that no grammar can be followed with."""
    return UnsupportedModelError(
        say("Replies of this model cannot be bound to a schema: {error}.", error=reason),
        say("Leave the schema out, or choose another model."),
    )


class Constraint:
    """Where one reply stands in its grammar.

    Args:
        sampling: With a schema or a grammar.
        vocabulary: Of the model that writes.

    Raises:
        ConfigurationError: As `check_constraint`.
    """

    def __init__(self, sampling: SamplingParams, vocabulary: Vocabulary) -> None:
        """See the class."""
        source = _source(sampling)
        assert source is not None, "only replies with a schema or a grammar have a constraint"
        self._vocabulary = vocabulary
        self._matcher = LLMatcher(vocabulary.tokens, source, log_level=0, limits=_limits())
        self._matcher.compute_bitmask()  # some circles show only now
        if self._matcher.is_error():
            raise _refused(sampling, self._matcher.get_error())

    @property
    def ended(self) -> bool:
        """Whether nothing may follow."""
        return self._matcher.is_stopped()

    def allowed(self) -> torch.Tensor:
        """Which tokens may come next: bool [V], V being the tokenizer's.

        Raises:
            ConfigurationError: The grammar became too complicated on the way, or leaves no token.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if not self._matcher.is_error():
            allowed = np.unpackbits(bits, bitorder="little")[: self._vocabulary.size].view(np.bool_)
            if allowed.any():
                return torch.from_numpy(allowed)
        reason = _one_line(self._matcher.get_error()) if self._matcher.is_error() else ""
        raise ConfigurationError(
            say("The reply cannot be continued as its schema asks: {reason}.", reason=reason)
            if reason
            else say("The reply cannot be continued as its schema asks."),
            say("Simplify the schema."),
        )

    def resume(self, text: str) -> None:
        """Stand where a reply that goes on has come to.

        Args:
            text: The reply so far.

        Raises:
            ConfigurationError: It does not follow the schema or grammar.
        """
        if not self._matcher.consume_tokens(self._vocabulary.tokens.tokenize_str(without_half_pairs(text))):
            raise ConfigurationError(
                say("The reply so far does not follow the schema, so it cannot go on by it."),
                say("Write the reply anew."),
            )

    def take(self, token: int) -> None:
        """The token that was drawn; it is one of `allowed`."""
        self._matcher.consume_token(token)


def _source(sampling: SamplingParams) -> str | None:
    """The grammar in llguidance's own form; None where the reply may say anything."""
    if sampling.json_schema is not None:
        # Our options last: a schema may bring its own as "x-guidance", e.g. to skip what is not supported.
        own: JsonCompileOptions = {"whitespace_pattern": WHITE_SPACE, "lenient": False, "coerce_one_of": False}
        schema = json.loads(sampling.json_schema)
        schema.pop("x-guidance", None)
        try:
            return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=own)
        except ValueError as error:  # what Python's JSON allows and others do not: NaN, half a surrogate pair
            raise _refused(sampling, str(error)) from error
    return None if sampling.grammar is None else LLMatcher.grammar_from_lark(sampling.grammar)


def _limits() -> LLParserLimits:
    """Bounds on compiling (some 20 ms) and on each token (some 10 ms), far above what ordinary schemas take."""
    return LLParserLimits(max_lexer_states=50_000, max_grammar_size=200_000, verbose_errors=False)


def _refused(sampling: SamplingParams, reason: str) -> ConfigurationError:
    name = say("JSON schema") if sampling.json_schema is not None else say("grammar")
    return ConfigurationError(
        say("The {name} cannot be used: {reason}.", name=name, reason=_one_line(reason)),
        say("Simplify the {name}, or leave the part out that is named.", name=name),
    )


def _one_line(reason: str) -> str:
    """A library's words, short and on one line."""
    line = " ".join(reason.split()).rstrip(".")
    return line if len(line) <= _MAX_REASON_CHARS else line[:_MAX_REASON_CHARS] + "\N{HORIZONTAL ELLIPSIS}"
