import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from app import model_scan
from app.model_places import Place
from app.model_scan import FoundModel, bundled_guide, candidate_at, candidates, inspect
from engine.convert.conversion import convert
from tests.checkpoints import write_mixtral
from tests.engine.shapes import TINY
from tests.gguf_files import write_gguf


def _found(folder: Path) -> list[str]:
    return [str(one.path.relative_to(folder)) for one in candidates(Place("folder", folder))]


def test_models_of_all_kinds_are_found(tmp_path: Path) -> None:
    write_mixtral(tmp_path / "plain")
    write_mixtral(tmp_path / "deep" / "down" / "sharded", shards=2)
    write_gguf(tmp_path / "files" / "one.gguf", "llama")
    write_gguf(tmp_path / "files" / "many.gguf", "llama", splits=3)
    (tmp_path / "files" / "mmproj-one.gguf").write_bytes(b"GGUF")
    (tmp_path / "files" / "notes.txt").write_text("no model")
    (tmp_path / ".hidden").mkdir()
    write_gguf(tmp_path / ".hidden" / "secret.gguf", "llama")
    assert _found(tmp_path) == [
        "deep/down/sharded",
        "files/many-00001-of-00003.gguf",
        "files/one.gguf",
        "plain",
    ]


def test_a_model_is_told_by_its_headers(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", formats=[("Q4_0", "Q4_0", "Q8_0")], dense_format="Q8_0")
    candidate = candidate_at(path, "lmstudio")
    assert candidate is not None
    model = inspect(candidate)
    assert model.runs
    assert (model.name, model.source, model.family) == ("m", "lmstudio", "Mixtral")
    assert model.size_bytes == path.stat().st_size
    assert model.parameters > model.active_parameters > 0
    folder = write_mixtral(tmp_path / "folder", dtype="bfloat16")
    candidate = candidate_at(folder, "folder")
    assert candidate is not None
    assert inspect(candidate).format == "BF16"


def test_a_family_without_a_title_has_its_own_name() -> None:
    model = FoundModel("/m", "m", "folder", 1, replace(TINY, family="deepseek_v3"))
    assert model.family == "deepseek_v3"
    assert replace(model, config=None).family == ""


def test_what_cannot_be_run_says_why(tmp_path: Path) -> None:
    dense = write_mixtral(tmp_path / "dense")
    config = json.loads((dense / "config.json").read_text())
    config = {name: value for name, value in config.items() if "experts" not in name} | {"model_type": "llama"}
    (dense / "config.json").write_text(json.dumps(config))
    gap = write_gguf(tmp_path / "split" / "gap.gguf", "llama", splits=3)
    gap.with_name("gap-00002-of-00003.gguf").unlink()
    cut = write_gguf(tmp_path / "cut.gguf", "llama")
    cut.write_bytes(cut.read_bytes()[:-500])
    unfinished = write_mixtral(tmp_path / "unfinished", shards=2)
    next(unfinished.glob("*-00002-*")).unlink()
    pickle = tmp_path / "pickle"
    pickle.mkdir()
    (pickle / "config.json").write_bytes((unfinished / "config.json").read_bytes())
    (pickle / "pytorch_model.bin").write_bytes(b"x")
    silent = write_mixtral(tmp_path / "silent", tokenizer=False)
    problems = {one.path: inspect(one).problem for one in candidates(Place("folder", tmp_path))}
    assert "dense model" in problems[dense]
    assert "gap-00002-of-00003.gguf" in problems[gap]
    assert problems[cut]
    assert "missing" in problems[unfinished]
    assert "pickle" in problems[pickle]
    assert "tokenizer.json" in problems[silent]


def test_a_hub_cache_is_read_through_its_links(tmp_path: Path) -> None:
    repo = tmp_path / "models--maker--Model-8x1B"
    blobs = write_mixtral(repo / "blobs")
    for revision in ("aaa", "bbb"):
        snapshot = repo / "snapshots" / revision
        snapshot.mkdir(parents=True)
        for file in blobs.iterdir():
            (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / file.name)
    found = list(candidates(Place("huggingface", tmp_path)))
    assert [one.path.name for one in found] == ["aaa", "bbb"]
    assert found[0].identity == found[1].identity
    assert inspect(found[0]).name == "Model 8x1B"


def test_a_scan_comes_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "a" / "b" / "m.gguf", "llama")
    (tmp_path / "a" / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0)
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "folder.gguf").mkdir()
    models = [inspect(one) for one in candidates(Place("folder", tmp_path))]
    assert [model.name for model in models if model.runs] == ["m"]
    assert list(candidates(Place("folder", tmp_path / "none"))) == []
    assert list(candidates(Place("folder", tmp_path), stopped=lambda: True)) == []
    monkeypatch.setattr(model_scan, "MAX_DEPTH", 1)
    assert _found(tmp_path) == ["pipe.gguf"]
    locked.chmod(0o700)


def test_the_parts_of_a_picture_model_are_left_out(tmp_path: Path) -> None:
    write_mixtral(tmp_path / "pictures" / "unet")
    (tmp_path / "pictures" / "model_index.json").write_text("{}")
    assert _found(tmp_path) == []


def test_the_guide_comes_with_rooftop() -> None:
    guide = bundled_guide()
    assert (guide.path, guide.source, guide.family) == ("guide", "guide", "Mixtral")
    assert guide.runs


def test_what_a_conversion_has_not_finished_is_not_looked_at(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m-q4.unfinished" / "model.gguf", "llama")
    assert _found(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_a_conversion_has_made_is_called_as_its_folder(tmp_path: Path, kind: str) -> None:
    folder = write_mixtral(tmp_path / "Mix", layers=1, hidden=256, intermediate=64)
    source = folder if kind == "folder" else write_gguf(tmp_path / "plain.gguf", "llama")
    target = tmp_path / "own" / "Mix-q8"
    convert(source, target, "q8")
    assert _found(target.parent) == ["Mix-q8"]
    candidate = candidate_at(target, "rooftop")
    assert candidate is not None
    model = inspect(candidate)
    assert (model.name, model.format, model.problem) == ("Mix q8", "Q8_0", "")
    assert model.size_bytes == (target / "model.gguf").stat().st_size
    assert not model.can_be_smaller


def test_floats_of_our_own_families_can_be_smaller(tmp_path: Path) -> None:
    candidate = candidate_at(write_mixtral(tmp_path / "m", dtype="bfloat16"), "folder")
    assert candidate is not None
    model = inspect(candidate)
    assert model.can_be_smaller
    assert not replace(model, offline=True).can_be_smaller
    assert not replace(model, path="guide").can_be_smaller
    assert not replace(model, config=None).can_be_smaller
