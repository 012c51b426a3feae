import threading
from typing import ClassVar

import pytest
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLabel, QPlainTextEdit, QPushButton
from pytestqt.qtbot import QtBot

from app.highlight import LineSpans, highlight_lines, load_lexer
from app.theme import ThemeManager
from app.widgets import code_block, lexers
from app.widgets.code_block import SLICE_CHARS, CodeBlock

CODE = 'def f():\n    return "\N{PARTY POPPER}", 1  # done'


def make(qtbot: QtBot, code: str = CODE, language: str = "python") -> CodeBlock:
    block = CodeBlock()
    qtbot.addWidget(block)
    block.resize(400, 100)
    block.show_code(code, language)
    block.show()
    qtbot.waitUntil(lambda: block.markable.settled)
    return block


def colours(block: CodeBlock) -> list[tuple[int, int, str]]:
    edit = block.findChild(QPlainTextEdit)
    assert edit is not None
    found = []
    line = edit.document().firstBlock()
    while line.isValid():
        found += [(r.start, r.length, r.format.foreground().color().name()) for r in line.layout().formats()]
        line = line.next()
    return found


def test_code_is_shown_with_its_language(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot)
    assert block.code == CODE
    assert block.findChild(QLabel).text() == "python"  # type: ignore[union-attr]
    assert len({colour for _, _, colour in colours(block)}) >= 4


def test_spans_count_utf16_units(qtbot: QtBot, themes: ThemeManager) -> None:
    number = [(start, length) for start, length, _ in colours(make(qtbot)) if length == 1 and start > 10]
    assert number == [(17, 1)], "the emoji before it takes two units"


def test_growing_code_keeps_what_is_there(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot, "x = 1")
    height = block.sizeHint().height()
    block.show_code("x = 1\ny = 2", "python")
    assert block.code == "x = 1\ny = 2"
    assert block.sizeHint().height() > height
    block.show_code("other", "")
    assert block.code == "other"


def test_every_line_fits(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot, "\n".join(["short", "a very long line " * 20, "end"]))
    edit = block.findChild(QPlainTextEdit)
    assert edit is not None
    qtbot.waitUntil(lambda: edit.horizontalScrollBar().maximum() > 0)
    assert edit.verticalScrollBar().maximum() == 0


def test_copy(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot)
    button = block.findChild(QPushButton)
    assert button is not None
    button.click()
    assert QGuiApplication.clipboard().text() == CODE
    assert button.text() == "Copied"


def test_another_theme_recolours(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot)
    before = {colour for _, _, colour in colours(block)}
    themes.set_mode("dark")
    block.restyle()
    qtbot.waitUntil(lambda: block.markable.settled)
    assert before.isdisjoint({colour for _, _, colour in colours(block)})


class Counted(LineSpans):
    """Notes how many characters each turn reads."""

    read: ClassVar[list[int]] = []
    lengths: ClassVar[list[int]] = []

    def __init__(self, code: str, language: str) -> None:
        super().__init__(code, language)
        self.lengths.append(len(code))
        self._chars = [len(line) + 1 for line in code.split("\n")]

    def advance(self, chars: int) -> bool:
        before = self.rows
        more = super().advance(chars)
        self.read.append(sum(self._chars[before : self.rows]))
        return more


def test_a_lexer_is_loaded_beside_the_window(
    qtbot: QtBot, themes: ThemeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def load(language: str) -> None:
        threads.append(threading.get_ident())
        load_lexer(language)

    monkeypatch.setattr(lexers, "load_lexer", load)
    loader = lexers.LexerLoader()
    monkeypatch.setattr(code_block, "lexer_loader", lambda: loader)
    block = CodeBlock()
    qtbot.addWidget(block)
    block.show_code("x = 1", "python")
    assert (block.markable.settled, colours(block)) == (False, []), "the window does not wait"
    block.show_code(CODE, "python")
    qtbot.waitUntil(lambda: block.markable.settled)
    assert len({colour for _, _, colour in colours(block)}) >= 4
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.fixture
def counted(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr(code_block, "LineSpans", Counted)
    qtbot.waitUntil(lambda: lexers.lexer_loader().has("python"))
    Counted.read.clear()
    Counted.lengths.clear()
    return Counted


def test_growing_code_is_coloured_from_its_tail_alone(
    qtbot: QtBot, themes: ThemeManager, counted: type[Counted]
) -> None:
    block, code = CodeBlock(), ""
    qtbot.addWidget(block)
    for number in range(600):
        code += f"def function_{number}():\n    return {number}\n"
        block.show_code(code, "python")
    assert max(counted.lengths) < 5000 < len(code)
    live = [list(line) for line in block.markable._highlighter._spans]
    block.show_code(code, "python")
    assert counted.lengths[-1] == len(code)
    qtbot.waitUntil(lambda: block.markable.settled)
    assert block.markable._highlighter._spans == live == highlight_lines(code, "python")


def test_code_that_looks_like_one_statement_is_not_read_from_its_start_each_time(
    qtbot: QtBot, themes: ThemeManager, counted: type[Counted]
) -> None:
    block, code = CodeBlock(), "class Long:\n"
    qtbot.addWidget(block)
    for number in range(600):
        code += f"    value_{number} = {number}\n"
        block.show_code(code, "python")
    assert max(counted.lengths) < 5000 < len(code)


@pytest.mark.parametrize("pieces", [1, 3])
def test_much_code_at_once_is_coloured_in_slices(
    qtbot: QtBot, themes: ThemeManager, counted: type[Counted], pieces: int
) -> None:
    code = "".join(f"value_{number} = compute({number})  # {number}\n" for number in range(3000))
    block = CodeBlock()
    qtbot.addWidget(block)
    for piece in range(1, pieces + 1):
        turns = len(counted.read)
        block.show_code(code[: len(code) * piece // pieces], "python")
        assert len(counted.read) <= turns + 1, "more than one slice in a turn"
    qtbot.waitUntil(lambda: block.markable.settled)
    assert max(counted.read) <= SLICE_CHARS + 100
    whole = LineSpans(code, "python")
    whole.advance(len(code) + 1)
    assert block.markable._highlighter._spans == whole.lines
    assert len(colours(block)) == sum(map(len, whole.lines))
