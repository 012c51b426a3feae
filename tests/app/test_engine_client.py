from collections.abc import Iterator
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app import engine_client
from app.engine_client import EngineClient, EngineState
from app.event_feed import BUSY_POLL_MS, IDLE_POLL_MS
from engine.config import EngineConfig, SamplingParams
from engine.errors import EngineStoppedError
from engine.messages import Cancel, ChatMessage, ErrorReport, Failed, Generate, Load, Reconfigure, TorchBuild
from tests.app.fake_host import FakeHost

QUESTION = (ChatMessage("user", "Hi"),)


class Recorder:
    """Keeps what a client says."""

    def __init__(self, client: EngineClient) -> None:
        self.states: list[EngineState] = []
        self.texts: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.loads: list[Any] = []
        self.events: list[str] = []
        client.state_changed.connect(self.states.append)
        client.text.connect(self.texts.append)
        client.text.connect(lambda _text: self.events.append("text"))
        client.snapshot.connect(lambda _snapshot: self.events.append("snapshot"))
        client.finished.connect(lambda _event: self.events.append("finished"))
        client.loading.connect(self.loads.append)
        client.failed.connect(lambda error, what: self.failures.append((error.code, what)))


@pytest.fixture
def client(qtbot: QtBot, host: FakeHost) -> Iterator[EngineClient]:
    client = EngineClient(lambda: host)
    yield client
    client.shutdown()


@pytest.fixture
def said(client: EngineClient) -> Recorder:
    return Recorder(client)


def load(client: EngineClient, qtbot: QtBot) -> None:
    client.load("guide", EngineConfig())
    qtbot.waitUntil(lambda: client.state is EngineState.READY)


def wait_for(client: EngineClient, qtbot: QtBot, state: EngineState) -> None:
    qtbot.waitUntil(lambda: client.state is state)


def test_the_way_from_start_to_a_reply(client: EngineClient, said: Recorder, qtbot: QtBot) -> None:
    load(client, qtbot)
    client.generate(QUESTION, SamplingParams())
    wait_for(client, qtbot, EngineState.READY)
    states = [EngineState.STARTING, EngineState.LOADING, EngineState.READY, EngineState.GENERATING, EngineState.READY]
    assert said.states == states
    assert "".join(said.texts) == "Hello **world**."
    assert len(said.texts) == 1, "one poll's tokens arrive as one text"
    assert said.events[-3:] == ["text", "snapshot", "finished"]
    assert len(said.loads) == 3


def test_polling_slows_down_when_nothing_happens(client: EngineClient, qtbot: QtBot) -> None:
    load(client, qtbot)
    assert client.poll_interval_ms == BUSY_POLL_MS
    qtbot.waitUntil(lambda: client.poll_interval_ms == IDLE_POLL_MS, timeout=3000)
    client.generate(QUESTION, SamplingParams())
    assert client.poll_interval_ms == BUSY_POLL_MS


def test_one_request_at_a_time(client: EngineClient, qtbot: QtBot, host: FakeHost) -> None:
    load(client, qtbot)
    client.generate(QUESTION, SamplingParams())
    client.reconfigure(EngineConfig(context_tokens=512))
    assert isinstance(host.requests[-1], Generate)
    qtbot.waitUntil(lambda: isinstance(host.requests[-1], Reconfigure))
    wait_for(client, qtbot, EngineState.READY)


@pytest.mark.parametrize("hold", [True, False])
def test_a_ready_that_answers_nothing_changes_no_state(
    client: EngineClient, qtbot: QtBot, host: FakeHost, hold: bool
) -> None:
    load(client, qtbot)
    host.hold_reply = hold
    client.generate(QUESTION, SamplingParams())
    client.reconfigure(EngineConfig(context_tokens=512))
    heard: list[Any] = []
    client.ready.connect(heard.append)
    host.tell("Another program took 3.1 GiB of VRAM: 21 experts moved to RAM.")
    qtbot.waitUntil(lambda: bool(heard))
    assert heard[0].because
    assert client.state is EngineState.GENERATING
    assert isinstance(host.requests[-1], Generate), "the settings wait for the reply's own end"
    host.release()
    qtbot.waitUntil(lambda: isinstance(host.requests[-1], Reconfigure))


