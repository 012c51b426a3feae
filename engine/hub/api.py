"""Questions to the hub, through huggingface_hub: what a repository holds, and which repositories there are.

Everything that comes back is checked here and becomes our own types; everything that goes wrong becomes one of our
errors. `HF_ENDPOINT` is honoured, as huggingface_hub reads it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from engine.checkpoint.untrusted import quote
from engine.errors import (
    ConfigurationError,
    GatedModelError,
    HubUnreachableError,
    NotOnHubError,
    RooftopError,
    UnsafeRepositoryError,
)
from engine.hub.names import CHOOSE_ANOTHER, COMMIT, HUB_ID, SHA256
from engine.hub.repository import MAX_FILES, RemoteFile, Repository, is_allowed, is_pickle
from engine.sentences import say

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

ANSWER_TIMEOUT_S = 20.0
MAX_ASKED = 2  # times that the same question goes out
ASKED_AGAIN = (408, 429, 500, 502, 503, 504)  # statuses after which huggingface_hub waits
MAX_FOUND = 40
MAX_TEXT_CHARS = 200

_Answer = TypeVar("_Answer")


def check_repo_id(text: str) -> str:
    """Hold that a text is "owner/name".

    Raises:
        ConfigurationError: It is not.
    """
    text = text.strip()
    if not HUB_ID.fullmatch(text) or "--" in text or ".." in text:
        raise ConfigurationError(
            say("{text} is not the name of a repository on the hub.", text=quote(text)), say("Write it as owner/name.")
        )
    return text


class Hub:
    """The hub as Rooftop asks it; any thread may ask.

    Args:
        token: Of the user's account, for gated models; None asks as a stranger.
        endpoint: Where the hub is; None takes `HF_ENDPOINT`, else huggingface.co.
    """

    def __init__(self, token: str | None = None, endpoint: str | None = None) -> None:
        """See the class."""
        self._token = token
        self._endpoint = endpoint

    @property
    def endpoint(self) -> str:
        """The hub's address, without a slash at its end."""
        return self._api().endpoint.rstrip("/")

    def look_up(self, repo_id: str, revision: str | None = None) -> Repository:
        """What a repository holds now.

        Args:
            repo_id: "owner/name".
            revision: A branch, tag or commit; None takes the main branch.

        Raises:
            RooftopError: It is not there, closed, unsafe, or the hub does not answer.
        """
        name = check_repo_id(repo_id)
        info = _ask(
            name,
            lambda: self._api().model_info(
                name, revision=revision, files_metadata=True, timeout=ANSWER_TIMEOUT_S, token=self._token or False
            ),
        )
        return _repository(info, _files(info))

    def search(self, text: str) -> tuple[Repository, ...]:
        """Repositories that fit some words, the most downloaded first; their files are not listed.

        Raises:
            RooftopError: The hub does not answer.
        """
        found = _ask(
            text,
            lambda: list(
                self._api().list_models(
                    search=text.strip()[:MAX_TEXT_CHARS],
                    sort="downloads",
                    limit=MAX_FOUND,
                    full=True,
                    token=self._token or False,
                )
            ),
        )
        return tuple(_repository(info, ()) for info in found if info.id and HUB_ID.fullmatch(info.id))

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        _use_our_client()
        return HfApi(endpoint=self._endpoint, library_name="rooftop")


@cache
def _use_our_client() -> None:
    """Give huggingface_hub's questions an end: of itself it waits for ever, and asks again for half a minute.

    Its telemetry is turned off too: it would ask huggingface.co which programs start it, whatever the hub's address.
    """
    from huggingface_hub import constants, set_client_factory

    from engine.hub.connection import Client

    constants.HF_HUB_DISABLE_TELEMETRY = True
    hooks: dict[str, list[Callable[..., Any]]] = {"request": [_limit_request], "response": [_limit_response]}
    set_client_factory(lambda: Client(event_hooks=hooks, follow_redirects=True, timeout=ANSWER_TIMEOUT_S))


class _EnoughAsked(Exception):  # noqa: N818 - ends the asking, is no error
    """An answer that asking again would not better, or None where none came."""

    def __init__(self, answer: httpx2.Response | None = None) -> None:
        super().__init__()
        self.answer = answer


