import json
from pathlib import Path

import pytest

from engine.__main__ import BAD_INPUT, DONE, FAILED, main
from engine.errors import ConfigurationError
from engine.hub.command import pick
from engine.hub.repository import Choice, RemoteFile
from tests.engine.hub.conftest import CONTENT, FILE, REPO
from tests.engine.hub.hub_server import FakeHub


@pytest.fixture(autouse=True)
def _endpoint(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.endpoint)


def test_the_command_fetches_a_model_and_says_where_it_is(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories[REPO].files["mix.Q8_0.gguf"] = b"x"
    arguments = ["download", "--repo", REPO, "--file", "*q4_k_m*", "--to", str(tmp_path)]
    assert main([*arguments, "--json"]) == DONE
    output, notes = capsys.readouterr()
    result = json.loads(output)
    assert Path(result["path"]).read_bytes() == CONTENT
    assert (result["repo"], result["title"], result["bytes"], result["fetched_bytes"]) == (
        REPO,
        "Q4_K_M",
        len(CONTENT),
        len(CONTENT),
    )
    assert "acme/Mix-GGUF Q4_K_M: 1.9 MiB in 1 files, licence apache-2.0" in notes
    assert main(arguments) == DONE
    assert capsys.readouterr().out.strip() == result["path"]
    assert hub.sent[FILE] == len(CONTENT), "and no second time"


def test_what_goes_wrong_is_one_line(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "--repo", "acme/none", "--to", str(tmp_path)]) == FAILED
    assert main(["download", "--repo", "none", "--to", str(tmp_path)]) == BAD_INPUT
    assert main(["download", "--repo", REPO, "--file", "*Q8_0*", "--to", str(tmp_path)]) == BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["engine"] * 3
    assert "Choose one of these with --file: Q4_K_M." in lines[2]


def test_picking_one_of_several() -> None:
    found = tuple(
        Choice(title, "GGUF", (RemoteFile(f"m-{title}.gguf", 1, None, ""),), 1, "a/b", "0")
        for title in ("Q4_K_M", "Q4_K")
    )
    assert pick(found, "q4_k").title == "Q4_K", "a whole title wins"
    assert pick(found, "m-Q4_K_M.gguf").title == "Q4_K_M"
    assert pick(found[:1], None) is found[0]
    for pattern in (None, "*Q4*"):
        with pytest.raises(ConfigurationError, match=r"Several models fit\. Choose one with --file: Q4_K_M, Q4_K\."):
            pick(found, pattern)
