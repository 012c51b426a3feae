"""Tells screen readers what a sighted user sees happen: a reply that is complete, stopped or failed, and notices.

Politely and once: a reply is read when it is complete, not token by token, and without its Markdown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent, QTextDocument

from app.language import tr

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget

    from app.chat_session import ChatSession
    from app.conversation import Message
    from app.widgets.banner import BannerArea


MARKDOWN = QTextDocument.MarkdownFeature.MarkdownDialectGitHub | QTextDocument.MarkdownFeature.MarkdownNoHTML


class Announcer(QObject):
    """Listens to the chat and the notices.

    Args:
        source: On whose behalf is spoken, the window's chat.
        session: The chat.
        banners: The notices.
        announce: Speaks; another one for tests.
    """

    def __init__(
        self,
        source: QWidget,
        session: ChatSession,
        banners: BannerArea,
        announce: Callable[[QObject, str], None] | None = None,
    ) -> None:
        super().__init__(source)
        self._source = source
        self._announce = announce or announce_politely
        self._told: Message | None = None
        session.reply_changed.connect(self._reply_changed)
        banners.shown.connect(self._say)

    def _reply_changed(self, message: Message) -> None:
        """A stopped reply changes twice: its numbers come later, and are not read again."""
        if message is not self._told:
            self._told = message
            self._say(spoken_reply(message))

    def _say(self, text: str) -> None:
        self._announce(self._source, text)


def announce_politely(source: QObject, text: str) -> None:
    """Let screen readers say something when they have finished what they are saying."""
    event = QAccessibleAnnouncementEvent(source, text)
    event.setPoliteness(QAccessible.AnnouncementPoliteness.Polite)
    QAccessible.updateAccessibility(event)


def spoken_reply(message: Message) -> str:
    """A reply as one would read it aloud."""
    document = QTextDocument()
    document.setMarkdown(message.text, MARKDOWN)
    words = document.toPlainText()
    if message.state == "failed" and message.error is not None:
        return f"{words} {message.error.message}".strip()
    if message.state == "stopped":
        return tr("Stopped: {text}").format(text=words)
    return tr("Reply: {text}").format(text=words)
