"""What shape a model on the hub has, from the beginnings of its files: some megabytes instead of all of it.

Nothing is kept. A GGUF file is asked for its header in a few pieces, each in one request; of a model in Hugging Face
form config.json alone is fetched.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from engine.checkpoint.gguf_config import read_gguf_config
from engine.checkpoint.gguf_file import GgufHeader, parse_gguf_header
from engine.checkpoint.gguf_model import read_gguf
from engine.checkpoint.model_config import MAX_CONFIG_BYTES, read_model_config
from engine.checkpoint.model_folder import CONFIG
from engine.errors import HubUnreachableError
from engine.hub.answer import TryAgain
from engine.hub.api import Hub
from engine.sentences import say

if TYPE_CHECKING:
    from engine.config import ModelConfig
    from engine.hub.repository import Choice, RemoteFile
    from engine.hub.source import Source


def remote_config(choice: Choice, token: str | None = None, endpoint: str | None = None) -> ModelConfig:
    """The shape of a model that is not here yet.

    Args:
        choice: Which files of which repository.
        token: Of the user's account; None asks as a stranger.
        endpoint: The hub's address; None takes `HF_ENDPOINT`, else huggingface.co.

    Raises:
        RooftopError: The hub does not give it, or it is a model that this engine does not run.
    """
    from engine.hub.source import Source

    with closing(Source(choice, Hub(endpoint=endpoint).endpoint, token, connections=1)) as source:
        files = {file.name: file for file in choice.files}
        if choice.format == "GGUF":
            first = Path(choice.files[0].name)
            return read_gguf_config(read_gguf(first, lambda path: _header(source, files[path.name])))[0]
        return _from_config(source, files[CONFIG])


def _header(source: Source, file: RemoteFile) -> GgufHeader:
    return parse_gguf_header(
        Path(file.name), file.size_bytes, lambda position, into: _fetch(source, file, position, into)
    )


def _from_config(source: Source, file: RemoteFile) -> ModelConfig:
    content = bytearray(min(file.size_bytes, MAX_CONFIG_BYTES + 1))  # one that is too long is refused as it is read
    _fetch(source, file, 0, memoryview(content))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_bytes(content)
        return read_model_config(Path(folder))


def _fetch(source: Source, file: RemoteFile, position: int, into: memoryview) -> None:
    """Fill a buffer with a file's bytes from a position on.

    Raises:
        RooftopError: They do not come; this is not asked twice, as the model can be had without.
    """
    try:
        with source.open(file, position, position + len(into), "") as body:
            passed_over = position - body.start  # a server without ranges sends the file from its beginning
            while passed_over and (count := body.read_into(into[:passed_over])):
                passed_over -= count
            while into and (count := body.read_into(into)):
                into = into[count:]
    except TryAgain as error:
        raise _silent(error.reason) from error
    if into:
        raise _silent(say("its files end early"))


def _silent(reason: str) -> HubUnreachableError:
    return HubUnreachableError(
        say("The hub does not tell what this model is like: {reason}.", reason=reason), say("Retry later.")
    )
