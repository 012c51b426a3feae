from dataclasses import replace

import pytest

from engine.checkpoint.families import FAMILIES
from engine.errors import NotOnHubError
from engine.hub.curated import CURATED, CuratedModel, curated_choice
from engine.hub.names import HUB_ID
from engine.hub.repository import RemoteFile, Repository


def test_every_entry_is_of_a_family_that_runs() -> None:
    for model in CURATED:
        assert model.family in FAMILIES, model
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


@pytest.mark.parametrize("model", CURATED, ids=lambda model: model.family)
def test_the_published_shape_is_as_large_as_the_published_file(model: CuratedModel) -> None:
    shape = model.shape
    assert shape is not None
    assert shape.dense_packed_bytes is not None
    assert shape.experts_bytes + shape.dense_packed_bytes == pytest.approx(model.about_bytes, rel=0.004)


def test_an_entry_without_a_shape_says_so() -> None:
    assert replace(CURATED[0], published={}).shape is None
