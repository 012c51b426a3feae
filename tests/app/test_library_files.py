import dataclasses
import json
import os
from pathlib import Path

import pytest

from app.library_files import HeaderCache, UsedModels
from app.model_scan import FoundModel
from engine.sentences import Number, Sentence, say, say_count
from engine.traits import ClampedGate, Compatibility, DenseBlocks, LongRope, Traits
from tests.engine.shapes import TINY

CONFIG = dataclasses.replace(
    TINY,
    hidden_size=32,
    intermediate_size=64,
    expert_formats=(("Q4_0", "Q4_0", "Q8_0"),) * TINY.layers,
    compatibility=Compatibility((1, 2), 1234, 56, 78),
    dense_blocks=(DenseBlocks("Q8_0", 64, 68),),
    traits=Traits(
        clamped_gate=ClampedGate(1.5, 7.0),
        full_layers=(1,),
        shared_size=8,
        long_rope=LongRope(64, (1.0, 2.0), (2.0, 3.0), 1.0, 1.5),
    ),
)
MODEL = FoundModel("/m/a.gguf", "a", "lmstudio", 123, CONFIG, stamp="s1")
PROBLEM = say(
    "{name} is {what}, {number}.", name="b", what=say_count("1 layer", "%n layers", 3), number=Number("1,234")
)
REFUSED = FoundModel("/m/b", "b", "folder", 5, problem=PROBLEM, remedy="Choose another.", stamp="s2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "models.json"


def _filled(path: Path) -> HeaderCache:
    cache = HeaderCache(path)
    cache.put(MODEL.path, MODEL)
    cache.put(REFUSED.path, REFUSED)
    cache.save()
    return cache


def test_headers_are_kept_until_a_file_changes(path: Path) -> None:
    _filled(path)
    cache = HeaderCache(path)
    cache.load()
    assert cache.find(MODEL.path, "s1") == MODEL
    refused = cache.find(REFUSED.path, "s2")
    assert refused == REFUSED
    assert isinstance(refused.problem, Sentence)
    assert (refused.problem.template, refused.problem.values) == (PROBLEM.template, PROBLEM.values)
    assert isinstance(refused.problem.values[1][1], Sentence)
    assert isinstance(refused.problem.values[2][1], Number)
    assert cache.find(MODEL.path, "s2") is None
    cache.forget_refused()
    assert cache.find(REFUSED.path, "s2") is None


def test_models_that_are_gone_are_left_out(path: Path) -> None:
    cache = _filled(path)
    cache.drop_all_but({MODEL.path})
    cache.save()
    cache = HeaderCache(path)
    cache.load()
    assert cache.find(REFUSED.path, "s2") is None
    assert cache.find(MODEL.path, "s1") == MODEL


@pytest.mark.parametrize("damage", ["version", "config", "source", "layers", "cut"])
def test_a_cache_that_is_of_no_use_is_empty(path: Path, damage: str) -> None:
    _filled(path)
    values = json.loads(path.read_text())
    if damage == "version":
        values["version"] = "another"
    if damage == "config":
        values["models"][0]["config"]["unknown"] = 1
    if damage == "source":
        values["models"][0]["source"] = "nowhere"
    if damage == "layers":
        values["models"][0]["config"]["layers"] = 0
        values["models"][0]["config"]["expert_formats"] = []
    path.write_text(json.dumps(values)[: 50 if damage == "cut" else None])
    cache = HeaderCache(path)
    cache.load()
    assert cache.find(MODEL.path, "s1") is None


def test_a_place_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    _filled(tmp_path / "file" / "models.json")


def test_a_used_model_on_a_drive_that_is_away_is_remembered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = UsedModels(path)
    monkeypatch.setattr(Path, "is_mount", lambda self: str(self) == "/m")
    used.add(MODEL)
    used = UsedModels(path)
    used.load()
    assert used.paths() == [MODEL.path]
    monkeypatch.setattr(os.path, "ismount", lambda mount: mount == "/m")
    assert used.offline(MODEL.path) is None  # the drive is there: the model was deleted
    monkeypatch.setattr(os.path, "ismount", lambda _mount: False)
    assert used.offline(MODEL.path) == dataclasses.replace(MODEL, offline=True)
    used.forget(MODEL.path)
    used = UsedModels(path)
    used.load()
    assert used.paths() == []