def test_what_a_model_that_is_given_up_still_says_is_not_heard(
    client: EngineClient, qtbot: QtBot, host: FakeHost
) -> None:
    load(client, qtbot)
    heard: list[Any] = []
    client.ready.connect(heard.append)
    host.tell("Another program took 3.1 GiB of VRAM: 21 experts moved to RAM.")
    load(client, qtbot)
    assert [ready.because for ready in heard] == [""]


def test_loading_another_model_ends_the_reply_first(
    client: EngineClient, said: Recorder, qtbot: QtBot, host: FakeHost
) -> None:
    load(client, qtbot)
    host.hold_reply = True
    client.generate(QUESTION, SamplingParams())
    client.load("other", EngineConfig())
    assert isinstance(host.requests[-1], Cancel)
    wait_for(client, qtbot, EngineState.READY)
    assert isinstance(host.requests[-1], Load)
    assert host.requests[-1].model == "other"


def test_a_load_that_gives_way_fails_silently(
    client: EngineClient, said: Recorder, qtbot: QtBot, host: FakeHost
) -> None:
    host.hold_load = True
    client.load("one", EngineConfig())
    host.hold_load = False
    client.load("two", EngineConfig())
    wait_for(client, qtbot, EngineState.READY)
    assert said.failures == []


def test_a_cancelled_load(client: EngineClient, said: Recorder, qtbot: QtBot, host: FakeHost) -> None:
    host.hold_load = True
    client.load("guide", EngineConfig())
    client.cancel()
    client.cancel()
    assert sum(isinstance(request, Cancel) for request in host.requests) == 1
    assert client.state is EngineState.STOPPING
    wait_for(client, qtbot, EngineState.FAILED)
    assert said.failures == [("cancelled", "load")]
    assert not client.model_ready


def test_an_engine_that_dies(client: EngineClient, said: Recorder, qtbot: QtBot, host: FakeHost) -> None:
    load(client, qtbot)
    host.hold_reply = True
    client.generate(QUESTION, SamplingParams())
    host.die()
    wait_for(client, qtbot, EngineState.FAILED)
    assert said.failures == [("engine-stopped", "engine")]
    assert host.stopped == 1
    assert client.poll_interval_ms == 0


def test_an_engine_that_dies_while_idle_is_noticed(client: EngineClient, qtbot: QtBot, host: FakeHost) -> None:
    load(client, qtbot)
    host.die()
    wait_for(client, qtbot, EngineState.FAILED)


def test_an_engine_that_does_not_hear_cancel_is_ended(
    qtbot: QtBot, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_client, "STUCK_AFTER_MS", 50)
    client = EngineClient(lambda: host)
    said = Recorder(client)
    load(client, qtbot)
    host.hold_reply = host.deaf = True
    host.reply = "word " * 20
    client.generate(QUESTION, SamplingParams())
    client.cancel()
    wait_for(client, qtbot, EngineState.FAILED)
    assert said.failures == [("engine-stopped", "engine")]
    assert host.stopped == 1


def test_an_engine_that_cannot_start(qtbot: QtBot) -> None:
    def refuse() -> FakeHost:
        raise EngineStoppedError("There is no engine.", "Install one.")

    client = EngineClient(refuse)
    said = Recorder(client)
    client.load("guide", EngineConfig())
    assert client.state is EngineState.FAILED
    assert said.failures == [("engine-stopped", "engine")]


