from collections.abc import Callable

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QInputDialog, QLineEdit, QMenu
from pytestqt.qtbot import QtBot

from app.application import Application
from app.chat_list import ENTRY_ROLE
from app.settings import save_settings
from app.widgets.sidebar import MAX_WIDTH, Sidebar
from tests.app.test_history import make_chat


def action(rooftop: Application, keys: str) -> QAction:
    return next(a for a in rooftop.window.findChildren(QAction) if QKeySequence(keys) in a.shortcuts())


@pytest.fixture
def sidebar(rooftop: Application) -> Sidebar:
    """The sidebar of a window with three chats; the first is shown."""
    chats = [
        make_chat("Apples and pears", "Fruit."),
        make_chat("Bears", "Animals."),
        make_chat("Cars", "An apple car."),
    ]
    for number, chat in enumerate(chats):
        chat.updated_s += 10 - number
    rooftop.chats.add(chats)
    return rooftop.window.sidebar


def names(sidebar: Sidebar) -> list[str]:
    rows = [sidebar.model.index(row) for row in range(sidebar.model.rowCount())]
    return [row.data() for row in rows if row.data(ENTRY_ROLE) is not None]


def key_of(sidebar: Sidebar, name: str) -> str:
    rows = (sidebar.model.index(row) for row in range(sidebar.model.rowCount()))
    return next(str(row.data(ENTRY_ROLE).key) for row in rows if row.data() == name)


def current(sidebar: Sidebar) -> str:
    return str(sidebar.list.currentIndex().data())


