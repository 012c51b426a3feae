"""A newer version, told once in the window: at most one question a day, and only where the user turned it on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, QUrl
from PySide6.QtGui import QDesktopServices

from app.language import error_text, tr
from app.updates import Release, UpdateCheck, is_due, release_list_address
from app.widgets.banner import Action

if TYPE_CHECKING:
    from app.application import Application
    from app.widgets.settings.dialog import SettingsDialog
    from app.widgets.settings.general_page import GeneralPage
    from engine.errors import RooftopError

FIRST_LOOK_MS = 10_000
LOOK_EVERY_MS = 3_600_000
BANNER = "update"


class UpdateDesk(QObject):
    """Wires the check to the settings and the window. Made before the window is shown.

    Args:
        rooftop: The application.
        address: Where the list of releases is, "" offers nothing; None takes what the package names.
    """

    def __init__(self, rooftop: Application, address: str | None = None) -> None:
        super().__init__(rooftop)
        address = release_list_address() if address is None else address
        self._rooftop = rooftop
        self._page: GeneralPage | None = None
        self._check = UpdateCheck(address, self)
        self._check.answered.connect(self._on_answer)
        self._timer = QTimer(self, interval=FIRST_LOOK_MS)
        self._timer.timeout.connect(self.look)
        if address:
            rooftop.dialogs.settings_opened.connect(self._offer)
            rooftop.panel_ready.connect(self._timer.start)
            rooftop.ended.connect(self._timer.stop)

    def look(self) -> None:
        """Ask, where that is wanted and a day has gone by."""
        self._timer.setInterval(LOOK_EVERY_MS)
        settings, now_s = self._rooftop.settings, time.time()
        if settings.check_updates and is_due(settings.updates_asked_s, now_s):
            self._rooftop.remember(updates_asked_s=now_s)
            self._ask()

    def _offer(self, dialog: SettingsDialog) -> None:
        """Show the setting, and answer its button."""
        self._page = page = dialog.general
        page.offer_updates()
        dialog.privacy.mention_updates()
        page.check_requested.connect(self._ask)
        page.destroyed.connect(self._forget_page)

    def _ask(self) -> None:
        self._check.ask()

    def _forget_page(self) -> None:
        self._page = None

    def _on_answer(self, release: Release | None, error: RooftopError | None) -> None:
        if self._page is not None:
            self._page.show_update(release, error_text(error) if error is not None else "")
        if release is not None and release.version != self._rooftop.settings.update_dismissed:
            self._tell(release)

    def _tell(self, release: Release) -> None:
        words = tr("Rooftop {version} is there.").format(version=release.version)
        show = Action(tr("Open its page"), lambda: QDesktopServices.openUrl(QUrl(release.page)))
        self._rooftop.chat.banners.show_banner(
            BANNER, words, "notice", (show,), lambda: self._rooftop.remember(update_dismissed=release.version)
        )