def test_settings_that_the_engine_refuses_keep_the_model(
    client: EngineClient, said: Recorder, qtbot: QtBot, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(client, qtbot)
    client.reconfigure(EngineConfig(context_tokens=512))
    from engine.messages import Failed

    host._events.clear()
    host._events.append(Failed(ErrorReport("configuration", "Too small.", "Take more.")))
    qtbot.waitUntil(lambda: bool(said.failures))
    assert said.failures == [("configuration", "settings")]
    assert client.state is EngineState.READY


def test_no_record_of_a_pass_is_lost(client: EngineClient, qtbot: QtBot, host: FakeHost) -> None:
    load(client, qtbot)
    host.reply, host.tokens_per_poll = "word " * 20, 7
    heard: list[int] = []
    client.passes.connect(lambda records: heard.extend(record.position for record in records))
    told: list[int] = []
    client.snapshot.connect(lambda _snapshot: told.append(len(heard)))
    client.generate(QUESTION, SamplingParams())
    wait_for(client, qtbot, EngineState.READY)
    assert heard == list(range(20))
    assert told[-1] == 20, "the last snapshot comes after all of them"


def test_recalibrating_shows_as_loading(client: EngineClient, said: Recorder, qtbot: QtBot) -> None:
    load(client, qtbot)
    client.recalibrate()
    assert client.state is EngineState.LOADING
    wait_for(client, qtbot, EngineState.READY)


def test_without_a_model_settings_wait_for_the_next_load(client: EngineClient, host: FakeHost) -> None:
    client.reconfigure(EngineConfig())
    client.recalibrate()
    client.restart()
    client.cancel()
    assert host.requests == []
    assert client.engine_pid is None


LOST = Failed(ErrorReport("gpu-lost", "The GPU stopped working (unspecified launch failure).", "Start again."))


def lose_gpu(client: EngineClient, host: FakeHost, qtbot: QtBot) -> None:
    """In the middle of a reply; returns when the model is loaded again."""
    client.generate(QUESTION, SamplingParams())
    qtbot.waitUntil(lambda: isinstance(host.requests[-1], Generate))
    with qtbot.waitSignal(client.recovered):
        host._events.append(LOST)
    wait_for(client, qtbot, EngineState.READY)


def loaded_devices(host: FakeHost) -> list[str]:
    return [request.config.device for request in host.requests if isinstance(request, Load)]


def test_a_lost_gpu_is_tried_once_more_then_left_alone(
    client: EngineClient, said: Recorder, qtbot: QtBot, host: FakeHost
) -> None:
    host.hold_reply = True
    sentences: list[str] = []
    client.recovered.connect(sentences.append)
    client.load("guide", EngineConfig(device="cuda", vram_budget_bytes=1 << 30))
    wait_for(client, qtbot, EngineState.READY)
    lose_gpu(client, host, qtbot)
    assert said.failures == [("gpu-lost", "reply")], "the reply so far is kept, as after any failure"
    assert host.stopped == 1, "the process that lost it is ended"
    lose_gpu(client, host, qtbot)
    assert loaded_devices(host) == ["cuda", "auto", "cpu"]
    assert len(sentences) == 2
    assert client.model_ready


def test_settings_taken_after_a_loss_leave_the_device_as_it_is(
    client: EngineClient, qtbot: QtBot, host: FakeHost
) -> None:
    host.hold_reply = True
    client.load("guide", EngineConfig(device="cuda"))
    wait_for(client, qtbot, EngineState.READY)
    lose_gpu(client, host, qtbot)
    client.reconfigure(EngineConfig(device="cuda", context_tokens=100))
    assert host.requests[-1] == Reconfigure(EngineConfig(device="auto", context_tokens=100))
    client.load("guide", EngineConfig(device="cuda"))
    qtbot.waitUntil(lambda: loaded_devices(host)[-1] == "cuda")  # who asks for it gets another try
    wait_for(client, qtbot, EngineState.READY)


def test_a_gpu_that_breaks_every_load_ends_on_the_cpu(
    client: EngineClient, said: Recorder, qtbot: QtBot, host: FakeHost
) -> None:
    """Bounded: two loads on the GPU, then one on the CPU, whatever happens."""
    host.hold_load = True
    client.load("guide", EngineConfig())
    for loads in (1, 2):
        qtbot.waitUntil(lambda loads=loads: len(loaded_devices(host)) == loads)  # type: ignore[misc]
        host._events.append(LOST)
    qtbot.waitUntil(lambda: len(loaded_devices(host)) == 3)
    host.release()
    wait_for(client, qtbot, EngineState.READY)
    assert loaded_devices(host) == ["auto", "auto", "cpu"]
    assert said.failures == []


def test_a_new_engine_says_which_torch_it_has_and_loads_the_same_model(
    client: EngineClient, host: FakeHost, qtbot: QtBot
) -> None:
    load(client, qtbot)
    build = TorchBuild("2.13.0+cu130", "13.0")
    host._events.append(build)
    with qtbot.waitSignal(client.torch_told) as told:
        client.renew()
    assert told.args == [build]
    qtbot.waitUntil(lambda: client.state is EngineState.READY)
    assert host.stopped == 1
    loads = [request for request in host.requests if isinstance(request, Load)]
    assert len(loads) == 2
    assert loads[0] == loads[1]