def test_a_click_opens_a_chat(sidebar: Sidebar, rooftop: Application) -> None:
    assert names(sidebar) == ["Apples and pears", "Bears", "Cars"]
    assert current(sidebar) == "Apples and pears"
    index = sidebar.model.index(sidebar.model.row_of(key_of(sidebar, "Bears")))
    place = sidebar.list.visualRect(index).center()
    QTest.mouseClick(sidebar.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert rooftop.session.conversation.shown_title == "Bears"
    assert current(sidebar) == "Bears"


def test_the_keyboard_is_enough(sidebar: Sidebar, rooftop: Application) -> None:
    sidebar.list.setFocus()
    QTest.keyClick(sidebar.list, Qt.Key.Key_Down)
    QTest.keyClick(sidebar.list, Qt.Key.Key_Return)
    assert rooftop.session.conversation.shown_title == "Bears"
    sidebar.list.setFocus()
    QTest.keyClick(sidebar.list, Qt.Key.Key_Backspace)
    assert len(names(sidebar)) == 3
    QTest.keyClick(sidebar.list, Qt.Key.Key_Delete)
    assert names(sidebar) == ["Apples and pears", "Cars"]
    action(rooftop, "Ctrl+N").trigger()
    assert rooftop.session.conversation.messages == []
    rooftop.window.menus.undo_delete.trigger()
    assert names(sidebar) == ["Apples and pears", "Bears", "Cars"]
    assert not rooftop.window.menus.undo_delete.isEnabled()
    action(rooftop, "Ctrl+PgDown").trigger()
    assert rooftop.session.conversation.shown_title == "Cars"
    action(rooftop, "Ctrl+PgUp").trigger()
    assert rooftop.session.conversation.shown_title == "Bears"


def test_renaming_in_place(sidebar: Sidebar, rooftop: Application, qtbot: QtBot) -> None:
    sidebar.list.setFocus()
    QTest.keyClick(sidebar.list, Qt.Key.Key_F2)
    field = sidebar.list.findChild(QLineEdit, "rename")
    assert field is not None
    assert field.text() == "Apples and pears"
    field.setText("Orchard")
    QTest.keyClick(field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: names(sidebar)[0] == "Orchard")
    assert rooftop.session.conversation.title == "Orchard"


def test_pins_and_folders(sidebar: Sidebar, rooftop: Application) -> None:
    rooftop.chats.set_pinned(key_of(sidebar, "Cars"), pinned=True)
    assert names(sidebar) == ["Cars", "Apples and pears", "Bears"]
    entry = next(entry for entry in rooftop.chats.entries if entry.name == "Bears")
    menu = sidebar.menu_for(entry)
    folders = menu.findChild(QMenu)
    assert folders is not None
    next(a for a in folders.actions() if a.text() == "New folder…").trigger()
    dialog = sidebar.findChild(QInputDialog)
    assert dialog is not None
    dialog.setTextValue("Zoo")
    dialog.accept()
    assert rooftop.chats.folders == ["Zoo"]
    assert sidebar.model.index(2).data() == "Zoo"
    entry = next(entry for entry in rooftop.chats.entries if entry.name == "Bears")
    again = sidebar.menu_for(entry)
    next(a for a in again.findChildren(QAction) if a.text() == "Out of its folder").trigger()
    assert rooftop.chats.folders == []
    next(a for a in again.actions() if a.text() == "Pin to the top").trigger()
    assert names(sidebar)[:2] == ["Bears", "Cars"] or names(sidebar)[:2] == ["Cars", "Bears"]


def test_search(sidebar: Sidebar, rooftop: Application, qtbot: QtBot) -> None:
    action(rooftop, "Ctrl+K").trigger()
    QApplication.processEvents()
    QTest.keyClicks(sidebar.search_field, "apple")
    qtbot.waitUntil(lambda: names(sidebar) == ["Apples and pears", "Cars"])
    QTest.keyClick(sidebar.search_field, Qt.Key.Key_Down)
    QTest.keyClick(sidebar.list, Qt.Key.Key_Down)
    QTest.keyClick(sidebar.list, Qt.Key.Key_Return)
    assert rooftop.session.conversation.shown_title == "Cars"
    sidebar.search_field.setText("nowhere")
    qtbot.waitUntil(lambda: names(sidebar) == [])
    QTest.keyClick(sidebar.search_field, Qt.Key.Key_Escape)
    assert len(names(sidebar)) == 3


def test_it_can_be_hidden_and_stays_so(rooftop: Application, make_rooftop: Callable[..., Application]) -> None:
    sidebar = rooftop.window.sidebar
    assert sidebar.isVisible()
    action(rooftop, "Ctrl+B").trigger()
    assert not sidebar.isVisible()
    rooftop.window.close()
    assert not make_rooftop().window.sidebar.isVisible()


def test_a_narrow_window_covers_the_chat_only_when_asked(sidebar: Sidebar, rooftop: Application, qtbot: QtBot) -> None:
    rooftop.window.resize(440, 600)
    qtbot.waitUntil(lambda: not sidebar.isVisible())
    assert rooftop.chat.composer.isVisible()
    action(rooftop, "Ctrl+B").trigger()
    assert sidebar.isVisible()
    sidebar.list.setFocus()
    QTest.keyClick(sidebar.list, Qt.Key.Key_Down)
    QTest.keyClick(sidebar.list, Qt.Key.Key_Return)
    assert not sidebar.isVisible()
    assert rooftop.session.conversation.shown_title == "Bears"
    rooftop.window.resize(1240, 700)
    qtbot.waitUntil(sidebar.isVisible)
    assert sidebar.width() < 430


def test_a_splitter_left_by_a_window_without_a_sidebar_does_not_stretch_it(
    rooftop: Application, make_rooftop: Callable[..., Application], qtbot: QtBot
) -> None:
    rooftop.window._splitter_state = ""
    splitter = rooftop.window._splitter
    rooftop.window.sidebar.setParent(None)
    splitter.setSizes([700, 300])
    state = bytes(splitter.saveState().toBase64().data()).decode()
    splitter.insertWidget(0, rooftop.window.sidebar)
    rooftop._kept.change(splitter_state=state)
    path = rooftop._kept.path
    save_settings(rooftop._kept.settings, path)
    again = make_rooftop(settings_path=path)
    assert again.settings.splitter_state == state
    assert again.window._splitter.sizes()[0] <= MAX_WIDTH
