"""Proxies and certificates, over real sockets: what a company's network does to a download, and what is said of it."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import trustme
from huggingface_hub import close_session

from engine.errors import HubUnreachableError
from engine.hub import connection
from engine.hub.api import Hub
from engine.hub.connection import Client
from tests.engine.hub.conftest import CONTENT, FILE, REPO, chosen, transfer
from tests.engine.hub.hub_server import FakeHub, FakeRepository, fake_hub
from tests.network import Kind, Proxy, certificate_of, proxy_server

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", *connection.CERTIFICATE_VARIABLES)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No proxy, and the system's certificates."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    connection.trusted.cache_clear()
    close_session()
    yield
    connection.trusted.cache_clear()
    close_session()


@pytest.fixture(scope="module")
def company() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def company_file(company: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "company.pem"
    company.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def secure_hub(company: trustme.CA) -> Iterator[FakeHub]:
    with fake_hub(certificate_of(company)) as hub:
        hub.repositories[REPO] = FakeRepository({FILE: CONTENT})
        yield hub


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with proxy_server() as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{server.address}")
        yield server


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_companys_certificate_and_proxy_let_a_download_through(
    variable: str, company_file: str, secure_hub: FakeHub, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None)
    monkeypatch.setenv(variable, company_file)
    proxy.account = base64.b64encode(b"jane:s3cret").decode()
    monkeypatch.setenv("HTTPS_PROXY", f"http://jane:s3cret@{proxy.address}")
    path = transfer(secure_hub, tmp_path / "models", chosen(secure_hub)).run()
    assert path.read_bytes() == CONTENT
    assert {tunnel.partition(":")[0] for tunnel in proxy.tunnels} == {"localhost"}, "nobody else is asked"
    assert len(proxy.tunnels) >= 2, "the hub's and the storage's"


def test_no_proxy_is_honoured(
    company_file: str, secure_hub: FakeHub, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", company_file)
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert Hub(endpoint=secure_hub.endpoint).look_up(REPO).repo_id == REPO
    assert not proxy.tunnels


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("expired", "The certificate of localhost has run out by 20"),
        ("early", "The certificate of localhost is not valid yet on 20"),
        ("other", "What answers for localhost has the certificate of another."),
    ],
)
def test_a_wrong_certificate_is_told_apart_from_a_wrong_clock(
    kind: Kind, sentence: str, company: trustme.CA, company_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", company_file)
    with fake_hub(certificate_of(company, kind)) as hub, pytest.raises(HubUnreachableError) as caught:
        Hub(endpoint=hub.endpoint).look_up(REPO)
    assert caught.value.message.startswith(sentence)
    assert ("clock" in caught.value.remedy) == (kind != "other")


def test_an_unknown_issuer_ends_the_questions_and_the_download_at_once(
    company_file: str, secure_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", company_file)
    choice = chosen(secure_hub)
    monkeypatch.delenv("SSL_CERT_FILE")
    connection.trusted.cache_clear()
    close_session()
    before = len(secure_hub.requests)
    for act in (lambda: Hub(endpoint=secure_hub.endpoint).search("mix"), transfer(secure_hub, tmp_path, choice).run):
        with pytest.raises(HubUnreachableError, match="does not trust the certificate of localhost") as caught:
            act()
        assert "REQUESTS_CA_BUNDLE" in caught.value.remedy
    assert len(secure_hub.requests) == before


def test_a_proxy_that_asks_for_a_name(secure_hub: FakeHub, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.account = "c2VjcmV0"
    monkeypatch.setenv("HTTP_PROXY", f"http://jane:wrong@{proxy.address}")
    for endpoint in (secure_hub.endpoint, "http://hub.example"):
        with pytest.raises(HubUnreachableError, match=f"The proxy {proxy.address} asks for a name") as caught:
            Hub(endpoint=endpoint).look_up(REPO)
        assert "HTTPS_PROXY" in caught.value.remedy
        assert "wrong" not in str(caught.value)
    assert len(proxy.tunnels) == 1


def test_a_proxy_that_forbids_and_one_that_fails(secure_hub: FakeHub, proxy: Proxy) -> None:
    proxy.refuses = 403
    with pytest.raises(
        HubUnreachableError, match=f"The proxy {proxy.address} does not let Rooftop reach localhost: 403"
    ):
        Hub(endpoint=secure_hub.endpoint).look_up(REPO)
    proxy.refuses = 502
    with pytest.raises(HubUnreachableError, match=f"cannot be reached: the proxy {proxy.address} says: 502"):
        Hub(endpoint=secure_hub.endpoint).look_up(REPO)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_is_away_is_named_without_its_password(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = unused_port()
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://jane:s3cret@127.0.0.1:{port}")
    with pytest.raises(HubUnreachableError, match=f"the proxy 127.0.0.1:{port} cannot be reached") as caught:
        Hub(endpoint="https://hub.example").look_up(REPO)
    assert "s3cret" not in str(caught.value)


def test_a_download_through_a_proxy_that_is_away_names_it(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = chosen(hub)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(HubUnreachableError, match=r"4 times in a row: the proxy 127\.0\.0\.1"):
        transfer(hub, tmp_path, choice).run()


def test_a_proxy_of_an_unknown_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://10.0.0.1")
    with pytest.raises(HubUnreachableError, match="The proxy that is set on this computer cannot be used"):
        Client()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_certificates_that_cannot_be_read(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.pem"
    for make in (lambda: None, lambda: broken.write_text("no certificate")):
        make()
        monkeypatch.setenv(variable, str(broken))
        with pytest.raises(HubUnreachableError, match=f"The certificates set in {variable} cannot be read"):
            Client()


def test_the_systems_certificates_are_the_start(company_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = httpx2.create_ssl_context().cert_store_stats()["x509_ca"]
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", company_file)
    assert connection.trusted().cert_store_stats()["x509_ca"] == alone + 1
