"""Package indexes in both of their forms, and what is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.wheel_index import check_index, project_files
from engine.errors import ConfigurationError, HubUnreachableError, NotOnHubError
from tests.gpu_wheels import TORCH_WHEEL, Index, package_index, write_wheels


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with package_index() as served:
        served.add(write_wheels(tmp_path / "wheels"))
        yield served


@pytest.mark.parametrize("html", [True, False])
def test_the_files_of_a_project_are_found(index: Index, html: bool) -> None:
    index.html = html
    (file,) = project_files(f"{index.address}/simple/", "torch")
    assert file.name == TORCH_WHEEL
    assert file.url == f"{index.address}/simple/files/{TORCH_WHEEL}"
    assert file.sha256 == index.projects["torch"][TORCH_WHEEL][1]


def test_names_are_written_in_addresses_with_percent_signs(index: Index) -> None:
    index.html = True
    index.projects["torch"] = {"shown": ("https://cdn.invalid/whl/torch-2.13.0%2Bcu130-cp311-win_amd64.whl", "0" * 64)}
    (file,) = project_files(index.address, "torch")
    assert file.name == "torch-2.13.0+cu130-cp311-win_amd64.whl"
    assert file.url == "https://cdn.invalid/whl/torch-2.13.0%2Bcu130-cp311-win_amd64.whl"


def test_what_an_index_does_not_have(index: Index) -> None:
    with pytest.raises(NotOnHubError, match=r"127\.0\.0\.1 does not have 'nvidia-nothing'"):
        project_files(index.address, "nvidia-nothing")


@pytest.mark.parametrize("page", [b"[]", b"{", b'{"files": [{"url": 1}]}', b'{"files": 7}'])
def test_what_answers_is_no_index(index: Index, page: bytes) -> None:
    index.page = page
    with pytest.raises(HubUnreachableError, match="is not a package index"):
        project_files(index.address, "torch")


def test_an_index_that_fails_or_is_not_there(index: Index) -> None:
    index.status = 503
    with pytest.raises(HubUnreachableError, match="error 503"):
        project_files(index.address, "torch")
    index.close()
    with pytest.raises(HubUnreachableError, match="cannot be reached"):
        project_files(index.address, "torch")


@pytest.mark.parametrize("text", ["", "pypi.org/simple", "file:///etc", "ftp://x/y", "https://", "C:\\wheels"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the address of a package index"):
        check_index(text)


def test_an_address_has_no_slash_at_its_end() -> None:
    assert check_index(" https://pypi.org/simple/ ") == "https://pypi.org/simple"
