"""The translation function and the choice of the language."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication, QTranslator
from PySide6.QtWidgets import QApplication, QDialog, QDialogButtonBox, QMenu
from pytestqt.qtbot import QtBot

import app
from app.application import Application
from app.engine_client import EngineState
from app.language import error_text, language_for, tr, translated
from app.units import bytes_text, number_text
from app.widgets.about_dialog import AboutDialog
from engine.errors import ConfigurationError, DoesNotFitError, PromptTooLongError
from engine.experts.explain import explain_layer, human_seconds, make_way_words
from engine.experts.limits import limit_now
from engine.experts.placement import check_fits, make_plan
from engine.messages import ErrorReport, Failed
from engine.sentences import Number, join, say, say_count
from tests.app.fake_host import GIB, FakeHost
from tests.app.snapshots import Shape, Step, make_ready, make_snapshot
from tests.app.spoken import english_among, said_in
from tests.words import unmarked_in


def test_a_text_without_translation_is_itself() -> None:
    assert tr("Keep {name}") == "Keep {name}"


def test_the_count_takes_its_place_and_chooses_the_form() -> None:
    assert tr("%n chats", 3) == "3 chats"
    assert (tr("%n bytes", 1), tr("%n bytes", 2)) == ("1 byte", "2 bytes")


def test_german_is_spoken_throughout(german: str, qtbot: QtBot) -> None:
    assert german == "de"
    assert tr("Settings") == "Einstellungen"
    assert tr("VRAM ran out %n times: fewer experts live there than planned.", 1).startswith("Der Grafikspeicher")
    box = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
    qtbot.addWidget(box)
    assert box.buttons()[0].text().replace("&", "") == "Abbrechen", "Qt's own words"
    assert number_text(1234.5, 1) == "1.234,5"
    assert bytes_text(int(5.2 * 2**30)) == "5,2 GiB"


def finish_reply(rooftop: Application, qtbot: QtBot) -> None:
    rooftop.session.submit("Hallo")
    qtbot.waitUntil(lambda: not rooftop.session.busy)


def said_by_dialogs(rooftop: Application) -> set[str]:
    """What the dialogs say, one after the other."""
    said = set()
    rooftop.window.about_requested.emit()
    about = rooftop.window.findChild(AboutDialog)
    assert about is not None
    about.open_licences()
    rooftop.dialogs.open_settings()
    rooftop.dialogs.open_chat_options()
    for dialog in rooftop.window.findChildren(QDialog):
        said |= said_in(dialog)
        dialog.close()
    (entry,) = rooftop.chats.entries
    said |= said_in(rooftop.window.sidebar.menu_for(entry))
    return said


@pytest.mark.parametrize("simulated", [False, True])
def test_no_text_is_left_in_english(
    simulated: bool, german: str, host: FakeHost, make_rooftop: Callable[..., Application], qtbot: QtBot
) -> None:
    """Neither one that was translated once, when its module was imported, nor one that the engine said."""
    host.simulated = simulated
    rooftop = make_rooftop()
    said = said_in(rooftop.window)
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    said |= said_in(rooftop.window)
    finish_reply(rooftop, qtbot)
    qtbot.waitUntil(
        lambda: any("gemessen." in text and "Schicht 0, 1 Token" in text for text in said_in(rooftop.window))
    )
    said |= said_in(rooftop.window)
    host.tell(make_way_words(GIB, -3))
    host.next_reply = [
        Failed(ErrorReport.of(ConfigurationError(say("The prompt is empty."), say("Give one of them."))))
    ]
    finish_reply(rooftop, qtbot)
    qtbot.waitUntil(lambda: "3 Experten sind in den RAM umgezogen." in str(said_in(rooftop.window)))
    said |= said_in(rooftop.window) | said_by_dialogs(rooftop)
    assert any("Die Eingabe ist leer." in text for text in said)
    error = rooftop.session.conversation.messages[-1].error
    assert error is not None
    assert (error.message, error.remedy) == ("Die Eingabe ist leer.", "Geben Sie eines von beiden an."), "as it is kept"
    assert len(said) > 400
    assert english_among(said) == {}


def test_what_cannot_be_loaded_is_said_in_german(
    german: str, host: FakeHost, make_rooftop: Callable[..., Application], qtbot: QtBot
) -> None:
    ready = make_ready("mixtral", "cpu")
    small = replace(ready.planning.hardware, ram_total_bytes=16 * GIB, ram_available_bytes=8 * GIB)
    plan = make_plan(replace(ready.planning, hardware=small), ready.effective)
    with pytest.raises(DoesNotFitError) as refused:
        check_fits(plan)
    report = ErrorReport.of(refused.value)
    host.load_error = pickle.loads(pickle.dumps(report))  # noqa: S301 - as it comes through the pipe
    rooftop = make_rooftop()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.FAILED)
    said = said_in(rooftop.window)
    assert any("Das Modell braucht" in text and "8 GiB RAM" not in text for text in said)
    assert english_among(said) == {}


@pytest.mark.parametrize("shape", ["guide", "mixtral"])
def test_reasons_are_german_with_german_numbers(shape: Shape, german: str) -> None:
    for device in ("cuda", "simulated", "cpu"):
        ready = make_ready(shape, device)
        snapshot = make_snapshot(ready, Step(3))
        has_gpu = device != "cpu"
        said = {translated(reason) for reason in ready.plan.reasons}
        said |= {translated(explain_layer(trace, has_gpu=has_gpu)) for trace in snapshot.layers}
        limit = limit_now(ready.planning, ready.plan, snapshot.layers, 0.2)
        said |= {translated(limit.sentence), translated(limit.advice)}
        assert english_among(said) == {}
        assert not re.search(r"\d\.\d(?!\d\d)", " ".join(said)), "a decimal point"


def test_english_is_found() -> None:
    found = english_among({"Expert 3 on GPU: its weights live there (1 token, 2 ms).", "Einstellungen", "Alle Chats"})
    assert list(found) == ["Expert 3 on GPU: its weights live there (1 token, 2 ms)."]


def test_what_the_engine_says_is_translated_with_its_parts(german: str) -> None:
    tokens = say_count("1 token", "%n tokens", 12345)
    sentence = say("Layer {layer}, {tokens}: {places}.", layer=7, tokens=tokens, places=say("no experts"))
    assert translated(sentence) == "Schicht 7, 12345 Token: keine Experten."
    assert sentence == "Layer 7, 12345 tokens: no experts."
    assert translated(human_seconds(0.0011)) == "1,1 ms"
    assert translated(say("{number} tokens/s", number=Number("1,234.5"))) == "1.234,5 Token/s"
    assert translated(join([say("There is no GPU."), "a{b}.gguf"])) == "Es gibt keine GPU. a{b}.gguf"
    assert translated(say("{text} is not a size.", text=1 << 70)) == "1.180.591.620.717.411.303.424 ist keine Größe."
    assert translated("no sentence") == "no sentence"
    assert translated(say("")) == ""


def test_an_error_is_told_with_its_remedy(german: str) -> None:
    error = PromptTooLongError(say("The prompt is empty."), say("Write a message first."))
    assert error_text(error) == "Die Eingabe ist leer. Schreiben Sie zuerst eine Nachricht."
    assert str(error) == "The prompt is empty. Write a message first."


# Keys of `memory_content` and `NoPreview`, names, a style sheet, and what the guide is asked and a preset says.
NO_SENTENCES = {
    "KV cache", "Other programs", "Experts on disk", "no GPU", "no model", "after a reload", "Rooftop guide",
    "CPU", "GPU", "download",
    "QAbstractSpinBox::up-button, QAbstractSpinBox::down-button { width: 0; border: none; }QLineEdit { border: none; "
    "padding: 0; background: transparent; }",
    "What is an expert?", "What does the map show?", "How do I get Mixtral?", "Why is an expert on the CPU?",
    "You are a careful programmer. Answer with complete, working code and a short explanation. "
    "Say so where you are not sure",
}  # fmt: skip
# Words for the terminal; SQL; HTML; reports for those who mend Rooftop.
NOT_FOR_THE_WINDOW = (
    "bench", "terminal.py", "__main__.py", "display.py", "stylesheet.py", "history", "markdown.py", "math_markdown.py",
    "widgets/prose_code.py", "widgets/scrubber.py", "widgets/table_block.py", "crash_records.py", "diagnostics.py",
)  # fmt: skip


def test_no_words_bypass_the_marker() -> None:
    root = Path(app.__file__).parent
    found = unmarked_in(root, NOT_FOR_THE_WINDOW, NO_SENTENCES)
    assert found == [], "tr() makes a text of the window that can be translated"


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_two_entries_of_a_menu_have_the_same_mnemonic(
    language: str, request: pytest.FixtureRequest, make_rooftop: Callable[..., Application]
) -> None:
    if language == "de":
        request.getfixturevalue("german")
    menu_bar = make_rooftop().window.menuBar()
    for menu in [menu_bar, *(menu for menu in menu_bar.findChildren(QMenu))]:
        keys = [re.findall("&([^&])", action.text().lower()) for action in menu.actions() if action.text()]
        assert all(len(key) == 1 for key in keys), "each entry has one"
        flat = [key[0] for key in keys]
        assert len(flat) == len(set(flat)), flat


@pytest.mark.parametrize(
    ("choice", "preferred", "language"),
    [
        ("system", ["de-AT", "en"], "de"), ("system", ["fr-FR", "de"], "de"), ("system", ["fr"], "en"),
        ("system", ["C"], "en"), ("system", [], "en"), ("system", ["DE_de"], "de"), ("en", ["de"], "en"),
        ("de", ["en"], "de"),
    ],
)  # fmt: skip
def test_the_system_language_is_taken_if_it_is_ours(choice: str, preferred: list[str], language: str) -> None:
    assert language_for(choice, preferred) == language  # type: ignore[arg-type]


def test_without_qt_every_text_is_english() -> None:
    code = "import sys; from app.language import tr; print(tr('%n chats', 3), 'PySide6' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "3 chats False"


def test_the_application_owns_the_translators(qapp: QApplication) -> None:
    assert isinstance(QCoreApplication.instance(), QApplication)
    assert qapp.findChildren(QTranslator)
