import io
import sys
import time
from pathlib import Path

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from app import attachments
from app.attachments import AttachmentError, read_attachment, with_attachments
from app.conversation import Attachment, Conversation


def pdf(text: str = "", password: str = "") -> bytes:
    """A PDF file with one page."""
    writer = PdfWriter()
    page = writer.add_blank_page(200, 200)
    if text:
        font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
        entry = DictionaryObject({NameObject(key): NameObject(value) for key, value in font.items()})
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(entry)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def write(tmp_path: Path, content: bytes, name: str = "file.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"plain\r\nlines\r", "plain\nlines\n"),
        ("Gr\u00fc\u00dfe \U0001f600".encode(), "Gr\u00fc\u00dfe \U0001f600"),
        ("\ufeffwith mark".encode(), "with mark"),
        ("Gr\u00fc\u00dfe".encode("utf-16"), "Gr\u00fc\u00dfe"),
        ("Gr\u00fc\u00dfe".encode("utf-32"), "Gr\u00fc\u00dfe"),
        ("Gr\u00fc\u00dfe".encode("latin-1"), "Gr\u00fc\u00dfe"),
    ],
)
def test_texts_are_read_in_their_encoding(tmp_path: Path, content: bytes, text: str) -> None:
    assert read_attachment(write(tmp_path, content)) == Attachment("file.txt", text)


def test_the_text_of_a_pdf(tmp_path: Path) -> None:
    found = read_attachment(write(tmp_path, pdf("Hello from a page"), "a.pdf"))
    assert found == Attachment("a.pdf", "Hello from a page")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no text"),
        (b"  \n ", "holds no text"),
        (b"\x7fELF\x00\x01\x02", "not a text file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a text file"),
        (pdf("x", "secret"), "password"),
        (pdf(), "pictures of pages"),
        (b"%PDF-1.7\nnonsense", "damaged PDF"),
        (b"%PDF-1.4\n" + b"1 0 obj << /Kids [1 0 R] >>" * 1000, "damaged PDF"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_a_remedy(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(AttachmentError, match=words) as caught:
        read_attachment(write(tmp_path, content))
    assert "file.txt" in caught.value.message
    assert caught.value.remedy


def test_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "is not a file"), (tmp_path / "missing", "is not there any more")):
        with pytest.raises(AttachmentError, match=words):
            read_attachment(path)


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MAX_FILE_BYTES", 100)
    with pytest.raises(AttachmentError, match="larger than"):
        read_attachment(write(tmp_path, b"x" * 101))
    monkeypatch.setattr(attachments, "MAX_TEXT_CHARS", 50)
    with pytest.raises(AttachmentError, match="more than 50"):
        read_attachment(write(tmp_path, b"x" * 51))


def test_a_pdf_that_takes_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = write(tmp_path, b"#!/bin/sh\nexec sleep 60\n", "slow")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    started = time.monotonic()
    with pytest.raises(AttachmentError, match="could not be read in"):
        read_attachment(write(tmp_path, pdf("x"), "a.pdf"), pdf_timeout_s=0.2)
    assert time.monotonic() - started < 30


def test_files_come_before_the_text_and_cannot_end_their_fence() -> None:
    text = with_attachments("Why?", [Attachment("a.md", "```\ncode\n```\n"), Attachment("b.py", "x")])
    assert text == "File: a.md\n````\n```\ncode\n```\n````\n\nFile: b.py\n```\nx\n```\n\nWhy?"
    assert with_attachments("Why?", []) == "Why?"


def test_the_engine_gets_the_files_of_every_message() -> None:
    chat = Conversation()
    chat.add_user("Why?", (Attachment("a.py", "x = 1"),))
    chat.add_user("", (Attachment("b.py", "y = 2"),))
    (turn,) = chat.for_engine()
    assert turn.content == "File: a.py\n```\nx = 1\n```\n\nWhy?\n\nFile: b.py\n```\ny = 2\n```"
