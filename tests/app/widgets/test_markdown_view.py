import time

import pytest
from pytestqt.qtbot import QtBot

from app.theme import ThemeManager
from app.widgets.code_block import CodeBlock
from app.widgets.markdown_view import MarkdownView
from app.widgets.text_block import TextBlock

SOURCE = "# Title\n\nOne *two*.\n\n```python\nx = 1\n```\n\n- a\n- b\n\n| t |\n|---|\n| 1 |\n\nEnd.\n"


def make(qtbot: QtBot) -> MarkdownView:
    view = MarkdownView()
    qtbot.addWidget(view)
    view.resize(500, 100)
    view.show()
    return view


def contents(view: MarkdownView) -> list[str]:
    return [block.code if isinstance(block, CodeBlock) else block.toPlainText() for block in view.blocks]


def test_streaming_ends_like_showing_at_once(qtbot: QtBot, themes: ThemeManager) -> None:
    streamed, whole = make(qtbot), make(qtbot)
    for character in SOURCE:
        streamed.append(character)
    streamed.finish()
    whole.show_source(SOURCE)
    assert contents(streamed) == contents(whole)
    assert streamed.source == SOURCE
    assert "x = 1" in contents(whole)


def test_finished_blocks_are_not_touched(qtbot: QtBot, themes: ThemeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    view = make(qtbot)
    view.append("First.\n\nSecond.\n\nThird")
    qtbot.waitUntil(lambda: len(view.blocks) == 3)
    first = view.blocks[0]
    assert isinstance(first, TextBlock)
    calls: list[str] = []
    monkeypatch.setattr(first, "show_html", calls.append)
    view.append(" more.\n\nFourth")
    qtbot.waitUntil(lambda: len(view.blocks) == 4)
    assert calls == []
    assert contents(view) == ["First.", "Second.", "Third more.", "Fourth"]


def test_a_block_can_change_its_kind_while_it_is_live(qtbot: QtBot, themes: ThemeManager) -> None:
    view = make(qtbot)
    kinds = []
    for piece in ("``", "`c\nint x;", "\n```"):
        view.append(piece)
        qtbot.waitUntil(lambda: not view._late.isActive())
        kinds.append([type(block) for block in view.blocks])
    assert kinds == [[TextBlock], [CodeBlock], [CodeBlock]]
    assert contents(view) == ["int x;"]


def test_a_link_defined_later_works_in_the_end(qtbot: QtBot, themes: ThemeManager) -> None:
    view = make(qtbot)
    view.append("See [it][1].\n\nMore.\n\n[1]: https://example.com\n")
    view.finish()
    assert "https://example.com" in view.blocks[0].toHtml()  # type: ignore[union-attr]


def test_carriage_returns_do_not_shift_the_blocks(qtbot: QtBot, themes: ThemeManager) -> None:
    view = make(qtbot)
    view.append("One.\r\n\r\nTwo.\r\n")
    view.finish()
    assert contents(view) == ["One.\nTwo."]
    view.show_source("A\rB")
    assert contents(view) == ["A\nB"]


def test_one_huge_table_makes_rendering_wait(qtbot: QtBot, themes: ThemeManager) -> None:
    view = make(qtbot)
    view.append("| a | b |\n|---|---|\n")
    renders: list[float] = []
    render = view._render_tail

    def counted() -> None:
        renders.append(time.monotonic())
        render()

    view._render_tail = counted  # type: ignore[method-assign]
    view._last_cost_s = 60.0
    view._last_render_s = time.monotonic()
    for row in range(50):
        view.append(f"| {row} | x |\n")
    assert renders == []


def test_a_long_reply_stays_cheap(qtbot: QtBot, themes: ThemeManager) -> None:
    view = make(qtbot)
    paragraph = "Some *words* with `code` and more of them, again and again. " * 3 + "\n\n"
    for _ in range(100):
        view.append(paragraph)
    started = time.thread_time()
    for _ in range(20):
        view.append(paragraph)
    assert (time.thread_time() - started) / 20 < 0.033
