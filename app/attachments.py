"""Files that go to the model with a message: reads them as text, or says in one sentence why not. Knows nothing of Qt.

Plain text is taken in UTF-8, in UTF-16 and UTF-32 by their byte order marks, else in Latin-1. A PDF file is somebody
else's program in disguise: `app.pdf_text` reads it in a process of its own, which is ended when its time is up.
"""

from __future__ import annotations

import codecs
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.conversation import Attachment
from app.language import tr
from app.pdf_text import ENCRYPTED, NO_TEXT
from app.units import bytes_text, number_text
from engine.errors import RooftopError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FILE_BYTES = 20 << 20
MAX_TEXT_CHARS = 1_000_000
MAX_ATTACHMENTS = 20
MAX_NAME_CHARS = 120
PDF_TIMEOUT_S = 30.0
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PROBE_BYTES = 8192
_CONTROLS = frozenset(range(32)) - {9, 10, 12, 13, 27}


class AttachmentError(RooftopError):
    """A file cannot be attached."""

    code = "attachment"


def read_attachment(path: Path, pdf_timeout_s: float = PDF_TIMEOUT_S) -> Attachment:
    """Read a file; slow for a PDF, so never on the window's thread.

    Raises:
        AttachmentError: It cannot be used; with the reason and what to do.
    """
    name = path.name[:MAX_NAME_CHARS]
    try:
        if not path.is_file():
            if not path.exists():
                raise _refused(tr("“{name}” is not there any more.").format(name=name), tr("Attach another file."))
            raise _refused(tr("“{name}” is not a file.").format(name=name), tr("Attach the files in it one by one."))
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = tr("“{name}” cannot be read ({reason}).").format(name=name, reason=error.strerror or error)
        raise _refused(reason, tr("Check the file and its permissions.")) from error
    if len(data) > MAX_FILE_BYTES:
        reason = tr("“{name}” is larger than {limit}.").format(name=name, limit=bytes_text(MAX_FILE_BYTES))
        raise _refused(reason, tr("Attach only the part that matters."))
    text = _pdf_text(path, name, pdf_timeout_s) if data.startswith(b"%PDF-") else _plain_text(data, name)
    if not text.strip():
        raise _refused(tr("“{name}” holds no text.").format(name=name), tr("Attach another file."))
    if len(text) > MAX_TEXT_CHARS:
        reason = tr("“{name}” holds more than {limit} characters.").format(name=name, limit=number_text(MAX_TEXT_CHARS))
        raise _refused(reason, tr("Attach only the part that matters."))
    return Attachment(name, text)


def with_attachments(text: str, attachments: Sequence[Attachment]) -> str:
    """A message as the model reads it: each file under its name in a fence of its own, then the text."""
    parts = [_fenced(attachment) for attachment in attachments]
    return "\n\n".join([*parts, text] if text.strip() else parts)


def _fenced(attachment: Attachment) -> str:
    fence = "```"
    while fence in attachment.text:
        fence += "`"
    body = attachment.text.rstrip("\n")
    return f"File: {attachment.name}\n{fence}\n{body}\n{fence}"


def _plain_text(data: bytes, name: str) -> str:
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "")
    if not encoding and _is_binary(data[:_PROBE_BYTES]):
        reason = tr("“{name}” is not a text file.").format(name=name)
        raise _refused(reason, tr("Text, code and PDF files can be attached; save it as one of these."))
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _is_binary(head: bytes) -> bool:
    """Whether a file's beginning has bytes that no text has."""
    return any(byte in _CONTROLS for byte in head)


def _pdf_text(path: Path, name: str, timeout_s: float) -> str:
    command = [sys.executable, "-P", "-m", "app.pdf_text", str(path)]
    source = str(Path(__file__).resolve().parent.parent)
    path_list = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout_s, check=False, env={**os.environ, "PYTHONPATH": path_list}
        )
    except subprocess.TimeoutExpired as error:
        reason = tr("“{name}” could not be read in {seconds} seconds.").format(name=name, seconds=f"{timeout_s:.0f}")
        raise _refused(reason, tr("Save the pages that matter as a file of their own.")) from error
    if done.returncode == ENCRYPTED:
        reason = tr("“{name}” is protected by a password.").format(name=name)
        raise _refused(reason, tr("Save a copy without one in your PDF viewer and attach that."))
    if done.returncode == NO_TEXT:
        reason = tr("“{name}” holds pictures of pages but no text.").format(name=name)
        raise _refused(reason, tr("Run it through text recognition (OCR) first."))
    if done.returncode != 0:
        reason = tr("“{name}” is a damaged PDF file.").format(name=name)
        raise _refused(reason, tr("Open it in a PDF viewer, save it anew and attach that."))
    return done.stdout.decode("utf-8", errors="replace")


def _refused(reason: str, remedy: str) -> AttachmentError:
    return AttachmentError(reason, remedy)
