import json
import time
from http.server import BaseHTTPRequestHandler

import pytest

from engine.errors import (
    ConfigurationError,
    GatedModelError,
    HubUnreachableError,
    NotOnHubError,
    RooftopError,
    UnsafeRepositoryError,
)
from engine.hub.api import Hub, check_repo_id, refusal
from engine.hub.repository import choices
from tests.engine.hub.conftest import CONTENT, FILE, REPO
from tests.engine.hub.hub_server import COMMIT, FakeHub, FakeRepository


def test_a_repository_is_what_the_hub_says_and_no_more(hub: FakeHub) -> None:
    hub.repositories[REPO].files.update({"pytorch_model.bin": b"x", "run.py": b"x", "config.json": b"{}"})
    hub.repositories[REPO].small = frozenset({"config.json"})
    found = Hub(endpoint=hub.endpoint).look_up(f" {REPO} ")
    assert (found.repo_id, found.commit, found.licence, found.gated) == (REPO, COMMIT, "apache-2.0", False)
    assert found.has_pickle
    by_path = {file.path: file for file in found.files}
    assert sorted(by_path) == ["config.json", FILE], "neither pickle nor code"
    assert by_path[FILE].size_bytes == len(CONTENT)
    assert by_path[FILE].sha256 == by_path[FILE].etag
    assert by_path["config.json"].sha256 is None
    assert len(by_path["config.json"].etag) == 40


def test_the_search_finds_names(hub: FakeHub) -> None:
    hub.repositories["acme/other"] = FakeRepository({"model.bin": b""}, gated=True)
    found = Hub(endpoint=hub.endpoint).search("OTHER")
    assert [(item.repo_id, item.gated, item.has_pickle, item.downloads) for item in found] == [
        ("acme/other", True, True, 1234)
    ]
    assert Hub(endpoint=hub.endpoint).search("nothing like it") == ()


def test_a_renamed_repository_is_followed(hub: FakeHub) -> None:
    hub.repositories["old/name"] = FakeRepository({}, moved_to=REPO)
    assert Hub(endpoint=hub.endpoint).look_up("old/name").repo_id == REPO


@pytest.mark.parametrize("name", ["", "model", "a/b/c", "a/..", "../b", "a--b/c", "a/b?x=1", "a" * 200 + "/b", "a b/c"])
def test_what_is_no_name_is_never_asked_for(hub: FakeHub, name: str) -> None:
    with pytest.raises(ConfigurationError, match="not the name of a repository"):
        Hub(endpoint=hub.endpoint).look_up(name)
    assert hub.requests == []
    assert check_repo_id(REPO) == REPO


def test_what_is_not_there_is_said_so(hub: FakeHub) -> None:
    with pytest.raises(NotOnHubError, match="'acme/none' is not on the hub"):
        Hub(endpoint=hub.endpoint).look_up("acme/none")


def test_nobody_there(unused_tcp_port: int) -> None:
    hub = Hub(endpoint=f"http://127.0.0.1:{unused_tcp_port}")
    began = time.monotonic()
    for question in (hub.look_up, hub.search):
        with pytest.raises(HubUnreachableError, match="cannot be reached"):
            question(REPO)
    assert time.monotonic() - began < 10, "huggingface_hub alone asks for 23 s"


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_has_too_much_to_do_is_not_waited_for(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    answer_with(hub, monkeypatch, b"", status)
    with pytest.raises(HubUnreachableError):
        Hub(endpoint=hub.endpoint).search("mixtral")


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    "body", [b"<html>Sign in</html>", b"[]", b"{}", b"null", b'{"id": 5, "siblings": 7}', b"[" * 9999]
)
def test_what_is_no_hub_is_said_so(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    answer_with(hub, monkeypatch, body)
    with pytest.raises(HubUnreachableError):
        choices(Hub(endpoint=hub.endpoint).look_up(REPO))


@pytest.mark.parametrize(
    "sibling",
    [
        {"rfilename": "m.gguf"},
        {"rfilename": "m.gguf", "size": -1},
        {"rfilename": "m.gguf", "size": 5, "lfs": {"size": 1 << 60, "sha256": "0" * 64, "pointerSize": 1}},
        {"rfilename": "m.gguf", "size": 5, "lfs": {"size": 5, "sha256": "../..", "pointerSize": 1}},
        {"rfilename": "m.gguf", "size": "5"},
        {"rfilename": None, "size": 5},
    ],
)
def test_sizes_and_checksums_are_not_believed_blindly(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, sibling: dict[str, object]
) -> None:
    answer_with(hub, monkeypatch, json.dumps({"id": REPO, "sha": COMMIT, "siblings": [sibling]}).encode())
    with pytest.raises(RooftopError):
        choices(Hub(endpoint=hub.endpoint).look_up(REPO))


def test_ten_thousand_files_are_too_many(hub: FakeHub) -> None:
    hub.repositories[REPO].files.update({f"{number}.json": b"" for number in range(10_000)})
    with pytest.raises(UnsafeRepositoryError, match="10001 files, over the limit of 5000"):
        Hub(endpoint=hub.endpoint).look_up(REPO)


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (401, "GatedRepo", GatedModelError),
        (403, "GatedRepo", GatedModelError),
        (403, "", GatedModelError),
        (401, "RepoNotFound", NotOnHubError),
        (404, "EntryNotFound", NotOnHubError),
        (410, "", NotOnHubError),
        (429, "", HubUnreachableError),
        (500, "", HubUnreachableError),
    ],
)
def test_what_a_refusal_means(status: int, kind: str, expected: type[RooftopError]) -> None:
    assert type(refusal(REPO, status, {"X-Error-Code": kind})) is expected


def answer_with(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, body: bytes, status: int = 200) -> None:
    """Have the hub answer every question with this."""
    from tests.engine.hub import hub_server

    def answer(self: BaseHTTPRequestHandler) -> None:
        self.answer(status, body, {"Content-Type": "application/json", "Retry-After": "60"})  # type: ignore[attr-defined]

    monkeypatch.setattr(hub_server._HubHandler, "do_GET", answer)
