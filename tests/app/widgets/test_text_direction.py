"""Lines begin where their text does."""

from __future__ import annotations

import pytest
from PySide6.QtWidgets import QPlainTextEdit
from pytestqt.qtbot import QtBot

from app.widgets.composer import Composer
from app.widgets.message_editor import MessageEditor
from app.widgets.text_direction import is_right_to_left


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False), ("Hello", False), ("12 + 3", False), ("漢字", False), ("مرحبا", True), ("שלום", True),
        ("  «مرحبا» Hello", True), ("Hello مرحبا", False), ("1. שלום", True), ("😀 مرحبا", True), ("\u200fHello", True),
    ],
)  # fmt: skip
def test_the_first_letter_decides(text: str, expected: bool) -> None:
    assert is_right_to_left(text) == expected


def cursor_x(field: QPlainTextEdit) -> int:
    """Where the first line begins."""
    cursor = field.textCursor()
    cursor.setPosition(0)
    return field.cursorRect(cursor).x()


@pytest.fixture
def widgets(qtbot: QtBot) -> tuple[Composer, MessageEditor]:
    composer, editor = Composer(), MessageEditor("")
    for widget in (composer, editor):
        qtbot.addWidget(widget)
        widget.resize(600, 200)
        widget.show()
    return composer, editor


@pytest.fixture
def fields(widgets: tuple[Composer, MessageEditor]) -> list[QPlainTextEdit]:
    return [*widgets[0].findChildren(QPlainTextEdit), widgets[1].field]


def test_a_field_turns_round_with_its_text(fields: list[QPlainTextEdit]) -> None:
    assert len(fields) == 2
    for field in fields:
        middle = field.viewport().width() / 2
        for text, right in (("Hello", False), ("مرحبا كيف حالك", True), ("Hello", False), ("שלום", True), ("", False)):
            field.setPlainText(text)
            assert (cursor_x(field) > middle) == right, text


def test_turning_round_can_be_undone_like_any_typing(fields: list[QPlainTextEdit]) -> None:
    field = fields[0]
    field.insertPlainText("مرحبا")
    field.insertPlainText(" Hello")
    assert field.toPlainText() == "مرحبا Hello"
    field.undo()
    assert field.toPlainText() in ("", "مرحبا")
    field.undo()
    assert field.toPlainText() == ""
    assert cursor_x(field) < field.viewport().width() / 2
