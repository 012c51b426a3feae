import pytest
from PySide6.QtGui import QImage, QTextCursor, QTextTable
from pytestqt.qtbot import QtBot

from app.long_tables import PIECE_ROWS
from app.markdown import split_blocks
from app.text_search import Needle
from app.theme import ThemeManager
from app.widgets.markdown_view import MarkdownView
from app.widgets.table_block import TableBlock, column_widths
from app.widgets.text_block import TextBlock

HEAD = "| n | words | bold | code |\n|---|---:|---|:-:|\n"
ROWS = PIECE_ROWS + 5


def source(words: int = 1, count: int = ROWS) -> str:
    return HEAD + "".join(f"| {n} | {'some words ' * (1 + n % 7 * words)} | **{n}** | `x` |\n" for n in range(count))


def whole(qtbot: QtBot, text: str, width: int = 600) -> TextBlock:
    """The same as one table of Qt's: two short ones have the HTML of a long one."""
    first = split_blocks("\n".join(text.split("\n")[: PIECE_ROWS + 2]))[0].html
    head, *rows = split_blocks(text)[0].rows
    opening = first[: first.index(">") + 1]
    block = TextBlock()
    qtbot.addWidget(block)
    block.resize(width, 100)
    block.show()
    block.show_html(f"{opening}<thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>")
    return block


def long(qtbot: QtBot, text: str, width: int = 600) -> TableBlock:
    block = TableBlock()
    qtbot.addWidget(block)
    block.resize(width, 100)
    block.show()
    block.show_rows(split_blocks(text)[0].rows)
    qtbot.waitUntil(lambda: block.settled)
    return block


def picture(block: TextBlock) -> QImage:
    return block.grab().toImage()


@pytest.mark.parametrize("words", [1, 3])
def test_it_looks_like_one_table(qtbot: QtBot, themes: ThemeManager, words: int) -> None:
    one, rows = whole(qtbot, source(words)), long(qtbot, source(words))
    assert rows.height() == one.height()
    assert picture(rows) == picture(one)


def test_it_follows_the_width_and_the_theme(qtbot: QtBot, themes: ThemeManager) -> None:
    rows = long(qtbot, source(3))
    rows.resize(420, rows.height())
    qtbot.waitUntil(lambda: rows.settled)
    assert picture(rows) == picture(whole(qtbot, source(3), 420))
    themes.set_mode("dark")
    rows.restyle()
    qtbot.waitUntil(lambda: rows.settled)
    assert picture(rows) == picture(whole(qtbot, source(3), 420))


def test_growing_ends_like_showing_at_once_and_leaves_earlier_rows(qtbot: QtBot, themes: ThemeManager) -> None:
    view = MarkdownView()
    qtbot.addWidget(view)
    view.resize(600, 100)
    view.show()
    text = source(1, 2 * PIECE_ROWS)
    view.append("\n".join(text.split("\n")[:-PIECE_ROWS]) + "\n| 4")
    block = view.blocks[0]
    assert isinstance(block, TableBlock)
    before = block.document().rootFrame().childFrames()[:PIECE_ROWS]
    view.show_source(text)
    qtbot.waitUntil(lambda: block.settled)
    assert view.blocks == [block]
    assert block.document().rootFrame().childFrames()[:PIECE_ROWS] == before
    assert picture(block) == picture(long(qtbot, text))


def test_what_is_copied_is_one_table(qtbot: QtBot, themes: ThemeManager) -> None:
    one, rows = whole(qtbot, source()), long(qtbot, source())
    for block in (one, rows):
        block.selectAll()
    copied, expected = rows.createMimeDataFromSelection(), one.createMimeDataFromSelection()
    assert copied.text().strip() == expected.text().strip()
    assert copied.html().count("<table") == copied.html().count("</table>") == 1
    assert copied.html().count("<tr>") == ROWS + 1


def test_a_selection_goes_row_by_row(qtbot: QtBot, themes: ThemeManager) -> None:
    rows = long(qtbot, source())
    tables = [frame for frame in rows.document().rootFrame().childFrames() if isinstance(frame, QTextTable)]
    cursor = QTextCursor(rows.document())
    cursor.setPosition(tables[3].firstPosition() + 2)
    cursor.setPosition(tables[4].firstPosition() + 1, QTextCursor.MoveMode.KeepAnchor)
    rows.setTextCursor(cursor)
    words = ["2", "some words " * 3, "2", "x", "3", "some words " * 4, "3", "x"]
    assert rows.createMimeDataFromSelection().text().split("\n")[:-1] == [word.strip() for word in words]
    cursor.setPosition(tables[3].firstPosition())
    cursor.setPosition(tables[3].firstPosition() + 1, QTextCursor.MoveMode.KeepAnchor)
    rows.setTextCursor(cursor)
    assert rows.createMimeDataFromSelection().text() == "2"


def test_matches_are_found_in_every_row(qtbot: QtBot, themes: ThemeManager) -> None:
    rows = long(qtbot, source())
    assert rows.show_marks(Needle("x"), 3) == ROWS
    assert rows.match_rect(3).y() > rows.match_rect(2).y()


def test_room_is_shared_by_wish() -> None:
    assert column_widths([10, 10], [30, 50], 100) == (30, 50)
    assert column_widths([10, 10], [30, 500], 100) == (30, 70)
    assert column_widths([10, 10, 10], [400, 30, 500], 130) == (50, 30, 50)
    assert column_widths([60, 60], [70, 70], 100) == (60, 60)
