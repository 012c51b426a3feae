"""General: language, theme, size of texts, tray, new versions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QPushButton, QSpinBox

from app.language import tr
from app.theme import MAX_ZOOM, MIN_ZOOM, ZOOM_STEP
from app.tray import tray_problem
from app.widgets.form_parts import CheckBox, plain_spin
from app.widgets.panel_parts import DimLabel
from app.widgets.settings.page import SettingsPage, choose, fill_choices, in_a_row, show_line

if TYPE_CHECKING:
    from app.language import Language
    from app.settings import Settings
    from app.theme import ThemeMode
    from app.updates import Release


class GeneralPage(SettingsPage):
    """How the window looks and behaves.

    Signals:
        check_requested(): The user wants to know whether there is a newer version.
    """

    check_requested = Signal()

    def __init__(self) -> None:
        super().__init__(tr("General"))
        self.language = QComboBox()
        languages = ((tr("As the system"), "system"), ("English", "en"), ("Deutsch", "de"))
        fill_choices(self.language, languages, tr("Language"))
        self.theme = QComboBox()
        themes = ((tr("As the system"), "system"), (tr("Light"), "light"), (tr("Dark"), "dark"))
        fill_choices(self.theme, themes, tr("Theme"))
        self.zoom = QSpinBox()
        self.zoom.setRange(round(100 * MIN_ZOOM), round(100 * MAX_ZOOM))
        self.zoom.setSingleStep(round(100 * ZOOM_STEP))
        self.zoom.setSuffix(" %")
        self.zoom.setAccessibleName(tr("Text size"))
        plain_spin(self.zoom)
        self.tray = CheckBox(tr("Closing the window &keeps Rooftop in the tray"))
        note = DimLabel(tr("A new language is used from the next start on."))
        self._add_row(tr("&Language"), self.language, in_a_row(self.language), note)
        self._add_row(tr("Th&eme"), self.theme, in_a_row(self.theme))
        self._add_row(tr("Text si&ze"), self.zoom, in_a_row(self.zoom))
        problem = tray_problem()
        self.tray.setEnabled(not problem)
        no_tray = DimLabel()
        show_line(no_tray, problem)
        self._add_row(tr("Tray"), self.tray, self.tray, no_tray)
        self.updates = CheckBox(tr("Check for new &versions once a day"))
        self.check_now = QPushButton(tr("Check &now"))
        self._update_state = DimLabel(lines=2)
        show_line(self._update_state, "")
        self._finish()
        self.language.currentIndexChanged.connect(self.edited)
        self.theme.currentIndexChanged.connect(self.edited)
        self.zoom.valueChanged.connect(self.edited)
        self.tray.toggled.connect(self.edited)
        self.updates.toggled.connect(self.edited)
        self.check_now.clicked.connect(self._check_now)

    def offer_updates(self) -> None:
        """Show the setting, which only a package has that knows where its releases are listed."""
        self._rows.takeAt(self._rows.count() - 1)  # the room below
        promise = tr("Only this version's number is sent, and nothing is installed.")
        button = in_a_row(self.check_now)
        self._add_row(tr("Updates"), self.updates, self.updates, DimLabel(promise), button, self._update_state)
        self._finish()
        self.setTabOrder(self.tray, self.updates)
        self.setTabOrder(self.updates, self.check_now)

    def show_update(self, release: Release | None, problem: str) -> None:
        """Say what the check found.

        Args:
            release: A newer version, None where there is none.
            problem: Why nobody knows, "" where the check worked.
        """
        self.check_now.setEnabled(True)
        if release is not None:
            show_line(self._update_state, tr("Rooftop {version} is there.").format(version=release.version))
        else:
            show_line(self._update_state, problem or tr("This is the newest version."))

    def _check_now(self) -> None:
        self.check_now.setEnabled(False)
        show_line(self._update_state, tr("Looking…"))
        self.check_requested.emit()

    def show_settings(self, settings: Settings) -> None:
        """Fill the fields."""
        choose(self.language, settings.language)
        choose(self.theme, settings.theme)
        self.zoom.setValue(round(100 * settings.zoom))
        self.tray.setChecked(settings.tray)
        self.updates.setChecked(settings.check_updates)

    def merge(self, settings: Settings) -> Settings:
        """The settings with these fields."""
        percent = self.zoom.value()
        return replace(
            settings,
            language=cast("Language", self.language.currentData()),
            theme=cast("ThemeMode", self.theme.currentData()),
            zoom=settings.zoom if percent == round(100 * settings.zoom) else percent / 100,
            tray=self.tray.isChecked(),
            check_updates=self.updates.isChecked(),
        )
