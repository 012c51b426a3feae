import platform

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLabel, QPushButton
from pytestqt.qtbot import QtBot

from app.application import Application
from app.licences import Component, qt_folder
from app.widgets.about_dialog import AboutDialog, LicencesDialog


def open_about(rooftop: Application) -> AboutDialog:
    rooftop.window.about_requested.emit()
    dialog = rooftop.window.findChild(AboutDialog)
    assert dialog is not None
    assert dialog.isVisible()
    return dialog


def button(dialog: AboutDialog, word: str) -> QPushButton:
    return next(found for found in dialog.findChildren(QPushButton) if word in found.text())


def test_versions_and_kernels_are_told_and_copied(rooftop: Application) -> None:
    dialog = open_about(rooftop)
    button(dialog, "Copy").click()
    copied = QGuiApplication.clipboard().text()
    assert copied == dialog.version_text
    for words in (f"Python: {platform.python_version()}", "torch: ", "AVX2 kernels"):
        assert words in copied
    dialog.close()


def test_the_notice_tells_how_to_replace_qt(rooftop: Application) -> None:
    dialog = open_about(rooftop)
    words = " ".join(label.text() for label in dialog.findChildren(QLabel))
    assert "Lesser General Public License" in words
    assert str(qt_folder()) in words
    dialog.close()


def test_all_licences_can_be_read(rooftop: Application) -> None:
    dialog = open_about(rooftop)
    button(dialog, "Licences").click()
    licences = dialog.findChild(LicencesDialog)
    assert licences is not None
    names = [licences.list.item(row).text() for row in range(licences.list.count())]
    licences.list.setCurrentRow(next(row for row, name in enumerate(names) if name.startswith("PySide6")))
    assert "GNU LESSER GENERAL PUBLIC LICENSE" in licences.text.toPlainText()
    licences.close()
    dialog.close()


def test_a_part_without_a_text_says_so(qtbot: QtBot) -> None:
    dialog = LicencesDialog([Component("bare", "1.0", "", ())])
    qtbot.addWidget(dialog)
    assert "bare: licence not named" in dialog.text.toPlainText()
    assert "no text of its licence" in dialog.text.toPlainText()
