import pytest

from engine.hub.progress import RATE_WINDOW_S, STALLED_AFTER_S, Meter


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_rate_and_time_left_are_of_the_last_seconds(clock: Clock) -> None:
    meter = Meter(10_000, clock)
    for _ in range(40):
        clock.now_s += 0.5
        meter.add(100)
    progress = meter.progress()
    assert progress.done_bytes == 4000
    assert progress.bytes_per_s == pytest.approx(200, rel=0.1)
    assert progress.seconds_left == pytest.approx(30, rel=0.1)
    clock.now_s += RATE_WINDOW_S / 2
    assert meter.progress().bytes_per_s < 150, "it slows down when nothing comes"


def test_silence_is_a_stall_with_its_reason(clock: Clock) -> None:
    meter = Meter(100, clock)
    meter.add(10)
    meter.say("error 503")
    assert not meter.progress().stalled
    clock.now_s += STALLED_AFTER_S
    progress = meter.progress()
    assert (progress.stalled, progress.trouble, progress.bytes_per_s, progress.seconds_left) == (
        True,
        "error 503",
        0.0,
        None,
    )
    meter.add(10)
    assert (meter.progress().stalled, meter.progress().trouble) == (False, "")


def test_what_is_here_already_is_no_speed(clock: Clock) -> None:
    meter = Meter(100, clock)
    meter.start_with(60)
    clock.now_s += 1
    meter.add(40, new=False)
    assert meter.progress().done_bytes == 60
    meter.add(40)
    progress = meter.progress()
    assert (progress.phase, progress.done_bytes, progress.stalled) == ("checking", 100, False)
    meter.lose(40)
    assert meter.progress().phase == "running"
    assert meter.fetched_bytes == 80
