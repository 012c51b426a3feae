from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog, QLabel, QPlainTextEdit
from pytestqt.qtbot import QtBot

from app.application import Application
from app.engine_client import EngineState
from app.settings import Settings, load_settings
from app.widgets.composer import ComposerMode
from app.widgets.engine_panel import EnginePanel
from app.widgets.message_view import MessageView
from app.widgets.settings.dialog import SettingsDialog
from engine.experts.placement import make_plan
from engine.messages import Cancel, ErrorReport, Generate, Load, Recalibrate, Reconfigure, Shutdown
from tests.app.fake_host import FakeHost
from tests.app.snapshots import make_ready

Make = Callable[..., Application]


def ask(rooftop: Application, qtbot: QtBot, text: str) -> None:
    """Type a question and press Enter."""
    edit = rooftop.chat.composer.findChild(QPlainTextEdit)
    assert edit is not None
    QTest.keyClicks(edit, text)
    QTest.keyClick(edit, Qt.Key.Key_Return)


def reply_view(rooftop: Application) -> MessageView:
    return rooftop.chat.transcript.views[-1]


def mode(rooftop: Application) -> ComposerMode:
    return rooftop.chat.composer.mode


def footer(rooftop: Application) -> str:
    return next(label.text() for label in reply_view(rooftop).findChildren(QLabel) if label.objectName() == "dim")


