"""An upload is asked, not waited for; the bytes change hands when it is done."""

from __future__ import annotations

from typing import cast

import torch

from engine.uploads import EventUpload, TimedUpload, VirtualClock


def test_a_timed_upload_is_done_when_its_time_has_come() -> None:
    clock, target, source = VirtualClock(), torch.zeros(4), torch.ones(4)
    upload = TimedUpload(clock, 2.0, target, source)
    assert not upload.done()
    assert not target.any()
    clock.now_s = 2.0
    assert upload.done()
    assert torch.equal(target, source)


def test_waiting_takes_the_time_that_is_left() -> None:
    for now_s, after_s in ((0.5, 2.0), (3.0, 3.0)):
        clock, target = VirtualClock(), torch.zeros(4)
        clock.now_s = now_s
        upload = TimedUpload(clock, 2.0, target, torch.ones(4))
        upload.wait()
        assert clock.now_s == after_s
        assert bool(target.all())
        assert upload.done()


class FakeEvent:
    """An event that happens when it is waited for."""

    happened = False

    def query(self) -> bool:
        return self.happened

    def synchronize(self) -> None:
        self.happened = True


def test_an_upload_with_an_event_is_done_when_that_has_happened() -> None:
    upload = EventUpload(cast(torch.cuda.Event, FakeEvent()))
    assert not upload.done()
    upload.wait()
    assert upload.done()
