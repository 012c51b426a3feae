"""Downloads that go on, whatever became of what an earlier run had left on the drive."""

from pathlib import Path

import pytest

from engine.errors import HubUnreachableError
from engine.hub import blocks
from engine.hub.places import key_of, unfinished, unfinished_folder
from engine.hub.record import JOURNAL_FILE, MANIFEST
from tests.engine.hub.conftest import CONTENT, FILE, assert_complete, chosen, transfer
from tests.engine.hub.hub_server import FakeHub, Fault


def interrupted(hub: FakeHub, models: Path) -> Path:
    """A download that broke off after three quarters; returns its folder."""
    hub.faults[FILE] = [Fault(after_bytes=1_500_000)]
    hub.always[FILE] = Fault(status=500)
    with pytest.raises(HubUnreachableError):
        transfer(hub, models).run()
    hub.always.clear()
    return unfinished_folder(models, key_of(chosen(hub)))


def test_a_byte_that_changed_on_the_drive_costs_its_block_alone(hub: FakeHub, tmp_path: Path) -> None:
    part = interrupted(hub, tmp_path) / f"{FILE}.part"
    with part.open("r+b") as file:
        file.seek(777_777)
        file.write(b"?!")
    moving = transfer(hub, tmp_path)
    assert_complete(moving.run(), tmp_path)
    rest = len(CONTENT) - 1_500_000
    assert rest < moving.meter.fetched_bytes <= rest + 3 * blocks.block_bytes_for(len(CONTENT))


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 500, b'["block",0', b'\n["block",9,9,9]\n["block",0,-1,5]\n["etag",0]\n[]\n{}\n"x"\n\xff']
)
def test_a_journal_that_was_torn_is_no_harm(hub: FakeHub, tmp_path: Path, damage: bytes) -> None:
    journal = interrupted(hub, tmp_path) / JOURNAL_FILE
    journal.write_bytes(journal.read_bytes()[:-7] + damage)
    assert_complete(transfer(hub, tmp_path).run(), tmp_path)


def test_a_part_that_was_cut_short_or_is_gone(hub: FakeHub, tmp_path: Path) -> None:
    part = interrupted(hub, tmp_path) / f"{FILE}.part"
    with part.open("r+b") as file:
        file.truncate(100_000)
    hub.always[FILE] = Fault(status=500)
    with pytest.raises(HubUnreachableError):
        transfer(hub, tmp_path).run()
    hub.always.clear()
    part.unlink()
    assert_complete(transfer(hub, tmp_path).run(), tmp_path)


def test_a_damaged_manifest_begins_anew(hub: FakeHub, tmp_path: Path) -> None:
    manifest = interrupted(hub, tmp_path) / MANIFEST
    manifest.write_bytes(b"\0" * manifest.stat().st_size)
    assert unfinished(tmp_path) == {}
    moving = transfer(hub, tmp_path)
    assert_complete(moving.run(), tmp_path)
    assert moving.meter.fetched_bytes == len(CONTENT)
