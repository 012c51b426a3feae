"""Looking at and using the chat in a whole window."""

from PySide6.QtWidgets import QToolButton
from pytestqt.qtbot import QtBot

from app.application import Application
from app.widgets.composer import ComposerMode
from app.widgets.message_view import MessageView

LONG = "one two three four five six seven eight nine ten eleven twelve"


def ask(rooftop: Application, qtbot: QtBot, text: str) -> None:
    assert rooftop.session.submit(text)
    qtbot.waitUntil(lambda: not rooftop.session.busy)


def texts(rooftop: Application) -> list[str]:
    return [view.message.text for view in rooftop.chat.transcript.views]


def mode(rooftop: Application) -> ComposerMode:
    return rooftop.chat.composer.mode


def button(view: MessageView, name: str) -> QToolButton:
    return next(b for b in view.findChildren(QToolButton) if b.accessibleName().startswith(name))


def view_of(rooftop: Application, text: str) -> MessageView:
    view = next(view for view in rooftop.chat.transcript.views if view.message.text == text)
    view.build()
    return view
