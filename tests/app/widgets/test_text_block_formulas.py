"""Formulas in a text: drawn behind its back, on the baseline, sharp, copied as source."""

import pytest
from PySide6.QtGui import QColor, QGuiApplication, QImage, QTextCursor
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.markdown import plain_blocks, split_blocks
from app.math_svg import draw
from app.text_search import Needle
from app.theme import ThemeManager, current_theme
from app.widgets.formulas import formula_drawer, formula_image
from app.widgets.marks import OBJECT
from app.widgets.text_block import TextBlock


def make(qtbot: QtBot, source: str, *, drawn: bool = True) -> TextBlock:
    block = TextBlock()
    qtbot.addWidget(block)
    block.resize(500, 100)
    block.show()
    block.show_html("".join(part.html for part in split_blocks(source)))
    if drawn:
        qtbot.waitUntil(lambda: OBJECT in block.toPlainText())
    return block


def test_source_stands_until_the_formula_is_drawn(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot, "Let $x_{77}$ be", drawn=False)
    assert block.toPlainText() == "Let $x_{77}$ be"
    qtbot.waitUntil(lambda: block.toPlainText() == f"Let {OBJECT} be")


def test_what_cannot_be_drawn_stays_source(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot, r"$\frac{1$ and $y_{78}$")
    assert block.toPlainText() == rf"$\frac{{1$ and {OBJECT}"
    assert not formula_drawer().waits_for(r"\frac{1", display=False)


def test_a_selection_is_copied_with_its_sources(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot, "One $a^2$ two\n\n$$b_i$$")
    qtbot.waitUntil(lambda: block.toPlainText().count(OBJECT) == 2)
    block.selectAll()
    block.copy()
    assert QGuiApplication.clipboard().text() == "One $a^2$ two\n$$b_i$$"
    cursor = block.textCursor()
    cursor.setPosition(4)
    cursor.setPosition(5, QTextCursor.MoveMode.KeepAnchor)
    block.setTextCursor(cursor)
    block.copy()
    assert QGuiApplication.clipboard().text() == "$a^2$"
    QGuiApplication.clipboard().setText("")  # made in Python, it must not outlive Python


def test_a_formula_is_described_and_found_by_its_source(qtbot: QtBot, themes: ThemeManager) -> None:
    source = "😀 Let $a^2$ and\n\n$$\\frac{b}{c} < 1$$ be"
    block = make(qtbot, source)
    qtbot.waitUntil(lambda: block.toPlainText().count(OBJECT) == 2)
    (text,) = plain_blocks(source)
    assert "$a^2$" in text
    assert r"$$\frac{b}{c} < 1$$" in text
    assert block.search_text().split() == block.accessibleDescription().split() == text.split()
    tips = [image.toolTip() for _, image in block._image_fragments()]
    assert tips == ["$a^2$", r"$$\frac{b}{c} < 1$$"]

    def marked(words: str) -> list[str]:
        assert block.show_marks(Needle(words), 0) == Needle(words).count([text])
        return [selection.cursor.selectedText() for selection in block.extraSelections()]

    assert marked("a^2") == [OBJECT]
    assert marked("let $a^") == [f"Let {OBJECT}"]
    assert marked("2$ and") == [f"{OBJECT} and"]
    assert marked("$") == [OBJECT] * 6
    assert marked("frac") == [OBJECT]
    assert marked("be") == ["be"]
    assert marked("😀") == ["😀"]
    assert block.match_rect(0).left() < 30
    block.show_html("<p>none</p>")
    assert block.accessibleDescription() == ""


def lowest_ink(image: QImage, left: int, right: int) -> int:
    """The lowest row between two columns that is not the background."""
    ground = image.pixelColor(0, 0)
    rows = [
        row for row in range(image.height())
        if any(abs(image.pixelColor(x, row).lightness() - ground.lightness()) > 50 for x in range(left, right))
    ]  # fmt: skip
    return max(rows)


@pytest.mark.parametrize("latex", ["xxxx", r"x_{x}x", r"\mathrm{HHH}", r"\tfrac{x}{x}HHH"])
def test_formulas_stand_on_the_texts_baseline(qtbot: QtBot, themes: ThemeManager, latex: str) -> None:
    block = make(qtbot, f"HHHH ${latex}$")
    image = QImage(block.size() * 4, QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(4)
    image.fill(QColor("white"))
    block.render(image)
    cursor = QTextCursor(block.document())
    cursor.setPosition(5)
    edge = block.cursorRect(cursor).left()
    drawing = draw(latex, display=False)
    assert drawing is not None
    (formula,) = block._images.values()
    descent = drawing.descent * formula.width / drawing.width
    ratio = image.devicePixelRatio()
    text = lowest_ink(image, 0, int((edge - 2) * ratio))
    below = (lowest_ink(image, int((edge + 1) * ratio), image.width()) - text) / ratio
    assert abs(below - descent) <= 1.6, (below, descent)


def test_images_have_the_themes_colour_and_the_screens_pixels(qtbot: QtBot, themes: ThemeManager) -> None:
    drawing = draw("x", display=False)
    assert drawing is not None
    font = QApplication.font()
    single = formula_image(drawing, font, "#ff0000", 1.0, 0)
    double = formula_image(drawing, font, "#ff0000", 2.0, 0)
    assert (single.width, single.height) == (double.width, double.height)
    assert double.image.width() == pytest.approx(2 * single.image.width(), abs=1)
    inks = {
        QColor(double.image.pixelColor(x, y)).name()
        for x in range(double.image.width()) for y in range(double.image.height())
        if double.image.pixelColor(x, y).alpha() == 255
    }  # fmt: skip
    assert inks == {"#ff0000"}


def test_colours_and_zoom_are_followed(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot, "Let $w_{79}$ be")
    (before,) = block._images.values()
    themes.set_zoom(1.5)
    block.restyle()
    (after,) = block._images.values()
    assert after.height == pytest.approx(1.5 * before.height, rel=0.15)
    themes.set_mode("dark")
    block.restyle()
    (dark,) = block._images.values()
    darkest = max(dark.image.pixelColor(x, y).lightness() for x in range(5) for y in range(dark.image.height()))
    assert current_theme().name == "dark"
    assert darkest >= 0


def test_a_wide_displayed_formula_shrinks_to_the_text(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot, "$$" + "+".join(["aaaa"] * 30) + "$$")
    (image,) = block._images.values()
    assert image.width <= 500


def test_nothing_else_is_loaded(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot, "a", drawn=False)
    for address in ("file:///etc/passwd", "https://example.com/x.png", "rooftop-math:i78", "qrc:/x"):
        resource = block.loadResource(2, address)
        assert isinstance(resource, QImage)
        assert (resource.width(), resource.height()) == (1, 1)
