from __future__ import annotations

import getpass

import pytest

from app.redaction import Redaction, this_user

ANNA = Redaction("/home/anna", "anna", "annas-pc.lan")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/home/anna/models/x.gguf", "~/models/x.gguf"),
        ("/home/annabel/x", "/home/annabel/x"),
        ("/media/anna/Disk/x.gguf", "/media/<user>/Disk/x.gguf"),
        ("user Anna on annas-pc said", "user <user> on <host> said"),
        ("annas-pc.lan and savanna", "<host> and savanna"),
        ("a key hf_abcdefgh1234", "a key <hidden>"),
    ],
)
def test_names_and_folders_are_taken_out(text: str, clean: str) -> None:
    assert ANNA.clean(text) == clean


def test_windows_paths_with_either_slash() -> None:
    anna = Redaction("C:\\Users\\Anna", "Anna", "PC")
    assert anna.clean(r"c:\users\anna\x.gguf and C:/Users/Anna/y") == r"~\x.gguf and ~/y"


def test_a_very_short_name_is_hidden_in_paths_only() -> None:
    al = Redaction("/home/al", "al", "")
    assert al.clean("/mnt/al/x, al dente") == "/mnt/<user>/x, al dente"


def test_a_home_that_is_the_root_leaves_paths_alone() -> None:
    assert Redaction("/", "root", "localhost").clean("/usr/lib as root on localhost") == "/usr/lib as root on localhost"


def test_an_account_without_a_name_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert this_user().user == ""