def test_a_reply_streams_into_the_transcript(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    host.reply = "The **answer** is `42`.\n\n```python\nx = 42\n```\n"
    ask(rooftop, qtbot, "What is it?")
    assert mode(rooftop) is ComposerMode.STOP
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    user, reply = rooftop.session.conversation.messages
    assert (user.role, user.text, reply.text) == ("user", "What is it?", host.reply)
    markdown = reply_view(rooftop).markdown
    assert markdown is not None
    assert "The answer is 42." in markdown.blocks[0].toPlainText()  # type: ignore[union-attr]
    assert "42.5 tokens/s" in footer(rooftop)
    assert "first token after 320 ms" in footer(rooftop)
    assert "32 prompt tokens cached" in footer(rooftop)
    assert "42.5 tokens/s" in rooftop.window.top_bar.text
    assert rooftop.chat.composer.draft == ""
    assert mode(rooftop) is ComposerMode.SEND


def test_the_engine_gets_the_whole_conversation(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    for text in ("One?", "Two?"):
        ask(rooftop, qtbot, text)
        qtbot.waitUntil(lambda: not rooftop.session.busy)
    generate = [request for request in host.requests if isinstance(request, Generate)][-1]
    assert [message.role for message in generate.messages] == ["user", "assistant", "user"]
    assert generate.messages[-1].content == "Two?"


def test_escape_stops_at_once_and_drops_late_tokens(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    host.hold_reply, host.reply = True, "one two three four five six seven eight nine ten"
    ask(rooftop, qtbot, "Count")
    qtbot.waitUntil(lambda: rooftop.session.conversation.messages[-1].text != "")
    edit = rooftop.chat.composer.findChild(QPlainTextEdit)
    assert edit is not None
    QTest.keyClick(edit, Qt.Key.Key_Escape)
    reply = rooftop.session.conversation.messages[-1]
    assert reply.state == "stopped"
    assert footer(rooftop).startswith("Stopped")
    assert rooftop.chat.composer.mode is ComposerMode.SEND
    assert rooftop.client.state is EngineState.STOPPING
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    assert "late" not in reply.text
    assert "nine" not in reply.text
    assert "42.5 tokens/s" in footer(rooftop)


def test_a_message_sent_right_after_stop_is_answered(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    host.hold_reply, host.reply = True, "one two three four five six seven eight nine ten"
    ask(rooftop, qtbot, "Count")
    qtbot.waitUntil(lambda: rooftop.session.conversation.messages[-1].text != "")
    rooftop.chat.composer.escape()
    host.hold_reply, host.reply = False, "Fresh."
    ask(rooftop, qtbot, "Again")
    assert isinstance(host.requests[-1], Cancel), "the next request waits for the answer to Cancel"
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert rooftop.session.conversation.messages[-1].text == "Fresh."
    assert rooftop.session.conversation.messages[1].state == "stopped"


def test_a_dead_engine_keeps_the_partial_reply_and_restarts(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    host.hold_reply, host.reply = True, "one two three four five six seven eight nine ten"
    ask(rooftop, qtbot, "Count")
    qtbot.waitUntil(lambda: rooftop.session.conversation.messages[-1].text != "")
    host.die()
    qtbot.waitUntil(lambda: "engine" in rooftop.chat.banners.banners)
    banner = rooftop.chat.banners.banners["engine"]
    assert banner.text.startswith("The engine stopped.")
    reply = rooftop.session.conversation.messages[-1]
    assert reply.state == "failed"
    assert reply.text.startswith("one two")
    assert host.stopped == 1
    host.__init__(reply="Back.")  # type: ignore[misc]
    assert banner.buttons[0].text() == "Restart engine"
    banner.buttons[0].click()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    assert not rooftop.chat.banners.banners
    rooftop.chat.transcript.retry_requested.emit()
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert [message.text for message in rooftop.session.conversation.messages] == ["Count", "Back."]
    assert len(rooftop.chat.transcript.views) == 2


def test_a_message_typed_while_loading_waits_and_is_sent(make_rooftop: Make, qtbot: QtBot, host: FakeHost) -> None:
    host.hold_load = True
    rooftop = make_rooftop()
    qtbot.waitUntil(lambda: "2.0 GiB of 3.0 GiB" in rooftop.chat.loading_bar.text)
    ask(rooftop, qtbot, "Early bird")
    assert rooftop.chat.composer.mode is ComposerMode.QUEUED
    assert "still loading" in rooftop.chat.composer.hint
    assert rooftop.chat.composer.draft == "Early bird"
    host.release()
    qtbot.waitUntil(lambda: len(rooftop.session.conversation.messages) == 2 and not rooftop.session.busy)
    assert rooftop.chat.composer.draft == ""
    assert not rooftop.chat.loading_bar.isVisible()


def test_escape_takes_a_waiting_message_back(make_rooftop: Make, qtbot: QtBot, host: FakeHost) -> None:
    host.hold_load = True
    rooftop = make_rooftop()
    ask(rooftop, qtbot, "Early bird")
    rooftop.chat.composer.escape()
    assert rooftop.chat.composer.mode is ComposerMode.SEND
    assert rooftop.chat.composer.draft == "Early bird"
    host.release()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    assert rooftop.session.conversation.messages == []


def test_loading_can_be_cancelled_and_begun_again(make_rooftop: Make, qtbot: QtBot, host: FakeHost) -> None:
    host.hold_load = True
    rooftop = make_rooftop()
    qtbot.waitUntil(rooftop.chat.loading_bar.isVisible)
    rooftop.chat.loading_bar.cancel_requested.emit()
    assert "Cancelling" in rooftop.chat.loading_bar.text
    qtbot.waitUntil(lambda: "engine" in rooftop.chat.banners.banners)
    assert rooftop.chat.banners.banners["engine"].text == "Loading was cancelled."
    host.hold_load = False
    rooftop.chat.banners.banners["engine"].buttons[0].click()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)


def test_a_failed_load_offers_another_model(make_rooftop: Make, qtbot: QtBot, host: FakeHost) -> None:
    host.load_error = ErrorReport("does-not-fit", "It needs 48 GiB and 31 GiB are free.", "Open a smaller model.")
    rooftop = make_rooftop()
    qtbot.waitUntil(lambda: "engine" in rooftop.chat.banners.banners)
    banner = rooftop.chat.banners.banners["engine"]
    assert "48 GiB" in banner.text
    assert [button.text() for button in banner.buttons] == ["Choose another model…"]
    host.load_error = None
    rooftop.window.model_chosen.emit("/models/other")
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    assert not rooftop.chat.banners.banners


def test_a_model_that_needs_the_disk_offers_it(
    make_rooftop: Make, qtbot: QtBot, host: FakeHost, tmp_path: Path
) -> None:
    remedy = "Choose a smaller model. Or keep the experts on disk (--experts-on-disk), about 0.45 tokens/s."
    host.load_error = ErrorReport("does-not-fit", "It needs 28 GiB of RAM, 12 GiB available.", remedy)
    rooftop = make_rooftop(model="/models/mixtral.Q4_K_M.gguf")
    qtbot.waitUntil(lambda: "engine" in rooftop.chat.banners.banners)
    banner = rooftop.chat.banners.banners["engine"]
    assert "keep the experts on disk (in Settings), about 0.45 tokens/s" in banner.text
    assert [button.text() for button in banner.buttons] == ["Keep experts on disk and load"]
    host.load_error = None
    banner.buttons[0].click()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    loads = [request for request in host.requests if isinstance(request, Load)]
    assert [load.config.experts_on_disk for load in loads] == [False, True]
    assert loads[-1].model == "/models/mixtral.Q4_K_M.gguf"
    assert load_settings(tmp_path / "config" / "settings.json")[0].experts_on_disk
    assert not rooftop.chat.banners.banners


def test_a_gguf_file_is_named_by_its_file_and_then_by_the_engine(
    make_rooftop: Make, qtbot: QtBot, host: FakeHost
) -> None:
    host.hold_load, host.shape = True, "gguf"
    rooftop = make_rooftop(model="/models/mixtral-8x7b.Q4_K_M-00001-of-00002.gguf")
    assert rooftop.window.top_bar.text == "mixtral-8x7b.Q4_K_M"
    host.release()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    assert rooftop.window.top_bar.text.startswith("Mixtral 8x7B Instruct v0.1")


def test_portable_kernels_are_told_once_per_start(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    assert "kernels" not in rooftop.chat.banners.banners
    host.kernels = "torch"
    with qtbot.waitSignal(rooftop.client.ready):
        rooftop.open_model("/models/a.gguf")
    assert "portable kernels, which are slower" in rooftop.chat.banners.banners["kernels"].text
    rooftop.chat.banners.dismiss("kernels")
    with qtbot.waitSignal(rooftop.client.ready):
        rooftop.open_model("/models/b.gguf")
    assert "kernels" not in rooftop.chat.banners.banners


def test_an_opened_model_is_remembered(rooftop: Application, qtbot: QtBot, host: FakeHost, tmp_path: Path) -> None:
    rooftop.open_model("/models/mixtral")
    loads = [request for request in host.requests if isinstance(request, Load)]
    assert loads[-1].model == "/models/mixtral"
    assert load_settings(tmp_path / "config" / "settings.json")[0].model == "/models/mixtral"


def test_settings_reach_the_engine(rooftop: Application, host: FakeHost) -> None:
    rooftop.apply_settings(Settings(context_tokens=2048, theme="dark"))
    assert isinstance(host.requests[-1], Reconfigure)
    assert host.requests[-1].config.context_tokens == 2048
    assert rooftop.themes.theme.name == "dark"


def test_experts_on_disk_need_a_new_load(rooftop: Application, host: FakeHost, qtbot: QtBot) -> None:
    rooftop.apply_settings(Settings(experts_on_disk=True))
    assert isinstance(host.requests[-1], Load)
    assert host.requests[-1].config.experts_on_disk
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    rooftop.apply_settings(Settings(experts_on_disk=True, context_tokens=2048))
    assert isinstance(host.requests[-1], Reconfigure)


def test_a_simulated_gpu_needs_a_new_load(rooftop: Application, host: FakeHost, qtbot: QtBot) -> None:
    assert rooftop.window.panel is not None
    rooftop.window.panel.simulate_requested.emit()  # type: ignore[attr-defined]
    loads = [request for request in host.requests if isinstance(request, Load)]
    assert loads[-1].config.device == "simulated"
    plan = make_plan(make_ready("guide", "cpu").planning, loads[-1].config)
    assert plan.fits
    assert 0 < plan.resident_experts < 48, "some experts on each side, so that there is something to see"
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    assert "Simulated GPU" in rooftop.window.top_bar.text


def test_the_command_line_wins_but_is_not_saved(make_rooftop: Make, host: FakeHost, tmp_path: Path) -> None:
    rooftop = make_rooftop(simulate_gpu_bytes=1 << 30, experts_on_disk=True)
    load = next(request for request in host.requests if isinstance(request, Load))
    assert load.config.simulated_vram_bytes == 1 << 30
    assert load.config.experts_on_disk
    rooftop.shutdown()
    saved = load_settings(tmp_path / "config" / "settings.json")[0]
    assert (saved.simulate_gpu_bytes, saved.experts_on_disk) == (None, False)


def test_damaged_settings_give_one_notice(make_rooftop: Make, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(b"\0" * 512)
    rooftop = make_rooftop(settings_path=path)
    assert "defaults are in use" in rooftop.chat.banners.banners["settings-file"].text


def test_unwritable_settings_give_a_notice(make_rooftop: Make, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    rooftop = make_rooftop(settings_path=blocked / "settings.json")
    rooftop.open_model("/models/x")
    banner = rooftop.chat.banners.banners["settings-file"]
    assert "could not be saved" in banner.text
    assert banner.buttons[0].text() == "Try again"


def test_closing_while_busy_ends_the_engine(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    host.hold_reply = True
    ask(rooftop, qtbot, "Count")
    rooftop.window.close()
    assert not rooftop.window.isVisible()
    assert any(isinstance(request, Shutdown) for request in host.requests)
    assert host.stopped == 1
    assert rooftop.client.state is EngineState.STOPPED
    assert rooftop.client.poll_interval_ms == 0


def test_closing_while_loading_ends_the_engine(make_rooftop: Make, host: FakeHost) -> None:
    host.hold_load = True
    make_rooftop().window.close()
    assert host.stopped == 1


def test_the_window_is_restored(make_rooftop: Make, tmp_path: Path) -> None:
    first = make_rooftop()
    first.window.show_panel(visible=False)
    first.themes.set_zoom(1.2)
    panel = first.window.panel
    assert isinstance(panel, EnginePanel)
    panel.fold("memory,past")
    first.window.close()
    settings, notice = load_settings(tmp_path / "config" / "settings.json")
    assert notice == ""
    assert (settings.panel_visible, settings.zoom) == (False, 1.2)
    assert settings.window_geometry != ""
    assert settings.panel_folded == "memory,past"
    again = make_rooftop().window.panel
    assert isinstance(again, EnginePanel)
    assert again.folded == "memory,past"


def test_the_panel_hears_every_token_and_is_saved_from_the_file_menu(
    rooftop: Application, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(rooftop, qtbot, "Hello")
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    panel = rooftop.window.panel
    assert isinstance(panel, EnginePanel)
    assert len(panel.state.history) == 2
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "panel"), ""))
    actions = {action.text().replace("&", ""): action for action in rooftop.window.findChildren(QAction)}
    for name, begin in (("Save live panel as picture…", b"\x89PNG"), ("Save live panel's values…", b"{")):
        actions[name].trigger()
        assert (tmp_path / "panel").read_bytes().startswith(begin)
        assert rooftop.chat.banners.banners["panel"].text == f"Saved as {tmp_path / 'panel'}"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "missing" / "panel"), ""))
    actions["Save live panel as picture…"].trigger()
    assert "could not be saved" in rooftop.chat.banners.banners["panel"].text


def test_new_chat_clears_and_keeps_the_model(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    ask(rooftop, qtbot, "Hello")
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    rooftop.window.new_chat_requested.emit()
    assert rooftop.session.conversation.messages == []
    assert rooftop.chat.transcript.views == []
    assert rooftop.chat.transcript.empty_state.isVisible()
    assert sum(isinstance(request, Load) for request in host.requests) == 1


def test_an_example_question_is_asked(rooftop: Application, qtbot: QtBot) -> None:
    rooftop.chat.transcript.empty_state.buttons[0].click()
    qtbot.waitUntil(lambda: len(rooftop.session.conversation.messages) == 2 and not rooftop.session.busy)
    assert rooftop.session.conversation.messages[0].text == "What is an expert?"


def test_the_settings_dialog_opens(rooftop: Application) -> None:
    rooftop.dialogs.open_settings()
    dialog = rooftop.window.findChild(SettingsDialog)
    assert dialog is not None
    assert dialog.isVisible()
    dialog.close()


def test_themes_and_zoom_change_live(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    host.reply = "Text and\n\n```python\nx = 1\n```\n"
    ask(rooftop, qtbot, "Hello")
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    view = reply_view(rooftop)
    before = view.height()
    rooftop.themes.set_mode("dark")
    rooftop.themes.set_zoom(1.6)
    qtbot.waitUntil(lambda: view.height() > before)


def test_no_torch_in_the_windows_process() -> None:
    import subprocess
    import sys

    code = "import sys, app.application; print([m for m in ('torch', 'transformers', 'pyqtgraph') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_measuring_again_reaches_the_engine_and_its_answer_the_dialog(
    rooftop: Application, host: FakeHost, qtbot: QtBot
) -> None:
    rooftop.dialogs.open_settings()
    dialog = rooftop.window.findChild(SettingsDialog)
    assert dialog is not None
    dialog.model.measure.click()
    assert any(isinstance(request, Recalibrate) for request in host.requests)
    qtbot.waitUntil(lambda: "up to date" in dialog.status.text())
    dialog.reject()


def test_what_other_programs_took_is_said_once_in_a_banner(rooftop: Application, host: FakeHost, qtbot: QtBot) -> None:
    for because in ("Another program took 3.1 GiB of VRAM: 21 experts moved to RAM.", "3.1 GiB of VRAM became free."):
        host.tell(because)
        qtbot.waitUntil(lambda: "memory" in rooftop.chat.banners.banners)
        assert rooftop.chat.banners.banners["memory"].text == because
        rooftop.chat.banners.dismiss("memory")


def test_settings_that_the_engine_refuses_are_not_kept(rooftop: Application, host: FakeHost, qtbot: QtBot) -> None:
    host.settings_error = ErrorReport("does-not-fit", "Needs 40 MiB, 35 MiB available.", "Raise the budget.")
    rooftop.dialogs.open_settings()
    dialog = rooftop.window.findChild(SettingsDialog)
    assert dialog is not None
    dialog.model.context.setValue(1024)
    dialog.button("Apply").click()
    qtbot.waitUntil(lambda: "Not applied. Needs 40 MiB" in dialog.status.text())
    assert rooftop.settings.context_tokens == Settings().context_tokens
    assert dialog.button("Apply").isEnabled()
    dialog.reject()


def test_settings_that_cannot_be_kept_are_said_at_the_start(make_rooftop: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    rooftop = make_rooftop(settings_path=tmp_path / "file" / "settings.json")
    words = rooftop.chat.banners.banners["settings-file"].text
    assert words.startswith(f"Settings and presets cannot be kept in {tmp_path / 'file'} (File exists); ")


def test_what_is_no_model_does_not_cost_the_one_that_is_loaded(
    rooftop: Application, host: FakeHost, tmp_path: Path
) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("Dear Ann")
    (tmp_path / "broken.gguf").write_bytes(b"<html>")
    loads = len([request for request in host.requests if isinstance(request, Load)])
    for name in ("letters", "broken.gguf"):
        rooftop.window.model_chosen.emit(str(tmp_path / name))
        assert f"“{name}” is not a model" in rooftop.chat.banners.banners["no-model"].text
        rooftop.chat.banners.dismiss("no-model")
        rooftop.asked_again(str(tmp_path / name))
        assert f"“{name}” is not a model" in rooftop.chat.banners.banners["no-model"].text
    assert len([request for request in host.requests if isinstance(request, Load)]) == loads
    assert rooftop.client.state is EngineState.READY
    (tmp_path / "letters" / "config.json").write_text("{}")
    rooftop.window.model_chosen.emit(str(tmp_path / "letters"))
    assert "no-model" not in rooftop.chat.banners.banners
    assert [request for request in host.requests if isinstance(request, Load)][-1].model == str(tmp_path / "letters")
