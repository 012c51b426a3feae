"""Is there a newer version: what is asked, what is believed, and when; against a server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytestqt.qtbot import QtBot

from app import updates
from app.updates import DAY_S, Release, UpdateCheck, UpdateError, fetch, is_due, newer_release, release_list_address
from tests.examples import examples

PAGE = "https://example.org/releases/1"


def entry(tag: object = "v9.1", **changes: object) -> dict[str, Any]:
    return {"tag_name": tag, "html_url": PAGE, "draft": False, "prerelease": False, "assets": [], **changes}


@dataclass
class Releases:
    """A server that lists releases."""

    body: bytes = json.dumps([entry()]).encode()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    heard: list[dict[str, str]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def releases() -> Iterator[Releases]:
    known = Releases()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.heard.append({"path": self.path, **dict(self.headers.items())})
            self.send_response(known.status)
            for name, value in {"Content-Length": str(len(known.body)), **known.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(known.body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known.address = f"http://127.0.0.1:{server.server_port}/list"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield known
    server.shutdown()
    server.server_close()


def test_nothing_about_the_user_is_sent(releases: Releases, qtbot: QtBot) -> None:
    check = UpdateCheck(releases.address)
    with qtbot.waitSignal(check.answered) as answered:
        check.ask()
    assert answered.args == [Release("9.1", PAGE), None]
    (heard,) = releases.heard
    assert heard.pop("User-Agent") == f"rooftop/{metadata.version('rooftop')}"
    assert set(heard) == {"path", "Host", "Accept", "Accept-Encoding", "Connection"}


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([entry("0.1.0"), entry("v0.0.9")], None),
        ([entry("v0.2"), entry("0.10.0"), entry("0.9.9")], "0.10.0"),
        ([entry("0.2rc1"), entry("0.3", prerelease=True), entry("0.4", draft=True)], None),
        ([entry("0.2.post1"), entry("nightly"), entry(None), entry(7), "text", None, [], {}], "0.2.post1"),
        ([entry("1" * 50), entry("9", html_url=None), entry("0.2")], "0.2"),
        ([], None),
    ],
)
def test_the_newest_that_is_for_everybody(listed: list[object], expected: str | None) -> None:
    found = newer_release(json.dumps(listed).encode(), "0.1.0")
    assert (found.version if found else None) == expected


@pytest.mark.parametrize(
    "page",
    ["http://example.org/", "file:///etc/passwd", "javascript:alert(1)", "https://a@b.c/", "https://", "https://a b/",
     "https://x/\n", "https://[", "https://ex\u00e4mple.org", "https://x/" + "y" * 500, 5],
)  # fmt: skip
def test_a_page_that_must_not_be_opened_is_no_release(page: object) -> None:
    assert newer_release(json.dumps([entry(html_url=page)]).encode(), "0.1.0") is None


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"{}", b"[" * 100_000, b"\xff\xfe", b"[" + b"0," * 1000 + b"0]", b"null"]
)
def test_what_is_no_list_is_one_sentence(answer: bytes) -> None:
    with pytest.raises(UpdateError, match="no list of them"):
        newer_release(answer, "0.1.0")


NAMES = st.sampled_from(["tag_name", "html_url", "draft", "prerelease", "other"])


@examples(60)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=9) | st.booleans(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
        max_leaves=12,
    )
)
def test_no_json_gets_further_than_a_sentence(listed: object) -> None:
    try:
        assert newer_release(json.dumps(listed).encode(), "0.1.0") is None
    except UpdateError:
        assert not isinstance(listed, list)


def test_answers_that_are_too_long_or_slow_or_wrong(releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    releases.body = b" " * (updates.MAX_ANSWER_BYTES + 1)
    with pytest.raises(UpdateError, match="no list"):
        fetch(releases.address)
    releases.body = b"[]"
    monkeypatch.setattr(updates, "MAX_ASKING_S", -1.0)
    with pytest.raises(UpdateError, match="no list"):
        fetch(releases.address)
    releases.status = 500
    with pytest.raises(UpdateError, match=r"127\.0\.0\.1 answered with error 500"):
        fetch(releases.address)


@pytest.mark.parametrize("target", ["http://example.org/", "http://10.0.0.1/x"])
def test_no_redirect_leads_to_an_open_connection(target: str, releases: Releases) -> None:
    releases.status, releases.headers = 302, {"Location": target}
    with pytest.raises(UpdateError, match="not on a private connection"):
        fetch(releases.address)
    with pytest.raises(UpdateError, match="not on a private connection"):
        fetch(target)


def test_redirects_end(releases: Releases) -> None:
    releases.status, releases.headers = 302, {"Location": releases.address}
    with pytest.raises(UpdateError, match="cannot be reached"):
        fetch(releases.address)
    assert len(releases.heard) == updates.MAX_REDIRECTS + 1


def test_nobody_there(releases: Releases, qtbot: QtBot) -> None:
    check = UpdateCheck("https://127.0.0.1:9/")
    with qtbot.waitSignal(check.answered) as answered:
        check.ask()
    release, error = answered.args
    assert release is None
    assert str(error).startswith("127.0.0.1 cannot be reached")


@pytest.mark.parametrize(
    ("asked_s", "due"), [(0, True), (1e9, False), (1e9 - DAY_S, True), (1e9 - 1, False), (1e9 + 60, True), (4e9, True)]
)
def test_once_a_day_also_after_the_clock_was_set_back(asked_s: float, due: bool) -> None:
    assert is_due(asked_s, 1e9) is due


def test_the_address_is_the_packages_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Package:
        def get_all(self, name: str) -> list[str] | None:
            assert name == "Project-URL"
            return urls

    urls: list[str] | None = ["Homepage, https://example.org", "Releases-API, https://example.org/releases"]
    monkeypatch.setattr("app.updates.metadata.metadata", lambda _name: Package())
    assert release_list_address() == "https://example.org/releases"
    urls = None
    assert release_list_address() == ""
