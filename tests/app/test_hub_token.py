import logging

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import NoKeyringError, PasswordDeleteError

from app.hub_token import HubToken


class Memory(KeyringBackend):
    priority = 1.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError


class Absent(Memory):
    def _refuse(self, *_values: str) -> str | None:
        raise NoKeyringError

    get_password = set_password = delete_password = _refuse  # type: ignore[assignment]


def use(backend: KeyringBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring.core, "_keyring_backend", backend)


def test_the_keyring_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    use(Memory(), monkeypatch)
    assert HubToken().get() is None
    assert HubToken().set(" hf_abc \n")
    assert HubToken().get() == "hf_abc"
    token = HubToken()
    assert token.set("")
    assert token.get() is None
    assert token.set("")


def test_without_a_keyring_it_lasts_for_the_session(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    use(Absent(), monkeypatch)
    token = HubToken()
    assert token.get() is None
    assert not token.set("hf_secret")
    assert token.get() == "hf_secret"
    assert HubToken().get() is None
    assert "hf_secret" not in caplog.text


@pytest.mark.parametrize("text", ["a b", "x" * 300, "h\0f", "tökén", "a\nb"])
def test_what_can_be_no_token_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    use(Memory(), monkeypatch)
    with pytest.raises(ValueError, match="not a token"):
        HubToken().set(text)
