"""Every connection of Rooftop: whom it trusts, through which proxy, and what is the matter where none comes about.

httpx2 takes the system's certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` in their place) and the proxy of the
environment, of Windows or of macOS. Here `REQUESTS_CA_BUNDLE` is added to the certificates, and what no second try will
better becomes an error of ours: `docs/decisions/0046-network-trust.md`.
"""

from __future__ import annotations

import functools
import os
import re
import ssl
import time
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2

from engine.errors import HubUnreachableError
from engine.sentences import say

CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
MAX_REASON_CHARS = 200
_NUMBER = re.compile(r"^\[Errno -?\d+\] ")

# The codes of OpenSSL (X509_V_ERR_...), of Windows (CERT_E_...) and of macOS (errSecCertificate...).
_NOT_YET_VALID = (9, -67819)
_EXPIRED = (10, 0x800B0101, -67818)
_OTHER_NAME = (62, 64, 0x800B010F, -67602)


class Client(httpx2.Client):
    """An HTTP client that says what is wrong with the proxy or the certificate, at once.

    Args:
        options: As httpx2's.

    Raises:
        HubUnreachableError: The certificates or the proxy that the environment names cannot be used.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - httpx2's own
        """See the class."""
        try:
            super().__init__(verify=trusted(), **options)
        except (ValueError, ImportError, httpx2.InvalidURL) as error:
            raise HubUnreachableError(
                say("The proxy that is set on this computer cannot be used: {reason}.", reason=_in_short(error)),
                say("Correct it in the system's settings or in HTTPS_PROXY, then start Rooftop again."),
            ) from error

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:  # noqa: ANN401
        """Send a request.

        Raises:
            HubUnreachableError: The proxy refuses, or a certificate is not trusted: trying again changes nothing.
            httpx2.HTTPError: Anything else.
        """
        url = str(request.url)
        try:
            answer = super().send(request, **options)
        except httpx2.TransportError as error:
            if (problem := _lasting_problem(error, url)) is None:
                raise
            raise problem from error
        if answer.status_code == 407:
            answer.close()
            raise _wants_a_name(url)
        return answer


@functools.cache
def trusted() -> ssl.SSLContext:
    """The authorities that are trusted; reading them takes long enough to do it once.

    Raises:
        HubUnreachableError: The environment names certificates that cannot be read.
    """
    try:
        context = httpx2.create_ssl_context()
        if bundle := os.environ.get("REQUESTS_CA_BUNDLE"):
            is_folder = os.path.isdir(bundle)  # noqa: PTH112 - as the variable has it
            context.load_verify_locations(**{"capath" if is_folder else "cafile": bundle})
    except OSError as error:  # ssl.SSLError is one
        names = ", ".join(name for name in CERTIFICATE_VARIABLES if os.environ.get(name))
        raise HubUnreachableError(
            say("The certificates set in {names} cannot be read: {reason}.", names=names, reason=_in_short(error)),
            say("Correct that, or leave it out, then start Rooftop again."),
        ) from error
    return context


def reason_of(error: Exception) -> str:
    """What a connection failed of, in a few words."""
    request = getattr(error, "_request", None)
    proxy = proxy_for(str(request.url)) if isinstance(request, httpx2.Request) else ""
    if proxy and isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return say("the proxy {proxy} cannot be reached", proxy=proxy)
    if proxy and isinstance(error, httpx2.ProxyError):
        return say("the proxy {proxy} says: {reason}", proxy=proxy, reason=_in_short(error))
    return _in_short(error)


def proxy_for(url: str) -> str:
    """The proxy that requests to an address go through, without name and password; "" where none does."""
    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return ""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    return proxy.rpartition("://")[2].rpartition("@")[2].rstrip("/")


def _lasting_problem(error: httpx2.TransportError, url: str) -> HubUnreachableError | None:
    """What no second try would better; None where one might."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(cause, urlsplit(url).hostname or "")
    status = str(error)[:3]
    if isinstance(error, httpx2.ProxyError) and status.isdigit() and status.startswith("4"):
        return _wants_a_name(url) if status == "407" else _forbidden(url, _in_short(error))
    return None


def _untrusted(error: ssl.SSLCertVerificationError, host: str) -> HubUnreachableError:
    """The error for a certificate."""
    today = time.strftime("%Y-%m-%d")
    code = getattr(error, "verify_code", 0)
    if code in _NOT_YET_VALID:
        return HubUnreachableError(
            say(
                "The certificate of {host} is not valid yet on {today}, the date on this computer.", **_at(host, today)
            ),
            say("Set this computer's clock, then retry."),
        )
    if code in _EXPIRED:
        return HubUnreachableError(
            say("The certificate of {host} has run out by {today}, the date on this computer.", **_at(host, today)),
            say("If that date is wrong, set the clock; otherwise retry when they have renewed it."),
        )
    if code in _OTHER_NAME:
        return HubUnreachableError(
            say("What answers for {host} has the certificate of another.", host=host),
            say("Check that you are online, without a sign-in page in between, then retry."),
        )
    return HubUnreachableError(
        say("This computer does not trust the certificate of {host}; a company's network may show its own.", host=host),
        say("Add the company's certificate to the system's, or name its file in REQUESTS_CA_BUNDLE, then start again."),
    )


def _at(host: str, today: str) -> dict[str, str]:
    return {"host": host, "today": today}


def _wants_a_name(url: str) -> HubUnreachableError:
    return HubUnreachableError(
        say("The proxy {proxy} asks for a name and a password.", proxy=proxy_for(url)),
        say("Write them into HTTPS_PROXY as http://name:password@host:port, then start Rooftop again."),
    )


def _forbidden(url: str, reason: str) -> HubUnreachableError:
    host = urlsplit(url).hostname or ""
    return HubUnreachableError(
        say(
            "The proxy {proxy} does not let Rooftop reach {host}: {reason}.",
            proxy=proxy_for(url),
            host=host,
            reason=reason,
        ),
        say("Ask whoever runs the network."),
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came of."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _in_short(error: Exception) -> str:
    words = _NUMBER.sub("", " ".join(str(error).split()))
    return words[:MAX_REASON_CHARS] or type(error).__name__