class _Questions(threading.local):
    """What this thread has asked since `_ask` began."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()


_questions = _Questions()


def _limit_request(request: httpx2.Request) -> None:
    _questions.asked[str(request.url)] += 1
    if _questions.asked[str(request.url)] > MAX_ASKED:
        raise _EnoughAsked


def _limit_response(answer: httpx2.Response) -> None:
    if answer.status_code in ASKED_AGAIN:
        raise _EnoughAsked(answer)


def _ask(name: str, question: Callable[[], _Answer]) -> _Answer:
    """Ask, and turn whatever goes wrong into our errors."""
    import httpx2
    from huggingface_hub import errors

    _questions.asked.clear()
    try:
        return question()
    except _EnoughAsked as error:
        if error.answer is not None:
            raise refusal(name, error.answer.status_code, error.answer.headers) from error
        raise HubUnreachableError(
            say("The hub cannot be reached."), say("Check your connection, then retry.")
        ) from error
    except errors.HfHubHTTPError as error:
        raise refusal(name, error.response.status_code, error.response.headers) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise unreachable(error) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise HubUnreachableError(
            say("What answers at the hub's address is not the hub."),
            say("Check that you are online, without a sign-in page in between, then retry."),
        ) from error


def refusal(repo_id: str, status: int, headers: Mapping[str, str]) -> RooftopError:
    """The error for an answer that is no success.

    Args:
        repo_id: What was asked for.
        status: The answer's status.
        headers: The answer's headers; the hub says in one of them what is the matter.
    """
    kind, name = headers.get("X-Error-Code", ""), quote(repo_id)
    if kind == "GatedRepo" or (status == 403 and kind != "RepoNotFound"):
        return GatedModelError(
            say("{name} is open only to accounts that its publisher has let in.", name=name),
            say("Ask for access on its page on huggingface.co, then enter your token (as HF_TOKEN for the command)."),
        )
    if status in (401, 404, 410) or kind in ("RepoNotFound", "RevisionNotFound", "EntryNotFound"):
        return NotOnHubError(
            say("{name} is not on the hub, or not any more, or it is private.", name=name),
            say("Check its name; for a private one enter your token."),
        )
    if status == 429:
        return HubUnreachableError(say("The hub asks to slow down."), say("Wait a few minutes, then retry."))
    return HubUnreachableError(say("The hub answered with error {status}.", status=status), say("Retry later."))


def unreachable(error: Exception) -> HubUnreachableError:
    """The error for a connection that failed."""
    from engine.hub.connection import reason_of

    return HubUnreachableError(
        say("The hub cannot be reached: {reason}.", reason=reason_of(error)), say("Check your connection, then retry.")
    )


def _repository(info: ModelInfo, files: tuple[RemoteFile, ...]) -> Repository:
    """Our own view of what the hub says."""
    tags = tuple(tag[:MAX_TEXT_CHARS] for tag in info.tags or () if isinstance(tag, str) and tag.isprintable())
    licence = next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), "")
    commit = info.sha if isinstance(info.sha, str) else ""
    if files and not COMMIT.fullmatch(commit):
        raise HubUnreachableError(say("The hub does not say which commit it speaks of."), say("Retry later."))
    return Repository(
        repo_id=info.id,
        commit=commit,
        files=files,
        licence=licence,
        gated=bool(info.gated),
        downloads=info.downloads if isinstance(info.downloads, int) else None,
        has_pickle=any(is_pickle(str(sibling.rfilename)) for sibling in info.siblings or ()),
        tags=tags,
    )


def _files(info: ModelInfo) -> tuple[RemoteFile, ...]:
    """The files that may be taken; the others are not even looked at."""
    siblings = info.siblings or []
    if len(siblings) > MAX_FILES:
        raise UnsafeRepositoryError(
            say(
                "{name} has {count} files, over the limit of {most}.",
                name=quote(info.id),
                count=len(siblings),
                most=MAX_FILES,
            ),
            CHOOSE_ANOTHER,
        )
    return tuple(_file(sibling) for sibling in siblings if is_allowed(str(sibling.rfilename)))


def _file(sibling: RepoSibling) -> RemoteFile:
    lfs = sibling.lfs
    sha256 = lfs.sha256 if lfs is not None else None
    size = lfs.size if lfs is not None else sibling.size
    if not isinstance(size, int) or not 0 <= size < 1 << 50 or (sha256 is not None and not SHA256.fullmatch(sha256)):
        raise HubUnreachableError(
            say("The hub does not say how large {file} is.", file=quote(sibling.rfilename)),
            say("Retry later."),
        )
    return RemoteFile(str(sibling.rfilename), size, sha256, sha256 or str(sibling.blob_id or ""))
