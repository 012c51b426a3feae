import pytest

from engine.checkpoint.families import FAMILIES
from engine.errors import NotOnHubError
from engine.hub.curated import CURATED, curated_choice
from engine.hub.names import HUB_ID
from engine.hub.repository import RemoteFile, Repository

COMING = {"gpt_oss"}


def test_every_entry_is_of_a_family_that_runs() -> None:
    for model in CURATED:
        assert model.family in {*FAMILIES, *COMING}, model
        assert HUB_ID.fullmatch(model.repo_id)
        assert model.pattern.startswith("*")
        assert model.sentence.endswith(".")
        assert 1e9 < model.about_bytes < 1e11
    assert len({model.repo_id for model in CURATED}) == len(CURATED)
    sizes = [model.about_bytes for model in CURATED]
    assert sizes == sorted(sizes)


def repository(repo_id: str, *paths: str) -> Repository:
    return Repository(repo_id, "0" * 40, tuple(RemoteFile(path, 5, None, "") for path in paths))


def test_an_entry_finds_its_file_also_where_it_is_split() -> None:
    model = CURATED[0]
    whole = repository(model.repo_id, "granite-Q4_K_M.gguf", "granite-Q8_0.gguf")
    assert curated_choice(model, whole).title == "Q4_K_M"
    split = repository(model.repo_id, *(f"G-Q4_K_M-0000{number}-of-00002.gguf" for number in (1, 2)))
    assert len(curated_choice(model, split).files) == 2


def test_an_entry_that_is_not_true_any_more_is_one_sentence() -> None:
    with pytest.raises(NotOnHubError, match=r"has no file '\*Q4_K_M\.gguf' any more"):
        curated_choice(CURATED[0], repository(CURATED[0].repo_id, "granite-Q8_0.gguf"))
