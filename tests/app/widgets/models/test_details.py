from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtWidgets import QLabel, QWidget
from pytestqt.qtbot import QtBot

from app.library import Library
from app.theme import ThemeManager
from app.widgets.models.found_page import FoundPage


@pytest.mark.parametrize("width", [330, 460, 1100])
def test_no_two_details_overlap_and_none_is_cut(
    library: Library, models_folder: Path, qtbot: QtBot, themes: ThemeManager, width: int
) -> None:
    page = FoundPage(library, "guide")
    qtbot.addWidget(page)
    page.resize(1200, 600)
    page.show()
    with qtbot.waitSignal(library.judged):
        library.refresh()
    qtbot.waitUntil(page.details.ram.isVisible)
    page.resize(width, 600)
    content = page.details.ram.parentWidget()
    assert content is not None

    def whole() -> bool:
        shown = [child for child in content.children() if isinstance(child, QWidget) and child.isVisible()]
        labels = [child for child in shown if isinstance(child, QLabel) and child.wordWrap()]
        overlap = any(a.geometry().intersects(b.geometry()) for a in shown for b in shown if a is not b)
        return not overlap and all(label.height() >= label.heightForWidth(label.width()) for label in labels)

    qtbot.waitUntil(whole)


def test_its_buttons_stand_side_by_side_where_the_page_opens(
    library: Library, models_folder: Path, qtbot: QtBot, themes: ThemeManager
) -> None:
    themes.set_zoom(1.5)
    try:
        page = FoundPage(library, "guide")
        qtbot.addWidget(page)
        page.resize(900, 700)
        page.show()
        with qtbot.waitSignal(library.judged):
            library.refresh()
        qtbot.waitUntil(page.details.ram.isVisible)
        details = page.details
        buttons = [b for b in (details.load, details.reveal, details.smaller, details.delete) if b.isVisible()]
        assert len(buttons) > 2
        qtbot.waitUntil(lambda: len({button.y() for button in buttons}) == 1)
    finally:
        themes.set_zoom(1.0)
