"""The user's token for gated models on the hub: in the system's keyring, never in a file or a log of ours.

A system without a keyring is told so; the token then lasts until Rooftop is closed.
"""

from __future__ import annotations

import logging

from app.settings import APP_NAME

ENTRY = "huggingface.co"
MAX_TOKEN_CHARS = 200

log = logging.getLogger(__name__)


class HubToken:
    """The token; its calls may wait for the keyring, so ask from a thread where that matters."""

    def __init__(self) -> None:
        self._session: str | None = None

    def get(self) -> str | None:
        """The token; None where the user has given none."""
        if self._session is not None:
            return self._session
        import keyring
        from keyring.errors import KeyringError

        try:
            return keyring.get_password(APP_NAME, ENTRY)
        except KeyringError as error:
            log.info("no keyring: %s", type(error).__name__)
            return None

    def set(self, token: str) -> bool:
        """Take a token; "" forgets the one that is there.

        Returns:
            Whether the keyring keeps it; where not, it lasts for this session.

        Raises:
            ValueError: It cannot be a token.
        """
        token = token.strip()
        if len(token) > MAX_TOKEN_CHARS or not (token.isascii() and token.isprintable()) or " " in token:
            raise ValueError("not a token")
        self._session = token or None
        import keyring
        from keyring.errors import KeyringError, PasswordDeleteError

        try:
            if token:
                keyring.set_password(APP_NAME, ENTRY, token)
            else:
                keyring.delete_password(APP_NAME, ENTRY)
        except PasswordDeleteError:
            return True  # there was none
        except KeyringError as error:
            log.info("no keyring: %s", type(error).__name__)
            return False
        return True
