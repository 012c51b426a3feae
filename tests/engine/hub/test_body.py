"""Bodies read from the socket, held against the same ones read by the library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trustme
from huggingface_hub import close_session

from engine.hub import source as source_module
from engine.hub.answer import Body, TryAgain
from engine.hub.body import LibraryReader, SocketReader
from engine.hub.connection import trusted
from engine.hub.source import Source
from tests.engine.hub.conftest import CONTENT, FILE, REPO, chosen
from tests.engine.hub.hub_server import FakeHub, FakeRepository, Fault, fake_hub
from tests.network import certificate_of

START, STOP = 1_000, 1_500_001


@contextmanager
def opened(hub: FakeHub, silence_s: float = 5.0) -> Iterator[tuple[Source, Body]]:
    choice = chosen(hub)
    source = Source(choice, hub.endpoint, "secret", silence_s)
    with closing(source), source.open(choice.files[0], START, STOP, "") as body:
        yield source, body


def take_all(body: Body, found: bytearray, size: int = 1 << 20) -> None:
    """A body through buffers of about a size."""
    count = -1
    while count:
        buffer = bytearray(size + len(found) % 7)
        count = body.read_into(memoryview(buffer))
        found += buffer[:count]


@pytest.fixture(params=["http", "https"])
def any_hub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with and without TLS."""
    company = trustme.CA()
    company.cert_pem.write_to_path(str(tmp_path / "company.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "company.pem"))
    trusted.cache_clear()
    close_session()
    with fake_hub(certificate_of(company) if request.param == "https" else None) as server:
        server.repositories[REPO] = FakeRepository({FILE: CONTENT})
        yield server
    trusted.cache_clear()
    close_session()


@pytest.mark.parametrize("size", [1 << 10, 70_001, 1 << 21])
@pytest.mark.parametrize("whole", [False, True], ids=["range", "whole"])
def test_the_socket_gives_what_the_library_gives(
    any_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, size: int, whole: bool
) -> None:
    any_hub.always[FILE] = Fault(whole=whole)
    found = []
    for by_library in (False, True):
        if by_library:
            monkeypatch.setattr(
                source_module, "reader_of", lambda answer, *_: LibraryReader(answer.iter_raw()).read_into
            )
        with opened(any_hub) as (_, body):
            reader = getattr(body.read_into, "__self__", None)
            assert isinstance(reader, LibraryReader if by_library else SocketReader)
            content = bytearray()
            take_all(body, content, size)
            found.append((body.start, body.etag, content))
    assert found[0] == found[1]
    assert found[0][2] == (CONTENT if whole else CONTENT[START:STOP])


def test_nothing_beyond_the_body_is_taken(hub: FakeHub) -> None:
    with opened(hub) as (_, body):
        found = bytearray()
        take_all(body, found, 1 << 22)
        assert len(found) == STOP - START
        assert body.read_into(memoryview(bytearray(10))) == 0


def test_a_body_that_ends_early_is_worth_another_try(hub: FakeHub) -> None:
    hub.faults[FILE] = [Fault(after_bytes=300_000)]
    found = bytearray()
    with opened(hub) as (_, body), pytest.raises(TryAgain, match="too early"):
        take_all(body, found)
    assert found == CONTENT[START : START + 300_000]


def test_silence_in_the_middle_is_told_as_such(hub: FakeHub) -> None:
    hub.faults[FILE] = [Fault(after_bytes=300_000, silent=True)]
    with pytest.raises(TryAgain) as caught, opened(hub, silence_s=0.2) as (_, body):
        take_all(body, bytearray())
    assert caught.value.silent


def test_what_comes_after_closing_does_not_count(hub: FakeHub) -> None:
    found = bytearray()

    def close_and_go_on() -> None:
        with opened(hub) as (source, body):
            assert body.read_into(memoryview(bytearray(1)))
            source.close()
            take_all(body, found)

    with pytest.raises(TryAgain):
        close_and_go_on()
    assert len(found) < STOP - START
