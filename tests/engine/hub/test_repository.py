import hashlib

import pytest

from engine.errors import UnsafeRepositoryError, UnsupportedModelError
from engine.hub.repository import RemoteFile, Repository, choices

COMMIT = "0" * 40


def repository(*paths: str, has_pickle: bool = False) -> Repository:
    files = tuple(
        RemoteFile(path, 10 * (number + 1), hashlib.sha256(path.encode()).hexdigest(), "e")
        for number, path in enumerate(paths)
    )
    return Repository("acme/model", COMMIT, files, "mit", has_pickle=has_pickle)


def test_each_quantisation_is_one_choice_with_all_its_parts() -> None:
    found = choices(
        repository(
            "m.Q2_K.gguf",
            "m.Q8_0-00001-of-00002.gguf",
            "m.Q8_0-00002-of-00002.gguf",
            "UD/m-UD-Q4_K_XL.gguf",
            "m-IQ4_XS.gguf",
            "m-mxfp4.gguf",
            "mmproj-F16.gguf",
            "m.imatrix.gguf",
            "config.json",
        )
    )
    assert {choice.title: [file.name for file in choice.files] for choice in found} == {
        "Q2_K": ["m.Q2_K.gguf"],
        "Q8_0": ["m.Q8_0-00001-of-00002.gguf", "m.Q8_0-00002-of-00002.gguf"],
        "UD-Q4_K_XL": ["m-UD-Q4_K_XL.gguf"],
        "IQ4_XS": ["m-IQ4_XS.gguf"],
        "mxfp4": ["m-mxfp4.gguf"],
    }
    assert [choice.total_bytes for choice in found] == sorted(choice.total_bytes for choice in found)
    assert all((choice.repo_id, choice.commit, choice.licence) == ("acme/model", COMMIT, "mit") for choice in found)


def test_titles_tell_models_apart() -> None:
    assert {choice.title for choice in choices(repository("a-Q4_0.gguf", "b-Q4_0.gguf"))} == {"a-Q4_0", "b-Q4_0"}
    assert {choice.title for choice in choices(repository("x/a-Q4_0.gguf", "y/a-Q4_0.gguf"))} == {
        "x-a-Q4_0",
        "y-a-Q4_0",
    }
    assert [choice.title for choice in choices(repository("model.gguf"))] == ["model"]


def test_a_model_in_hugging_face_form_is_its_shards_and_what_goes_with_them() -> None:
    shards = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    others = ["config.json", "model.safetensors.index.json", "tokenizer.json", "chat_template.jinja", "merges.txt"]
    unwanted = ["consolidated.safetensors", "original/model.safetensors", "training_args.json", "notes.txt"]
    (choice,) = choices(repository(*shards, *others, *unwanted))
    assert choice.format == choice.title == "safetensors"
    assert [file.path for file in choice.files] == sorted(others) + shards, "the small ones first"


def test_a_single_file_needs_no_index() -> None:
    (choice,) = choices(repository("model.safetensors", "config.json"))
    assert [file.path for file in choice.files] == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("paths", "pickle", "message"),
    [
        (["config.json"], True, "only as pickle files"),
        ([], False, "holds no model files"),
        (["model.safetensors"], False, "no config.json"),
        (["config.json", "weights.safetensors"], False, "no config.json with model.safetensors"),
        (["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"], False, "lacks some of the files"),
        (
            ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"],
            False,
            "lacks some of the files",
        ),
    ],
)
def test_repositories_that_offer_nothing_say_why(paths: list[str], pickle: bool, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        choices(repository(*paths, has_pickle=pickle))


def test_a_part_that_is_missing_spoils_only_its_own_model() -> None:
    assert [choice.title for choice in choices(repository("m.Q4_0.gguf", "m.Q8_0-00001-of-00002.gguf"))] == ["Q4_0"]


@pytest.mark.parametrize("path", ["../m.gguf", "C:m.gguf", "M.Q4_0.GGUF"])
def test_a_hostile_name_spoils_the_repository(path: str) -> None:
    with pytest.raises(UnsafeRepositoryError):
        choices(repository("m.Q4_0.gguf", path))
