from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import Settings, load_settings
from app.settings_keeper import SettingsKeeper


@pytest.fixture
def keeper(tmp_path: Path) -> SettingsKeeper:
    return SettingsKeeper(tmp_path / "config" / "settings.json")


def test_what_is_changed_is_kept_once_it_is_saved(keeper: SettingsKeeper) -> None:
    assert (keeper.settings, keeper.notice) == (Settings(), "")
    keeper.take(Settings(theme="dark"))
    keeper.change(tray=True)
    assert not keeper.path.exists()
    keeper.save()
    assert load_settings(keeper.path)[0] == keeper.settings == Settings(theme="dark", tray=True)
    assert SettingsKeeper(keeper.path).settings == keeper.settings


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{")
    keeper = SettingsKeeper(tmp_path / "settings.json")
    assert keeper.notice == load_settings(tmp_path / "settings.json")[1] != ""
    assert keeper.settings == Settings()


def test_a_file_that_cannot_be_written_is_told_until_it_can(keeper: SettingsKeeper) -> None:
    told: list[str] = []
    keeper.problem.connect(told.append)
    assert keeper.why_not_kept() == ""
    keeper.path.mkdir()
    keeper.save()
    keeper.path.rmdir()
    keeper.save()
    assert str(keeper.path.parent) in told[0]
    assert told[1:] == [""]


def test_a_folder_that_keeps_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    keeper = SettingsKeeper(tmp_path / "file" / "settings.json")
    assert str(tmp_path / "file") in keeper.why_not_kept()
