import hashlib
import json
import os
import shutil
import threading
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from engine.errors import (
    DamagedDownloadError,
    DiskFullError,
    GatedModelError,
    HubError,
    HubUnreachableError,
    NotOnHubError,
    OperationCancelledError,
    UnsupportedModelError,
)
from engine.hub import blocks, parts, progress
from engine.hub.parts import Parts
from engine.hub.places import key_of, target_of, unfinished
from engine.hub.progress import TransferProgress
from engine.hub.record import MANIFEST
from engine.hub.transfer import Patience, Transfer
from tests.engine.hub.conftest import CONTENT, FILE, HASTY, REPO, assert_complete, chosen, transfer
from tests.engine.hub.hub_server import FakeHub, FakeRepository, Fault


@pytest.fixture
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several requests for a file of two megabytes, as for one of many gigabytes."""
    monkeypatch.setattr(blocks, "RUN_BYTES", 300_000)


def test_a_model_arrives_whole_and_is_found_only_then(hub: FakeHub, tmp_path: Path, short_runs: None) -> None:
    told: list[TransferProgress] = []
    seen: list[bool] = []
    target = target_of(tmp_path, chosen(hub))
    hub.always[FILE] = Fault(before=lambda: seen.append(target.exists()))
    assert_complete(transfer(hub, tmp_path, told=told).run(), tmp_path)
    assert len(seen) == -(-len(CONTENT) // 300_000)
    assert not any(seen)
    assert hub.sent[FILE] == len(CONTENT), "every byte once"
    assert told[-1].done_bytes == told[-1].total_bytes == len(CONTENT)
    assert told[-1].phase == "checking"
    assert not any(report.stalled for report in told)


def test_a_model_in_hugging_face_form(hub: FakeHub, tmp_path: Path) -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = json.dumps({"weight_map": dict(zip("ab", shards, strict=True))})
    files = {
        "config.json": b'{"a": 1}',
        "model.safetensors.index.json": index.encode(),
        shards[0]: CONTENT[:100_000],
        shards[1]: b"",
        "pytorch_model.bin": b"never",
    }
    small = frozenset({"config.json", "model.safetensors.index.json"})
    hub.repositories["acme/full"] = FakeRepository(files, small)
    path = transfer(hub, tmp_path, chosen(hub, "acme/full")).run()
    assert path == tmp_path / "acme" / "full"
    del files["pytorch_model.bin"]
    assert {item.name: item.read_bytes() for item in path.iterdir() if item.name != MANIFEST} == files


def test_an_index_that_names_missing_shards_stops_the_download(hub: FakeHub, tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors", "b": "../other.safetensors"}})
    files = {
        "config.json": b"{}",
        "model.safetensors.index.json": index.encode(),
        "model-00001-of-00001.safetensors": CONTENT,
    }
    hub.repositories["acme/full"] = FakeRepository(files, frozenset(list(files)[:2]))
    for _resumed in range(2):
        with pytest.raises(UnsupportedModelError, match=r"names '\.\./other\.safetensors', which the repository lacks"):
            transfer(hub, tmp_path, chosen(hub, "acme/full")).run()
        assert not (tmp_path / "acme" / "full").exists()


def test_the_token_stays_with_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories[REPO].gated = True
    hub.repositories[REPO].token = "secret"  # noqa: S105 - of a server in this test
    assert_complete(transfer(hub, tmp_path).run(), tmp_path)
    resolved = [headers for path, headers in hub.asked("hub") if "/resolve/" in path]
    assert resolved[0]["Authorization"] == "Bearer secret"
    stored = [headers for _path, headers in hub.asked("storage")]
    assert stored
    assert not any("secret" in str(headers) for headers in stored)
    assert b"secret" not in (target_of(tmp_path, chosen(hub)) / MANIFEST).read_bytes()


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(after_bytes=700_001)],
        [Fault(after_bytes=500_000), Fault(after_bytes=0), Fault(after_bytes=1)],
        [Fault(status=503), Fault(status=500), Fault(after_bytes=200_000), Fault(status=502)],
        [Fault(status=429, headers={"Retry-After": "0"})],
        [Fault(status=403)],
        [Fault(page=True)],
        [Fault(after_bytes=300_000), Fault(status=416)],
        [Fault(headers={"Content-Encoding": "gzip"})],
    ],
    ids=["drop", "drops", "5xx", "429", "expired", "page", "416", "packed"],
)
def test_troubles_pass_and_nothing_is_fetched_twice(hub: FakeHub, tmp_path: Path, faults: list[Fault]) -> None:
    hub.faults[FILE] = faults
    moving = transfer(hub, tmp_path)
    assert_complete(moving.run(), tmp_path)
    assert moving.meter.fetched_bytes == len(CONTENT)
    assert not hub.faults[FILE], "all of them happened"


def test_a_drop_resumes_where_it_was_and_names_the_version(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults[FILE] = [Fault(after_bytes=700_001)]
    transfer(hub, tmp_path, connections=1).run()
    (_first, first), (_second, second) = hub.asked("storage")
    assert "If-Range" not in first
    assert int(second["Range"].removeprefix("bytes=").split("-")[0]) > 600_000
    assert second["If-Range"] == f'"{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"'


def test_a_server_without_ranges_is_read_from_the_start_once_more(
    hub: FakeHub, tmp_path: Path, short_runs: None
) -> None:
    hub.always[FILE] = Fault(whole=True)
    hub.faults[FILE] = [Fault(whole=True, after_bytes=900_000), Fault(whole=True, after_bytes=1_200_000)]
    assert_complete(transfer(hub, tmp_path).run(), tmp_path)


def test_bytes_of_two_versions_are_never_mixed(hub: FakeHub, tmp_path: Path) -> None:
    """The server drops in the middle and then has another version: all is fetched anew."""
    hub.faults[FILE] = [Fault(etag="old", flip=True, after_bytes=900_000)]
    moving = transfer(hub, tmp_path, connections=1)
    assert_complete(moving.run(), tmp_path)
    assert moving.meter.fetched_bytes > len(CONTENT) + 800_000


def test_silence_is_noticed_and_another_connection_made(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "STALLED_AFTER_S", 0.15)
    told: list[TransferProgress] = []
    hub.faults[FILE] = [Fault(after_bytes=1_000_000, silent=True)]
    assert_complete(transfer(hub, tmp_path, told=told).run(), tmp_path)
    stalled = [report for report in told if report.stalled]
    assert stalled
    assert {(report.bytes_per_s, report.seconds_left) for report in stalled} == {(0.0, None)}


def test_it_gives_up_in_the_end_and_keeps_what_came(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults[FILE] = [Fault(after_bytes=1_500_000)]
    hub.always[FILE] = Fault(status=503)
    with pytest.raises(HubUnreachableError, match=r"broke off 4 times in a row: error 503"):
        transfer(hub, tmp_path).run()
    hub.always.clear()
    moving = transfer(hub, tmp_path)
    assert_complete(moving.run(), tmp_path)
    assert moving.meter.fetched_bytes < len(CONTENT) - 1_400_000


def test_the_server_says_how_long_to_wait(hub: FakeHub, tmp_path: Path) -> None:
    waits: list[float | None] = []

    class Impatient(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return False

    hub.faults[FILE] = [Fault(status=429, headers={"Retry-After": "7"})]
    moving = transfer(hub, tmp_path)
    moving._stopping = Impatient()
    assert_complete(moving.run(), tmp_path)
    assert waits == [7.0]


def test_waits_grow_and_are_spread() -> None:
    patience = Patience(first_wait_s=1, longest_wait_s=10)
    assert all(0.5 <= patience.wait_s(1) <= 1 for _ in range(50))
    assert all(2 <= patience.wait_s(3) <= 4 for _ in range(50))
    assert all(5 <= patience.wait_s(40) <= 10 for _ in range(50))
    assert len({patience.wait_s(5) for _ in range(50)}) > 40


def test_spoiled_bytes_are_fetched_once_more(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults[FILE] = [Fault(flip=True)]
    assert_complete(transfer(hub, tmp_path).run(), tmp_path)
    assert hub.sent[FILE] == 2 * len(CONTENT)


def test_bytes_that_stay_spoiled_are_an_error_and_no_model(hub: FakeHub, tmp_path: Path) -> None:
    hub.always[FILE] = Fault(flip=True)
    with pytest.raises(DamagedDownloadError, match=f"'{FILE}' came twice"):
        transfer(hub, tmp_path).run()
    assert hub.sent[FILE] == 2 * len(CONTENT)
    assert not target_of(tmp_path, chosen(hub)).exists()
    hub.always.clear()
    assert_complete(transfer(hub, tmp_path).run(), tmp_path)


def test_a_small_file_that_is_spoiled_is_found_by_gits_checksum(hub: FakeHub, tmp_path: Path) -> None:
    files = {"config.json": b'{"a": 1}', "model.safetensors": CONTENT[:1000]}
    hub.repositories["acme/full"] = FakeRepository(files, frozenset({"config.json"}))
    choice = chosen(hub, "acme/full")
    files["config.json"] = b'{"a": 2}'
    with pytest.raises(DamagedDownloadError, match=r"'config\.json' came twice"):
        transfer(hub, tmp_path, choice).run()


def test_gated_without_permission(hub: FakeHub, tmp_path: Path) -> None:
    choice = chosen(hub)
    hub.repositories[REPO].gated = True
    hub.repositories[REPO].token = "another"  # noqa: S105 - of a server in this test
    with pytest.raises(GatedModelError, match="open only to accounts"):
        transfer(hub, tmp_path, choice).run()


def test_a_repository_that_is_deleted_meanwhile(hub: FakeHub, tmp_path: Path, short_runs: None) -> None:
    choice = chosen(hub)

    def delete() -> None:
        hub.repositories[REPO].gone = True

    hub.faults[FILE] = [Fault(), Fault(before=delete)]
    with pytest.raises(NotOnHubError, match="not on the hub, or not any more"):
        transfer(hub, tmp_path, choice, connections=1).run()
    assert unfinished(tmp_path) == {key_of(choice): choice}, "offered for resuming"
    hub.repositories[REPO].gone = False
    moving = transfer(hub, tmp_path, choice)
    assert_complete(moving.run(), tmp_path)
    assert moving.meter.fetched_bytes < len(CONTENT)


def test_a_repository_that_is_renamed_meanwhile(hub: FakeHub, tmp_path: Path) -> None:
    choice = chosen(hub)
    hub.repositories["acme/new"] = hub.repositories[REPO]
    hub.repositories[REPO] = FakeRepository({}, moved_to="acme/new")
    assert_complete(transfer(hub, tmp_path, choice).run(), tmp_path)


def test_what_the_owner_changes_meanwhile_does_not_mix_in(hub: FakeHub, tmp_path: Path) -> None:
    choice = chosen(hub)
    hub.repositories[REPO].commit = "f" * 40
    with pytest.raises(NotOnHubError):
        transfer(hub, tmp_path, choice).run()
    hub.repositories[REPO].commit = choice.commit
    hub.repositories[REPO].files[FILE] = CONTENT[::-1]
    with pytest.raises(DamagedDownloadError, match="another one on the hub by now"):
        transfer(hub, tmp_path, choice).run()


def test_no_room_is_said_before_anything_is_fetched(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: _Usage(1_000_000))
    with pytest.raises(DiskFullError, match=r"needs 66\.0 MiB on the drive of .*, which has 976 KiB free"):
        transfer(hub, tmp_path).run()
    assert not hub.asked("storage")


@dataclass
class _Usage:
    free: int


def test_a_drive_that_fills_up_keeps_what_is_there(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    class Full(FileIO):
        def write(self, data: Any) -> int:
            nonlocal written
            if written > 1_000_000:
                raise OSError(28, "No space left on device")
            written += len(data)
            return super().write(data)

    with monkeypatch.context() as patch:
        patch.setattr(parts, "FileIO", Full)
        with pytest.raises(DiskFullError, match="is full"):
            transfer(hub, tmp_path).run()
    moving = transfer(hub, tmp_path)
    assert_complete(moving.run(), tmp_path)
    assert moving.meter.fetched_bytes < len(CONTENT) - 990_000


def test_a_pause_ends_at_once_and_goes_on_later(hub: FakeHub, tmp_path: Path) -> None:
    """Also while the server says nothing and the connection would be waited for."""
    hub.faults[FILE] = [Fault(after_bytes=1_000_000, silent=True)]
    patient = Patience(tries=4, first_wait_s=0.01, silence_s=60)
    moving = transfer(hub, tmp_path, patience=patient)
    raised: list[Exception] = []

    def run() -> None:
        try:
            moving.run()
        except OperationCancelledError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while moving.meter.fetched_bytes < 1_000_000:
        threading.Event().wait(0.01)
    moving.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert len(raised) == 1
    again = transfer(hub, tmp_path)
    assert_complete(again.run(), tmp_path)
    assert moving.meter.fetched_bytes + again.meter.fetched_bytes <= len(CONTENT) * 1.01


def test_stopped_before_it_runs(hub: FakeHub, tmp_path: Path) -> None:
    moving = transfer(hub, tmp_path)
    moving.stop()
    with pytest.raises(OperationCancelledError):
        moving.run()
    assert not hub.asked("storage")


def test_what_is_here_is_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    first = transfer(hub, tmp_path).run()
    again = transfer(hub, tmp_path)
    assert again.run() == first
    assert again.meter.fetched_bytes == 0
    hub.repositories[REPO].commit = "f" * 40
    with pytest.raises(HubError, match="is there already"):
        transfer(hub, tmp_path).run()


def test_a_model_whose_files_were_deleted_is_not_there(hub: FakeHub, tmp_path: Path) -> None:
    path = transfer(hub, tmp_path).run()
    path.unlink()
    with pytest.raises(HubError, match="is there already") as caught:
        transfer(hub, tmp_path).run()
    assert "Delete it first" in caught.value.remedy


def test_two_at_once_do_not_meet(hub: FakeHub, tmp_path: Path) -> None:
    caught: list[HubError] = []

    def second() -> None:
        try:
            transfer(hub, tmp_path, choice).run()
        except HubError as error:
            caught.append(error)

    choice = chosen(hub)
    hub.faults[FILE] = [Fault(before=second)]
    assert_complete(transfer(hub, tmp_path, choice, patience=Patience(silence_s=10)).run(), tmp_path)
    assert "Another Rooftop" in str(caught[0])


def test_a_models_folder_that_cannot_be(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(HubError, match="models folder cannot be used"):
        transfer(hub, tmp_path / "file").run()


def test_redirects_without_end(hub: FakeHub, tmp_path: Path) -> None:
    choice = chosen(hub)
    hub.repositories[REPO] = FakeRepository({}, moved_to=REPO)
    with pytest.raises(HubUnreachableError, match="somewhere else"):
        transfer(hub, tmp_path, choice).run()


def test_another_length_than_promised(hub: FakeHub, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": CONTENT[:1000]}
    hub.repositories["acme/full"] = FakeRepository(files, frozenset({"config.json"}))
    choice = chosen(hub, "acme/full")
    files["config.json"] = b"{} "
    with pytest.raises(DamagedDownloadError, match="3 bytes long on its server instead of 2"):
        transfer(hub, tmp_path, choice).run()


def test_a_drive_that_fails_to_keep_is_an_error_too(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("engine.hub.transfer.FLUSH_EVERY_S", 0.001)
    moving, choice = transfer(hub, tmp_path), chosen(hub)
    hub.always[FILE] = Fault(before=lambda: monkeypatch.setattr("os.fsync", fail))
    with pytest.raises(HubError, match="cannot be written or read: Input/output error"):
        moving.run()
    assert not target_of(tmp_path, choice).exists()


def test_what_comes_fast_is_synced_before_its_time(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_runs: None
) -> None:
    """The second request is answered only once what the first brought was synced: in an hour, but for its bytes."""
    synced = threading.Event()
    flush = Parts.flush

    def tell(self: Parts) -> None:
        flush(self)
        synced.set()

    monkeypatch.setattr(Parts, "flush", tell)
    monkeypatch.setattr("engine.hub.transfer.FLUSH_EVERY_S", 3600.0)
    monkeypatch.setattr("engine.hub.transfer.FLUSH_BYTES", 200_000)
    waited: list[bool] = []
    hub.faults[FILE] = [Fault(), Fault(before=lambda: waited.append(synced.wait(5)))]
    assert_complete(transfer(hub, tmp_path, connections=1, patience=Patience(silence_s=10)).run(), tmp_path)
    assert waited == [True]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no such advice")
def test_only_what_is_synced_and_checksummed_leaves_the_systems_memory(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int]] = []
    monkeypatch.setattr("os.fsync", lambda _file: done.append(("synced", 0)))
    monkeypatch.setattr("os.posix_fadvise", lambda _file, start, stop, _what: done.append((f"gone from {start}", stop)))
    choice = chosen(hub)
    missing = blocks.Blocks([file.size_bytes for file in choice.files], 1000)
    stored = Parts(choice, tmp_path, missing, progress.Meter(choice.total_bytes))
    for block in range(3):
        stored.store(blocks.Run(0, block, block + 1, 1000 * block, 1000 * block + 1000), block, memoryview(bytes(1000)))
    stored.flush()
    assert done == [("synced", 0)]
    for block in range(3):  # the bytes of the last one may still be in use
        assert bytes(stored.read(0, block) or b"") == bytes(1000)
    stored.flush()
    assert done[1:] == [("synced", 0), ("gone from 0", 2000)]
    stored.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_of_ours_ends_the_download(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_values: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("engine.hub.intake.Intake.read", fail)
    with pytest.raises(HubError, match="broke off unexpectedly"):
        transfer(hub, tmp_path).run()


def test_it_uses_the_connections_it_is_given(hub: FakeHub, tmp_path: Path, short_runs: None) -> None:
    """Three requests wait for each other: fewer at a time would never end."""
    meeting = threading.Barrier(3, timeout=5)

    def meet() -> None:
        meeting.wait()

    hub.faults[FILE] = [Fault(before=meet) for _ in range(3)]
    assert_complete(transfer(hub, tmp_path, connections=3, patience=Patience(silence_s=10)).run(), tmp_path)
    assert not meeting.broken


def test_the_defaults_are_patient() -> None:
    patience = Patience()
    assert sum(min(patience.first_wait_s * 2**n, patience.longest_wait_s) for n in range(patience.tries - 1)) > 240
    assert HASTY.tries < patience.tries
    assert Transfer.run.__doc__
