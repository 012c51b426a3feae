"""Requests and events as frames on a pipe: four bytes of length, then one pickled message.

Both ends are ours, but a message may hold nothing except the plain classes of `engine.messages` and what they refer to.
So a stray tensor never drags torch into the window's process, and nothing on the pipe can run code.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import struct
import sys
from typing import Any, BinaryIO, cast

from engine.errors import EngineFailure
from engine.messages import Event, Request
from engine.sentences import Number, Sentence, say

MAX_FRAME_BYTES = 256 << 20

_LENGTH = struct.Struct("<I")
_MODULES = (
    "engine.messages",
    "engine.plan_data",
    "engine.traces",
    "engine.config",
    "engine.traits",
    "engine.hardware",
)
_TEXTS = {("engine.sentences", "Sentence"): Sentence, ("engine.sentences", "Number"): Number}


class BrokenFrameError(EngineFailure):
    """What came through the pipe is no message."""

    code = "internal"


def write_message(stream: BinaryIO, message: Request | Event) -> None:
    """Send one message.

    Raises:
        OSError: The other end is gone.
        BrokenFrameError: The message is too large to send.
    """
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    if len(body) > MAX_FRAME_BYTES:
        raise _broken(
            say("a message has {number} bytes and {most} is the limit", number=len(body), most=MAX_FRAME_BYTES)
        )
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def read_message(stream: BinaryIO) -> Request | Event | None:
    """Wait for one message; None at the end of the stream, which a dying writer may leave inside a frame.

    Raises:
        BrokenFrameError: The bytes are no message.
    """
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(header)
    if size > MAX_FRAME_BYTES:
        raise _broken(say("a message claims {number} bytes and {most} is the limit", number=size, most=MAX_FRAME_BYTES))
    body = stream.read(size)
    if len(body) < size:
        return None
    try:
        message = _PlainUnpickler(io.BytesIO(body)).load()
    except (pickle.UnpicklingError, ValueError, TypeError, AttributeError, LookupError, EOFError) as error:
        raise _broken(" ".join(str(error).split()) or type(error).__name__) from error
    if type(message).__module__ != "engine.messages":
        raise _broken(say("a {name} is no message", name=type(message).__name__))
    return cast("Request | Event", message)


class _PlainUnpickler(pickle.Unpickler):
    """Makes the dataclasses and named tuples of our own modules, and sentences, and nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:  # noqa: ANN401 - the base class's signature
        if (module_name, global_name) in _TEXTS:
            return _TEXTS[module_name, global_name]
        value = getattr(sys.modules.get(module_name), global_name, None) if module_name in _MODULES else None
        plain = isinstance(value, type) and (dataclasses.is_dataclass(value) or issubclass(value, tuple))
        if value is None or not plain or value.__module__ != module_name:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} may not be sent")
        return value


def _broken(reason: str) -> BrokenFrameError:
    return BrokenFrameError(
        say("The engine and the window do not understand each other: {reason}.", reason=reason),
        say("Start Rooftop again."),
    )
