from pathlib import Path

from PySide6.QtCore import QUrl
from PySide6.QtGui import QImage, QTextDocument
from pytestqt.qtbot import QtBot

from app.theme import ThemeManager
from app.widgets.text_block import TextBlock


def make(qtbot: QtBot) -> TextBlock:
    block = TextBlock()
    qtbot.addWidget(block)
    block.resize(300, 10)
    block.show()
    return block


def test_its_height_follows_its_width(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot)
    block.show_html("<p>" + "word " * 60 + "</p>")
    wide = block.height()
    block.setFixedWidth(150)
    qtbot.waitUntil(lambda: block.height() > wide)
    qtbot.waitUntil(lambda: block.verticalScrollBar().maximum() == 0)


def test_nothing_is_loaded(qtbot: QtBot, themes: ThemeManager, tmp_path: Path) -> None:
    picture = tmp_path / "real.png"
    image = QImage(64, 64, QImage.Format.Format_RGB32)
    image.save(str(picture))
    block = make(qtbot)
    block.show_html(f'<img src="{picture}"><img src="file://{picture}"><img src="http://127.0.0.1:9/x.png">')
    kind = QTextDocument.ResourceType.ImageResource.value
    for url in (str(picture), QUrl.fromLocalFile(str(picture)), QUrl("http://127.0.0.1:9/x.png")):
        loaded = block.loadResource(kind, url)
        assert isinstance(loaded, QImage)
        assert loaded.size().width() == 1
    assert block.document().size().height() < 64


def test_a_link_is_only_announced(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot)
    block.show_html('<p><a href="https://example.com/">x</a></p>')
    with qtbot.waitSignal(block.link_clicked) as blocker:
        block.anchorClicked.emit(QUrl("https://example.com/"))
    assert blocker.args == ["https://example.com/"]
    assert block.source().isEmpty()


def test_plain_text_stays_plain(qtbot: QtBot, themes: ThemeManager) -> None:
    block = make(qtbot)
    block.show_plain("<b>vector<int></b>\n  indented")
    assert block.toPlainText() == "<b>vector<int></b>\n  indented"
    assert block.ideal_width(300) <= 300
