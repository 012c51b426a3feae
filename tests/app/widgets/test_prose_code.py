"""Code in lists: the same colours as anywhere, and never more of them at once than the window has time for."""

from __future__ import annotations

import threading
from html import escape

import pytest
from PySide6.QtGui import QTextBlock
from pytestqt.qtbot import QtBot

from app.highlight import CODE_COLOURS, LineSpans, highlight_lines, load_lexer
from app.markdown import split_blocks
from app.theme import ThemeManager
from app.widgets import lexers, prose_code
from app.widgets.prose_code import SLICE_CHARS, with_colours
from app.widgets.text_block import TextBlock

LINE = 'value = compute("text", 42)  # a note & more\n'


def in_a_list(code: str) -> str:
    indented = "".join(f"  {line}\n" for line in code.split("\n"))
    (block,) = split_blocks(f"- item\n\n  ```python\n{indented}  ```\n")
    return block.html


@pytest.fixture
def block(qtbot: QtBot, themes: ThemeManager) -> TextBlock:
    block = TextBlock()
    qtbot.addWidget(block)
    block.resize(500, 100)
    return block


def coloured_rows(block: TextBlock) -> list[int]:
    """The rows of the document with a word in the colour of strings."""
    rows, line = [], block.document().firstBlock()
    while line.isValid():
        if CODE_COLOURS["light"]["string"] in colours_of(line):
            rows.append(line.blockNumber())
        line = line.next()
    return rows


def colours_of(line: QTextBlock) -> set[str]:
    return {part.format.foreground().color().name() for part in line.textFormats()}


def settle(block: TextBlock, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not block._uncoloured)


def test_long_code_gets_the_colours_of_the_reference_in_slices(
    block: TextBlock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices: list[int] = []
    advance = LineSpans.advance

    def counted(self: LineSpans, chars: int) -> bool:
        slices.append(chars)
        return advance(self, chars)

    monkeypatch.setattr(LineSpans, "advance", counted)
    code = (LINE * 400).removesuffix("\n")
    block.show_html(in_a_list(code))
    assert coloured_rows(block) == [], "nothing is read before the text is shown"
    assert "a note & more" in block.toPlainText()
    settle(block, qtbot)
    assert len(coloured_rows(block)) == 400
    assert set(slices) == {SLICE_CHARS}
    html, lacking = with_colours(in_a_list(code))
    assert not lacking
    for line, spans in zip(code.split("\n"), highlight_lines(code, "python"), strict=True):
        for span in spans:
            assert f'<span class="{span.kind}">{escape(line[span.start : span.start + span.length])}</span>' in html


def test_lexers_are_loaded_elsewhere(block: TextBlock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def watched(language: str) -> None:
        threads.append(threading.current_thread())
        load_lexer(language)

    monkeypatch.setattr(lexers, "load_lexer", watched)
    block.show_html(in_a_list("SELECT 1").replace("python", "mysql"))
    settle(block, qtbot)
    assert threads
    assert threading.main_thread() not in threads


def test_growing_code_keeps_its_colours_and_asks_once_at_a_time(
    block: TextBlock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    block.show_html(in_a_list(LINE * 200))
    settle(block, qtbot)
    asked: list[int] = []
    code = prose_code.prose_code()
    ask = code.ask

    def counted(key: prose_code.Key) -> None:
        asked.append(len(key[1]))
        ask(key)

    monkeypatch.setattr(code, "ask", counted)
    for lines in range(201, 221):
        block.show_html(in_a_list(LINE * lines))
        assert len(coloured_rows(block)) >= 199, "no flicker"
    assert len(asked) == 1
    settle(block, qtbot)
    assert len(coloured_rows(block)) == 220, "what came last has its colours too"


def test_unknown_languages_and_code_without_one_are_plain(block: TextBlock, qtbot: QtBot) -> None:
    block.show_html(in_a_list("<x> & 'y'").replace("python", "klingon"))
    settle(block, qtbot)
    assert "<x> & 'y'" in block.toPlainText()
    assert coloured_rows(block) == []


def test_what_is_selected_stays_selected(block: TextBlock, qtbot: QtBot) -> None:
    block.show_html(in_a_list(LINE * 300))
    block.selectAll()
    settle(block, qtbot)
    assert block.textCursor().hasSelection()


def test_lines_of_code_in_a_list_touch(block: TextBlock, qtbot: QtBot) -> None:
    block.show_html(in_a_list("a = 1\nb = 2\nc = 3"))
    block.show()
    line = block.document().find("a = 1").block()
    layout = block.document().documentLayout()
    for _ in range(2):
        below = line.next()
        first, second = layout.blockBoundingRect(line), layout.blockBoundingRect(below)
        text_height = line.layout().lineAt(0).height()
        assert second.top() - first.top() <= text_height + 0.5, "no stripe of the ground between them"
        line = below
