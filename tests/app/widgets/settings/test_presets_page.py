"""The page of presets: the program's stay as they are, the user's own change, and nothing bad is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot

from app.preset_files import export_preset, import_preset
from app.presets import Preset, PresetBook
from app.settings import Settings
from app.widgets.settings.dialog import SettingsDialog
from engine.config import SamplingParams

POET = Preset(
    "k1", "Poet", "Answer in rhymes.", SamplingParams(temperature=1.333, stop=("END", "a\nb\\n"), seed=1 << 40)
)


@pytest.fixture
def dialog(qtbot: QtBot) -> SettingsDialog:
    dialog = SettingsDialog(Settings(), book=PresetBook((POET,)))
    qtbot.addWidget(dialog)
    dialog.show_page("presets")
    dialog.show()
    return dialog


def choose(dialog: SettingsDialog, key: str) -> None:
    dialog.presets.chooser.setCurrentIndex(dialog.presets.chooser.findData(key))


def test_looking_at_presets_changes_nothing(dialog: SettingsDialog) -> None:
    for preset in dialog.presets.book.presets:
        choose(dialog, preset.key)
        assert dialog.presets.name.text() == preset.name
        assert dialog.presets.editor.sampling == preset.sampling, "what a field cannot show in full stays exact"
        assert dialog.presets.name.isReadOnly() == preset.built_in
        assert dialog.presets.delete.isEnabled() != preset.built_in
    assert not dialog.changed


def test_a_preset_is_changed_and_handed_out_on_apply(dialog: SettingsDialog, qtbot: QtBot) -> None:
    choose(dialog, "k1")
    dialog.presets.editor.temperature.setValue(0.3)
    dialog.presets.name.selectAll()
    QTest.keyClicks(dialog.presets.name, "Bard")
    with qtbot.waitSignal(dialog.presets_applied) as heard, qtbot.assertNotEmitted(dialog.applied):
        QTest.mouseClick(dialog.button("Apply"), Qt.MouseButton.LeftButton)
    changed = replace(POET, name="Bard", sampling=replace(POET.sampling, temperature=0.3))
    assert heard.args == [PresetBook((changed,))]
    assert not dialog.changed


def test_duplicate_default_and_delete(dialog: SettingsDialog) -> None:
    page = dialog.presets
    choose(dialog, "code")
    page.duplicate.click()
    copy = page.chosen
    assert (copy.name, copy.built_in) == ("Code 2", False)
    page.make_default.click()
    assert page.book.default == copy.key
    assert page.chooser.currentText() == "Code 2 (for new chats)"
    page.delete.click()
    assert page.book == PresetBook((POET,))


@pytest.mark.parametrize(
    ("field", "words"), [("name", "called precise already"), ("blank", "name is empty"), ("schema", "not valid JSON")]
)
def test_what_cannot_be_kept_is_told_and_not_applied(dialog: SettingsDialog, field: str, words: str) -> None:
    choose(dialog, "k1")
    page = dialog.presets
    if field == "schema":
        page.editor.schema.setPlainText("{")
    else:
        page.name.selectAll()
        QTest.keyClicks(page.name, "precise" if field == "name" else " ")
    assert words in dialog.status.text()
    assert not dialog.button("Apply").isEnabled()
    assert not dialog.button("Ok").isEnabled()
    assert page.book.own[0].name not in ("precise", "", " ")
    assert page.book.own[0].sampling == POET.sampling
    choose(dialog, "balanced")
    assert dialog.button("Ok").isEnabled(), "what was not kept is no problem once it is left"


def test_presets_come_and_go_as_files(dialog: SettingsDialog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, path = dialog.presets, tmp_path / "poet.rooftop-preset.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args, **_named: (str(path), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_args, **_named: (str(path), ""))
    choose(dialog, "k1")
    page.export_button.click()
    assert replace(import_preset(path), key="k1") == POET
    page.import_button.click()
    assert [preset.name for preset in page.book.own] == ["Poet", "Poet 2"]
    assert page.chosen.name == "Poet 2"
    path.write_text("nonsense")
    page.import_button.click()
    assert "cannot be read" in page.message.text()
    assert len(page.book.own) == 2
    export_preset(POET, path)


def test_restoring_defaults_keeps_the_users_presets(dialog: SettingsDialog) -> None:
    choose(dialog, "k1")
    dialog.presets.editor.prompt.setPlainText("Be brief.")
    dialog.button("RestoreDefaults").click()
    assert dialog.presets.book.own[0].system_prompt == "Be brief."
