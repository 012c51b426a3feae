"""The shape of a model that was not downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.checkpoint.checkpoint import read_config
from engine.errors import CheckpointError, HubUnreachableError, UnsupportedModelError
from engine.hub.preview import remote_config
from tests.checkpoints import write_mixtral
from tests.engine.hub.conftest import chosen
from tests.engine.hub.hub_server import FakeHub, FakeRepository, Fault
from tests.gguf_files import write_gguf

REPO = "acme/Real"
BEHIND = 30 << 20  # bytes after the header that nobody asks for


def served(hub: FakeHub, folder: Path, *names: str, pad: int = 0) -> None:
    files = {name: (folder / name).read_bytes() + bytes(pad) for name in names}
    small = frozenset(name for name in names if name.endswith(".json"))
    hub.repositories[REPO] = FakeRepository(files, small)


@pytest.mark.parametrize("whole", [False, True])
def test_a_gguf_file_is_known_by_its_beginning(hub: FakeHub, tmp_path: Path, whole: bool) -> None:
    path = write_gguf(tmp_path / "m.Q4_0.gguf", "llama", formats=[("Q4_0", "Q4_0", "Q8_0")], dense_format="Q8_0")
    served(hub, tmp_path, path.name, pad=BEHIND)
    hub.always[path.name] = Fault(whole=whole)
    choice = chosen(hub, REPO)
    assert remote_config(choice, endpoint=hub.endpoint) == read_config(path)
    asked = [headers.get("Range") for _, headers in hub.asked("storage")]
    assert asked == [f"bytes=0-{(1 << 20) - 1}"]
    assert choice.total_bytes > BEHIND


def test_the_parts_of_a_split_model_are_all_asked(hub: FakeHub, tmp_path: Path) -> None:
    first = write_gguf(tmp_path / "m.Q4_0.gguf", "llama", splits=3)
    parts = sorted(path.name for path in tmp_path.glob("*.gguf"))
    served(hub, tmp_path, *parts)
    assert remote_config(chosen(hub, REPO), endpoint=hub.endpoint) == read_config(first)
    assert len(hub.asked("storage")) == len(parts) == 3


def test_of_a_model_in_hugging_face_form_config_json_is_enough(hub: FakeHub, tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path / "Real")
    served(hub, folder, "config.json", "model.safetensors")
    shape = remote_config(chosen(hub, REPO), endpoint=hub.endpoint)
    assert shape.experts_bytes == read_config(folder).experts_bytes
    assert hub.sent["model.safetensors"] == 0


def test_what_does_not_run_here_is_told_before_it_is_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.Q4_0.gguf", "llama")
    path.write_bytes(path.read_bytes().replace(b"llama", b"lemma"))
    served(hub, tmp_path, path.name)
    with pytest.raises(UnsupportedModelError):
        remote_config(chosen(hub, REPO), endpoint=hub.endpoint)
    path.write_bytes(b"MZ" + bytes(100))
    served(hub, tmp_path, path.name)
    with pytest.raises(CheckpointError, match="not a GGUF file"):
        remote_config(chosen(hub, REPO), endpoint=hub.endpoint)


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(after_bytes=100), Fault(page=True)])
def test_a_hub_that_does_not_tell_is_one_sentence(hub: FakeHub, tmp_path: Path, fault: Fault) -> None:
    path = write_gguf(tmp_path / "m.Q4_0.gguf", "llama")
    served(hub, tmp_path, path.name)
    hub.always[path.name] = fault
    with pytest.raises(HubUnreachableError, match="does not tell what this model is like"):
        remote_config(chosen(hub, REPO), endpoint=hub.endpoint)
