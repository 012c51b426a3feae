"""The options of a chat, through the real window: what is chosen reaches the engine with the next reply."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QPlainTextEdit, QToolButton
from pytestqt.qtbot import QtBot

from app.application import Application
from app.preset_files import load_presets
from app.presets import ChatOptions, Preset, PresetBook
from app.widgets.chat_options_dialog import ChatOptionsDialog
from engine.config import SamplingParams
from engine.messages import ChatMessage, Generate
from tests.app.fake_host import FakeHost

POET = Preset("k1", "Poet", "Answer in rhymes.", SamplingParams(temperature=1.4, stop=("END",)))
BOOK = PresetBook((POET,))


def open_alone(qtbot: QtBot, options: ChatOptions | None = None, book: PresetBook = BOOK) -> ChatOptionsDialog:
    dialog = ChatOptionsDialog(options or ChatOptions(), book, "guide", "Rooftop guide")
    qtbot.addWidget(dialog)
    dialog.show()
    return dialog


def choose(dialog: ChatOptionsDialog, key: str) -> None:
    dialog.chooser.setCurrentIndex(dialog.chooser.findData(key))


def chosen(qtbot: QtBot, dialog: ChatOptionsDialog) -> ChatOptions:
    with qtbot.waitSignal(dialog.options_chosen) as heard:
        QTest.mouseClick(dialog.ok_button, Qt.MouseButton.LeftButton)
    options = heard.args[0]
    assert isinstance(options, ChatOptions)
    return options


def last_request(host: FakeHost) -> Generate:
    return next(request for request in reversed(host.requests) if isinstance(request, Generate))


# ---- alone ----


def test_accepting_without_a_change_changes_nothing(qtbot: QtBot) -> None:
    for options in (ChatOptions(), ChatOptions("k1"), ChatOptions("precise", "Be brief.", {"top_k": 7})):
        assert chosen(qtbot, open_alone(qtbot, options)) == options


def test_a_change_is_the_chats_own_and_can_be_taken_back(qtbot: QtBot) -> None:
    dialog = open_alone(qtbot, ChatOptions("k1"))
    back = dialog.editor.reset_button("temperature")
    assert not back.isVisible()
    dialog.editor.temperature.setValue(0.2)
    dialog.editor.stop.setPlainText("END\na\\nb\\\\n")
    assert dialog.options == ChatOptions("k1", None, {"temperature": 0.2, "stop": ("END", "a\nb\\n")})
    assert "differs from its preset" in dialog.status.text()
    back.click()
    assert dialog.editor.temperature.value() == 1.4
    assert not back.isVisible()
    dialog.reset.click()
    assert dialog.options == ChatOptions("k1")
    assert not dialog.reset.isEnabled()


def test_another_preset_brings_its_values(qtbot: QtBot) -> None:
    dialog = open_alone(qtbot, ChatOptions("", "Be brief."))
    choose(dialog, "k1")
    assert (dialog.editor.system_prompt, dialog.editor.sampling) == (POET.system_prompt, POET.sampling)
    assert dialog.options == ChatOptions("k1")


def test_a_schema_that_is_none_cannot_be_accepted(qtbot: QtBot) -> None:
    dialog = open_alone(qtbot)
    dialog.editor.schema.setPlainText("{")
    assert "not valid JSON" in dialog.status.text()
    assert not dialog.ok_button.isEnabled()
    assert not dialog.save.isEnabled()
    dialog.editor.schema.setPlainText('{"type": "object"}')
    assert chosen(qtbot, dialog).sampling == {"json_schema": '{"type": "object"}'}


def test_saved_as_a_preset_the_chat_has_it(qtbot: QtBot) -> None:
    dialog = open_alone(qtbot)
    dialog.editor.top_k.setValue(9)
    with qtbot.assertNotEmitted(dialog.presets_changed):
        dialog.save_as("poet")
    assert "called poet already" in dialog.status.text()
    with qtbot.waitSignal(dialog.presets_changed) as heard:
        dialog.save_as("Nine")
    saved = heard.args[0].own[-1]
    assert (saved.name, saved.sampling.top_k) == ("Nine", 9)
    assert chosen(qtbot, dialog) == ChatOptions(saved.key)


def test_a_model_is_given_a_preset_and_loses_it(qtbot: QtBot) -> None:
    dialog = open_alone(qtbot, ChatOptions("k1"))
    dialog.for_model.click()
    with qtbot.waitSignal(dialog.presets_changed) as heard:
        dialog.ok_button.click()
    assert heard.args[0].by_model == {"guide": "k1"}
    again = open_alone(qtbot, book=heard.args[0])
    assert again.chooser.currentText() == "As the model: Poet"
    assert again.for_model.isChecked()
    again.for_model.click()
    with qtbot.waitSignal(again.presets_changed) as heard:
        again.ok_button.click()
    assert heard.args[0].by_model == {}


# ---- in the window ----


def ask(rooftop: Application, qtbot: QtBot, text: str) -> None:
    edit = rooftop.chat.composer.findChild(QPlainTextEdit)
    assert edit is not None
    QTest.keyClicks(edit, text)
    QTest.keyClick(edit, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not rooftop.session.busy)


def shown_dialog(rooftop: Application) -> ChatOptionsDialog:
    dialog = rooftop.window.findChild(ChatOptionsDialog)
    assert dialog is not None
    return dialog


def test_options_reach_the_engine_with_the_next_reply(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    ask(rooftop, qtbot, "One?")
    assert last_request(host).sampling == SamplingParams()
    button = next(b for b in rooftop.window.top_bar.findChildren(QToolButton) if "Chat options" in b.toolTip())
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    dialog = shown_dialog(rooftop)
    choose(dialog, "precise")
    dialog.editor.prompt.setPlainText("Be brief.")
    dialog.ok_button.click()
    ask(rooftop, qtbot, "Two?")
    request = last_request(host)
    assert request.messages[0] == ChatMessage("system", "Be brief.")
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "user"]
    assert request.sampling == SamplingParams(temperature=0.2, top_p=0.9)
    rooftop.session.new_chat()
    ask(rooftop, qtbot, "Three?")
    assert last_request(host).sampling == SamplingParams(), "the options were that chat's"


def test_presets_outlive_the_window(
    make_rooftop: Callable[..., Application], qtbot: QtBot, host: FakeHost, tmp_path: Path
) -> None:
    rooftop = make_rooftop()
    qtbot.waitUntil(lambda: rooftop.client.model_ready)
    QTest.keySequence(rooftop.window, "Ctrl+Shift+P")
    dialog = shown_dialog(rooftop)
    dialog.editor.top_k.setValue(3)
    dialog.save_as("Three")
    dialog.for_model.setChecked(True)
    dialog.ok_button.click()
    book, notice = load_presets(tmp_path / "config" / "presets.json")
    assert (notice, [preset.name for preset in book.own]) == ("", ["Three"])
    rooftop.window.close()
    other = make_rooftop()
    qtbot.waitUntil(lambda: other.client.model_ready)
    ask(other, qtbot, "Hello?")
    assert last_request(host).sampling == SamplingParams(top_k=3)


def test_a_preset_file_that_cannot_be_written_is_told(
    rooftop: Application, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("app.preset_files.write_object", full)
        rooftop.presets.keep(BOOK)
    banner = rooftop.chat.banners.banners["presets-file"]
    assert "No space left" in banner.text
    banner.buttons[0].click()
    assert "presets-file" not in rooftop.chat.banners.banners
    assert load_presets(tmp_path / "config" / "presets.json") == (BOOK, "")


def test_damaged_presets_are_told_at_the_start(make_rooftop: Callable[..., Application], tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "presets.json").write_bytes(b"\0" * 99)
    rooftop = make_rooftop()
    assert "presets file was damaged" in rooftop.chat.banners.banners["presets-file"].text


def test_ctrl_enter_sends_where_that_was_chosen(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    rooftop.dialogs.open_settings()
    from app.widgets.settings.dialog import SettingsDialog

    dialog = rooftop.window.findChild(SettingsDialog)
    assert dialog is not None
    words = [label.text() for label in dialog.shortcuts.findChildren(QLabel)]
    assert {"Ctrl+N", "New chat", "Ctrl+Shift+P", "Chat options"} <= set(words)
    assert words[words.index("Send the message") - 1] == "Enter"
    dialog.chat.send_key.setCurrentIndex(1)
    dialog.button("Ok").click()
    assert rooftop.chat.composer.hint.startswith("Ctrl+Enter sends")
    edit = rooftop.chat.composer.findChild(QPlainTextEdit)
    assert edit is not None
    QTest.keyClicks(edit, "a")
    QTest.keyClick(edit, Qt.Key.Key_Return)
    QTest.keyClicks(edit, "b")
    assert not rooftop.session.busy
    QTest.keyClick(edit, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: len(rooftop.session.conversation.messages) == 2 and not rooftop.session.busy)
    assert rooftop.session.conversation.messages[0].text == "a\nb"
