"""The text of a PDF file, by pypdf: `python -m app.pdf_text FILE` writes it to stdout, as UTF-8.

A process of its own, because a malformed file can make any reader loop or take all memory. Imports
neither Qt nor torch. Exit codes: 0 done, 1 damaged, `ENCRYPTED`, `NO_TEXT`.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pypdf import PdfReader

DAMAGED, ENCRYPTED, NO_TEXT = 1, 3, 4
MAX_MEMORY_BYTES = 2 << 30
MAX_CHARS = 1_200_000
MAX_PAGES = 5000


def main(path: str) -> int:
    """Write the text of a file; returns the exit code."""
    _limit_memory()
    logging.disable(logging.CRITICAL)
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError, WrongPasswordError

    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            return ENCRYPTED
        text = _text_of(reader)
    except (DependencyError, FileNotDecryptedError, WrongPasswordError):
        return ENCRYPTED
    except Exception:  # noqa: BLE001 - whatever a malformed file does to the reader, it is damaged
        return DAMAGED
    if not text.strip():
        return NO_TEXT
    sys.stdout.buffer.write(text.encode("utf-8", errors="replace"))
    return 0


def _text_of(reader: PdfReader) -> str:
    pages: list[str] = []
    length = 0
    for page in reader.pages[:MAX_PAGES]:
        pages.append(page.extract_text().strip())
        length += len(pages[-1])
        if length > MAX_CHARS:
            break
    return "\n\n".join(pages)


def _limit_memory() -> None:
    """Bound what this process may take, where the system can."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
