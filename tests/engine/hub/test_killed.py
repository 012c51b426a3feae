"""kill -9, at every write and at several moments of a longer download."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.hub.blocks import block_bytes_for
from engine.hub.places import key_of, target_of, unfinished
from engine.hub.record import MANIFEST
from tests.engine.hub.conftest import CONTENT, REPO, chosen, transfer
from tests.engine.hub.hub_server import FakeHub, FakeRepository

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")


def test_killed_at_every_write_it_is_old_or_new_and_goes_on(hub: FakeHub, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": CONTENT[:20_000]}
    hub.repositories["acme/small"] = FakeRepository(files, frozenset({"config.json"}))
    command = [sys.executable, "-m", "tests.engine.hub.killed", hub.endpoint, "acme/small", str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [json.loads(line) for line in output.splitlines()]
    expected = {name: str(len(content)) for name, content in files.items()}
    assert len(lines) > 15, "writes, lines of the journal, renames and their syncs"
    assert [line["ended"] for line in lines] == [9] * (len(lines) - 1) + [0]
    for line in lines:
        assert line["resumed"] == 0, line
        for state in (line["found"], line["complete"]):
            if state is not None:
                assert state.pop(MANIFEST)
                assert state == expected, line
        assert line["complete"] is not None
    assert lines[0]["found"] is None
    for number in range(1, len(lines) + 1):
        folder = tmp_path / str(number) / "acme" / "small"
        assert {name: (folder / name).read_bytes() for name in files} == files


def test_killed_again_and_again_it_fetches_nearly_nothing_twice(hub: FakeHub, tmp_path: Path) -> None:
    content = CONTENT * 4
    hub.repositories[REPO].files = {"mix.Q4_K_M.gguf": content}
    hub.bytes_per_s = 6e6  # slower than the client reads: what was sent has arrived
    choice = chosen(hub)
    script = (
        "import sys; from pathlib import Path; from engine.hub.places import unfinished; "
        "from engine.hub.transfer import Transfer; models = Path(sys.argv[2]); "
        "Transfer(unfinished(models)[sys.argv[3]], models, endpoint=sys.argv[1], connections=3).run()"
    )
    paused = transfer(hub, tmp_path, choice)
    paused.stop()
    with pytest.raises(Exception, match="paused"):
        paused.run()  # leaves the manifest that the children resume from
    for share in (0.3, 0.7):
        child = subprocess.Popen([sys.executable, "-c", script, hub.endpoint, str(tmp_path), key_of(choice)])
        hub.wait_until_sent("mix.Q4_K_M.gguf", share * len(content))
        child.kill()
        assert child.wait() == -9
        assert not target_of(tmp_path, choice).exists()
        assert unfinished(tmp_path) == {key_of(choice): choice}
    hub.bytes_per_s = None
    path = transfer(hub, tmp_path, choice).run()
    assert path.read_bytes() == content
    refetched = hub.sent["mix.Q4_K_M.gguf"] - len(content)
    in_flight = 3 * (block_bytes_for(len(content)) + 3 * (16 << 10))  # a block and the server's pieces, per connection
    assert refetched <= 2 * in_flight
