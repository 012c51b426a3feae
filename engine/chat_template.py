"""Chat templates: Jinja programs that come with a model and turn a conversation into a prompt.

A template is somebody else's code, so it runs in `engine.template_sandbox`, which bounds what it may hold and reach,
and under a deadline that holds in the middle of nested loops too: a trace function of the rendering thread looks at the
thread's CPU clock at every line and call.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from jinja2.exceptions import TemplateError

from engine.errors import CheckpointError, ConfigurationError
from engine.sentences import Number, Sentence, said_by, say
from engine.template_sandbox import BoundedEnvironment, RefusedError, weight_of

MAX_TEMPLATE_CHARS = 256 << 10
DEADLINE_S = 2.0

_TEMPLATE_FAILURES = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


TEMPLATE_FILE = "<template>"  # what Jinja calls compiled code that came from no file
RENDERING_MODULES = ("jinja2.", "engine.template_sandbox")


class _OutOfTimeError(BaseException):
    """The deadline passed; a BaseException so that no `except Exception` inside Jinja swallows it."""


class ChatTemplate:
    """One compiled chat template.

    Args:
        source: The template's text.
        variables: What it sees besides the messages: `bos_token`, `eos_token`, ...

    Raises:
        CheckpointError: It is too long, or not a Jinja template.
    """

    def __init__(self, source: str, variables: Mapping[str, str]) -> None:
        """See the class."""
        if len(source) > MAX_TEMPLATE_CHARS:
            raise _broken(
                say("it has {number} characters, and {most} is the limit", number=len(source), most=MAX_TEMPLATE_CHARS)
            )
        self._environment = BoundedEnvironment()
        self._variables = dict(variables)
        try:
            self._template = self._environment.from_string(source)
        except (SyntaxError, *_TEMPLATE_FAILURES) as error:
            raise _broken(_one_line(error)) from error

    def render(self, messages: Sequence[Mapping[str, str]], *, opens_reply: bool = True) -> str:
        """The prompt of a conversation.

        Args:
            messages: Mappings with `role` and `content`.
            opens_reply: Whether the opening of a reply follows at the end.

        Returns:
            The prompt's text; it holds its special tokens itself.

        Raises:
            ConfigurationError: The template refuses this conversation, by its own `raise_exception`.
            CheckpointError: The template fails or passes a limit.
        """
        chat = [dict(message) for message in messages]
        fixed = {"tools": None, "documents": None, "add_generation_prompt": opens_reply}
        values = {**self._variables, "messages": chat, **fixed}
        self._environment.start(weight_of(values, sys.maxsize))
        try:
            with _deadline(DEADLINE_S):
                return self._environment.concat(self._run(values))
        except _OutOfTimeError:
            raise _broken(say("it runs longer than {number} s", number=Number(f"{DEADLINE_S:g}"))) from None
        except RefusedError as error:
            raise ConfigurationError(
                say("The model's chat template refuses this conversation: {error}.", error=_one_line(error)),
                say("Change the messages; roles must usually alternate between user and assistant."),
            ) from error
        except _TEMPLATE_FAILURES as error:
            raise _broken(_one_line(error)) from error

    def _run(self, values: dict[str, Any]) -> Iterator[str]:
        """The pieces of the output, as the compiled template yields them."""
        return self._template.root_render_func(self._template.new_context(values))


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise `_OutOfTimeError` in this thread once it has used so much CPU time, at whatever line it is."""
    end = time.thread_time() + seconds

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401 - a trace function returns itself
        if time.thread_time() > end and _renders(frame):
            raise _OutOfTimeError
        return None if frame.f_code is weight_of.__code__ else trace  # its loop is bounded, and the hottest

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(previous)


def _renders(frame: FrameType) -> bool:
    """Whether a frame belongs to the rendering.

    Python also runs garbage collection's callbacks in this thread: what is raised there is lost, and with it the trace.
    """
    module = str(frame.f_globals.get("__name__", ""))
    return frame.f_code.co_filename == TEMPLATE_FILE or module.startswith(RENDERING_MODULES)


def _broken(reason: str) -> CheckpointError:
    return CheckpointError(
        say("The model's chat template cannot be used: {reason}.", reason=reason),
        say("Download the model again, or use one with a sound chat template."),
    )


def _one_line(error: BaseException) -> str:
    said = said_by(error)
    if isinstance(said, Sentence):
        return said
    text = " ".join(str(error).split())[:300].rstrip(".")
    return text or type(error).__name__
