"""GPU support in the window: the offer above the chat, the page in the settings, and the engine that takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtWidgets import QMessageBox
from pytestqt.qtbot import QtBot

from app.application import Application
from app.engine_client import EngineState
from app.gpu_component import GpuComponent
from app.gpu_desk import BANNER, GpuDesk
from app.gpu_files import bytes_there
from app.gpu_look import DRIVERS_PAGE, Gpu
from app.gpu_state import Seen
from app.settings import Settings, load_settings, save_settings
from app.widgets.settings.dialog import SettingsDialog
from engine.gpu_packages import find_component, refuse
from engine.messages import Load, TorchBuild
from tests.app.fake_host import FakeHost
from tests.app.gpu_killed import TRIED
from tests.engine.hub.conftest import HASTY
from tests.engine.hub.hub_server import FakeHub, FakeRepository, Fault, fake_hub
from tests.gpu_wheels import CUBLAS_WHEEL, OWN, TORCH_WHEEL, pins_for, write_wheels

CARD = Gpu("GeForce RTX 4070", "580.95.05", (8, 9))


class Desk:
    """An application with its desk, and a server with the wheels."""

    def __init__(self, hub: FakeHub, tmp_path: Path, qtbot: QtBot, host: FakeHost) -> None:
        self.hub, self.qtbot, self.host = hub, qtbot, host
        self.root = tmp_path / "gpu"
        self.settings_path = tmp_path / "config" / "settings.json"
        self.gpu: Gpu | None = CARD
        wheels = write_wheels(tmp_path / "served")
        hub.repositories["wheels/files"] = FakeRepository({path.name: path.read_bytes() for path in wheels.iterdir()})
        self.pins = pins_for(wheels, f"{hub.storage}/wheels/files")
        self.desk: GpuDesk
        self.rooftop: Application

    def component(self) -> GpuComponent:
        def seen(root: Path) -> Seen:
            return Seen(self.gpu, OWN, self.pins, find_component(root, OWN), bytes_there(root, self.pins))

        return GpuComponent(self.root, patience=HASTY, look=seen, command=TRIED)

    def banner(self) -> str:
        shown = self.rooftop.chat.banners.banners.get(BANNER)
        return shown.text if shown is not None else ""

    def click(self, name: str) -> None:
        banner = self.rooftop.chat.banners.banners[BANNER]
        next(button for button in banner.buttons if button.text() == name).click()

    def wait_for(self, *phases: str) -> None:
        self.qtbot.waitUntil(
            lambda: self.desk.component.state.phase in phases and not self.desk.component.is_busy, timeout=15_000
        )

    def dialog(self) -> SettingsDialog:
        dialog = self.rooftop.window.findChild(SettingsDialog)
        assert dialog is not None
        return dialog

    def loads(self) -> int:
        return sum(isinstance(request, Load) for request in self.host.requests)

    def install(self) -> None:
        self.desk.component.install()
        self.wait_for("installed")


Open = Callable[[], Desk]


@pytest.fixture
def open_desk(
    make_rooftop: Callable[..., Application],
    host: FakeHost,
    tmp_path: Path,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Desk]]:
    """Opens the window and waits until it knows this computer."""
    with fake_hub() as hub:
        desk = Desk(hub, tmp_path, qtbot, host)
        show = Application.show

        def show_with_desk(rooftop: Application) -> None:
            desk.rooftop, desk.desk = rooftop, GpuDesk(rooftop, make=desk.component)
            show(rooftop)

        monkeypatch.setattr(Application, "show", show_with_desk)

        def opened(gpu: Gpu | None = CARD, settings: Settings | None = None) -> Desk:
            desk.gpu = gpu
            if settings is not None:
                save_settings(settings, desk.settings_path)
            rooftop = make_rooftop()
            qtbot.waitUntil(lambda: desk.desk.component.state.phase != "unknown", timeout=5000)
            qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
            return desk

        yield opened


def test_a_gpu_that_could_be_used_is_offered_with_one_button(open_desk: Callable[..., Desk], qtbot: QtBot) -> None:
    desk = open_desk()
    assert desk.banner().startswith("Your GeForce RTX 4070 can be used: ")
    before = desk.loads()
    desk.click("Install")
    assert desk.dialog().gpu.isVisible(), "how far it is can be seen"
    desk.wait_for("installed")
    assert desk.loads() == before + 1, "the model is loaded again with it"
    assert desk.host.stopped == 1
    assert desk.banner() == "GPU support is installed; the model is loaded again with it."


def test_what_was_waved_away_does_not_come_back(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    desk.rooftop.chat.banners.banners[BANNER]._close.click()
    assert desk.rooftop.settings.gpu_offer_closed
    assert load_settings(desk.settings_path)[0].gpu_offer_closed
    desk.desk.component.look()
    desk.wait_for("available")
    assert desk.banner() == ""


def test_the_settings_offer_it_all_the_same(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(settings=Settings(gpu_offer_closed=True))
    assert desk.banner() == ""
    desk.rooftop.dialogs.open_settings("gpu")
    page = desk.dialog().gpu
    assert page.main.text() == "&Install"
    page.main.click()
    desk.wait_for("installed")
    assert page.repair.isVisible()


@pytest.mark.parametrize("gpu", [None, replace(CARD, capability=(6, 1))])
def test_without_a_gpu_that_works_nothing_is_offered(open_desk: Callable[..., Desk], gpu: Gpu | None) -> None:
    assert open_desk(gpu).banner() == ""


def test_an_old_driver_is_said_before_anything_is_fetched(
    open_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk(replace(CARD, driver="550.54"))
    assert desk.banner() == (
        "Your GeForce RTX 4070 cannot be used yet: its driver has version 550.54, and CUDA 13.0 needs 580 or newer."
    )
    opened: list[str] = []
    monkeypatch.setattr(desk.rooftop.chat, "open_link", opened.append)
    desk.click("Get a newer driver…")
    assert opened == [DRIVERS_PAGE]
    assert desk.hub.requests == []


def test_what_an_earlier_session_fetched_is_offered(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    desk.hub.faults[CUBLAS_WHEEL] = [Fault(after_bytes=100_000)]
    desk.hub.always[CUBLAS_WHEEL] = Fault(status=503)
    desk.desk.component.install()
    desk.wait_for("failed")
    assert "Check your connection" in desk.banner()
    del desk.hub.always[CUBLAS_WHEEL]
    desk.desk.component.look()
    desk.wait_for("paused")
    assert desk.banner().startswith("GPU support is fetched in part: ")
    desk.click("Resume")
    desk.wait_for("installed")


def test_a_failure_offers_another_try(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    desk.hub.always[TORCH_WHEEL] = Fault(flip=True)
    desk.desk.component.install()
    desk.wait_for("failed")
    assert desk.banner().startswith("127.0.0.1 sends other files than those that are meant.")
    del desk.hub.always[TORCH_WHEEL]
    desk.click("Try again")
    desk.wait_for("installed")


def test_a_component_that_ended_the_engine_is_told_and_repaired(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    desk.install()
    refuse(desk.root / "2.13.0+cu130", "The engine process ended unexpectedly (signal 11).")
    desk.rooftop.client.torch_told.emit(TorchBuild("", "", "GPU support could not be used."))
    desk.wait_for("damaged")
    assert desk.banner() == (
        "GPU support did not start. The engine process ended unexpectedly (signal 11). The CPU computes alone."
    )
    before = desk.loads()
    desk.click("Repair")
    desk.wait_for("installed")
    desk.qtbot.waitUntil(lambda: desk.loads() == before + 1)
    desk.qtbot.waitUntil(lambda: desk.rooftop.client.state is EngineState.READY)


def test_removing_asks_then_ends_the_engine_first(open_desk: Callable[..., Desk], qtbot: QtBot) -> None:
    desk = open_desk()
    desk.install()
    desk.rooftop.dialogs.open_settings("gpu")
    desk.dialog().gpu.remove.click()
    box = desk.dialog().findChild(QMessageBox)
    assert box is not None
    box.button(QMessageBox.StandardButton.Cancel).click()
    assert desk.desk.component.state.phase == "installed"
    desk.dialog().gpu.remove.click()
    box = next(box for box in desk.dialog().findChildren(QMessageBox) if box.isVisible())
    before = desk.loads()
    next(button for button in box.buttons() if button.text() == "Remove").click()
    desk.wait_for("available")
    assert find_component(desk.root, OWN).state == "absent"
    qtbot.waitUntil(lambda: desk.loads() == before + 1)


def test_a_reply_ends_before_the_engine_that_was_installed_takes_over(
    open_desk: Callable[..., Desk], qtbot: QtBot
) -> None:
    desk = open_desk()
    desk.host.hold_reply, desk.host.reply = True, "word " * 50
    desk.rooftop.session.submit("Hello", ())
    qtbot.waitUntil(lambda: desk.rooftop.client.state is EngineState.GENERATING)
    before = desk.loads()
    desk.install()
    assert desk.loads() == before
    assert desk.rooftop.client.state is EngineState.GENERATING
    desk.host.release()
    qtbot.waitUntil(lambda: desk.loads() == before + 1)
    assert [message.state for message in desk.rooftop.session.conversation.messages][-1] == "complete"


def test_the_page_shows_what_the_engine_says_of_its_torch(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    desk.install()
    desk.rooftop.dialogs.open_settings("gpu")
    desk.rooftop.client.torch_told.emit(TorchBuild("2.13.0+cu130", "13.0"))
    assert "In force: torch 2.13.0+cu130" in desk.dialog().gpu._facts.text()
    desk.dialog().close()
    assert desk.banner() == ""
