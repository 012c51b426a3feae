"""The settings' page of the graphics card, in every state of the component."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtWidgets import QFileDialog, QPushButton
from pytestqt.qtbot import QtBot

from app.gpu_look import Gpu
from app.gpu_state import GpuState, Phase, Progress, Seen, judge
from app.settings import Settings
from app.theme import ThemeManager
from app.widgets.settings.gpu_page import GpuPage
from engine.gpu_packages import Found
from engine.messages import ErrorReport, TorchBuild
from tests.gpu_wheels import OWN, pins_for, write_wheels

GIB = 1 << 30
CARD = Gpu("GeForce RTX 4070", "580.95.05", (8, 9))
SETTINGS = Settings(gpu_mirror="https://mirror.example/simple")


@pytest.fixture
def page(qtbot: QtBot, themes: ThemeManager) -> GpuPage:
    page = GpuPage()
    qtbot.addWidget(page)
    page.show()
    return page


@pytest.fixture
def available(tmp_path: Path) -> GpuState:
    return judge(Seen(CARD, OWN, pins_for(write_wheels(tmp_path)), Found("absent")))


def buttons(page: GpuPage) -> list[str]:
    """What can be clicked."""
    return [button.text().replace("&", "") for button in page.findChildren(QPushButton) if button.isVisible()]


def words(page: GpuPage) -> str:
    return page.search_text


FOLDER = "Install from a folder…"


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("unknown", []), ("own", []), ("no-gpu", []), ("unavailable", []), ("unsuitable", []),
        ("old-driver", ["Get a newer driver…"]), ("available", ["Install", FOLDER]),
        ("downloading", ["Pause", "Cancel"]), ("stalled", ["Pause", "Cancel"]), ("verifying", ["Pause", "Cancel"]),
        ("unpacking", ["Pause", "Cancel"]), ("trying", []), ("removing", []),
        ("paused", ["Resume", "Cancel", FOLDER]), ("failed", ["Try again", "Cancel", FOLDER]),
        ("installed", ["Repair", "Remove"]), ("damaged", ["Repair", "Remove"]),
    ],
)  # fmt: skip
def test_each_state_has_a_sentence_and_its_buttons(
    page: GpuPage, available: GpuState, phase: Phase, expected: list[str]
) -> None:
    page.show_state(replace(available, phase=phase), None)
    assert sorted(buttons(page)) == sorted(expected)
    assert page._headline.text()
    assert page.main.accessibleName().startswith("GPU support")


def test_the_offer_says_what_it_costs(page: GpuPage, available: GpuState) -> None:
    assert available.seen is not None
    assert available.seen.pins is not None
    wheels = tuple(replace(wheel, size_bytes=GIB, unpacked_bytes=2 * GIB) for wheel in available.seen.pins.wheels)
    pins = replace(available.seen.pins, wheels=wheels)
    page.show_state(replace(available, seen=replace(available.seen, pins=pins)), None)
    assert page._headline.text() == "Your GeForce RTX 4070 can be used: 2.0 GiB to download."
    assert "2 files, each held against its SHA-256. 2.0 GiB are fetched and take 4.0 GiB" in page._origin.text()
    assert page._facts.text() == "GeForce RTX 4070 · driver 580.95.05 · compute capability 8.9"


def test_progress_is_told_in_bytes_speed_and_time(page: GpuPage, available: GpuState) -> None:
    progress = Progress("downloading", GIB, 2 * GIB, 50 << 20, 80.0)
    page.show_state(replace(available, phase="downloading", progress=progress), None)
    assert page._progress.text() == "1.0 GiB of 2.0 GiB · 50.0 MiB/s · 1 min left"
    assert page._bar.value() == 500
    page.show_state(replace(available, phase="stalled", progress=replace(progress, step="stalled")), None)
    assert page._progress.text() == "1.0 GiB of 2.0 GiB · stalled: nothing arrives, still trying"
    page.show_state(replace(available, phase="trying", progress=Progress("trying")), None)
    assert page._progress.text() == "trying it out"
    assert not page._bar.isVisible()


def test_what_went_wrong_and_what_is_in_force(page: GpuPage, available: GpuState) -> None:
    error = ErrorReport("disk-full", "GPU support needs 6 GiB.", "Free some space.")
    page.show_state(replace(available, phase="failed", error=error), None)
    assert page._error.text() == "GPU support needs 6 GiB. Free some space."
    page.show_state(replace(available, phase="installed"), TorchBuild("2.13.0+cu130", "13.0"))
    assert not page._error.isVisible()
    assert "In force: torch 2.13.0+cu130, made for CUDA 13.0" in page._facts.text()


@pytest.mark.parametrize(
    ("phase", "signal"),
    [
        ("available", "install_requested"), ("paused", "install_requested"), ("failed", "install_requested"),
        ("downloading", "pause_requested"), ("old-driver", "driver_requested"), ("damaged", "repair_requested"),
    ],
)  # fmt: skip
def test_the_main_button_does_what_it_says(
    page: GpuPage, available: GpuState, qtbot: QtBot, phase: Phase, signal: str
) -> None:
    page.show_state(replace(available, phase=phase), None)
    with qtbot.waitSignal(getattr(page, signal)):
        page.main.click()


def test_the_other_buttons(page: GpuPage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    for button, signal in (
        (page.cancel, page.cancel_requested),
        (page.repair, page.repair_requested),
        (page.remove, page.remove_requested),
    ):
        with qtbot.waitSignal(signal):
            button.click()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "/wheels")
    with qtbot.waitSignal(page.folder_chosen) as chosen:
        page.folder.click()
    assert chosen.args == ["/wheels"]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    with qtbot.assertNotEmitted(page.folder_chosen):
        page.folder.click()


def test_a_mirror_is_kept_and_must_be_an_address(page: GpuPage, qtbot: QtBot) -> None:
    page.show_settings(SETTINGS)
    assert page.merge(Settings()) == SETTINGS
    assert page.problem == ""
    page.mirror.setText("ftp")
    with qtbot.waitSignal(page.edited):
        page.mirror.textEdited.emit("ftp")  # as Qt does where a user types
    assert page.problem.startswith("'ftp' is not the address of a package index.")
    assert page._mirror_problem.isVisible()
    page.show_settings(Settings())
    assert not page._mirror_problem.isVisible()
