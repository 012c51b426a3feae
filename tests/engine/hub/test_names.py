from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UnsafeRepositoryError
from engine.hub.names import check_distinct, check_path


@pytest.mark.parametrize(
    "path",
    ["model.gguf", "Q4_K_M/model-00001-of-00002.gguf", "a b.json", "modèle.gguf", "v1.0/console.json", "nul-b.txt"],
)
def test_ordinary_names_are_taken(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "..",
        "../evil.json",
        "a/../../evil.json",
        "./a.json",
        "a//b.json",
        "/etc/passwd.txt",
        "C:/evil.json",
        "C:evil.json",
        "a\\..\\evil.json",
        "\\\\server\\share.json",
        "a.json:stream",
        "what?.json",
        "a\0.json",
        "a\n.json",
        "a\u202e.json",
        "a.json.",
        "a.json ",
        "dir./a.json",
        " a.json",
        "CON",
        "con.json",
        "nul.tar.json",
        "a/LPT1.json",
        "com\u00b9.json",
        "aux .json",
        "CONIN$",
        "x" * 201,
        "a/" * 300 + "b",
    ],
)
def test_hostile_names_are_refused_in_one_sentence(path: str) -> None:
    with pytest.raises(UnsafeRepositoryError) as caught:
        check_path(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("pair", [("a.json", "A.json"), ("x/é.txt", "x/e\u0301.txt"), ("ß.txt", "SS.txt")])
def test_names_that_clash_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(UnsafeRepositoryError, match="one and the same"):
        check_distinct(pair)
    check_distinct(["a.json", "b.json", "a/a.json"])


@given(st.text(st.sampled_from("a./\\:~ \0CONcon1"), max_size=12))
def test_what_is_taken_stays_inside_on_every_system(path: str) -> None:
    try:
        check_path(path)
    except UnsafeRepositoryError:
        return
    for kind in (PurePosixPath, PureWindowsPath):
        pure = kind(path)
        assert not pure.is_absolute()
        assert not pure.drive
        assert ".." not in pure.parts
        assert str(pure).replace("\\", "/") == path
