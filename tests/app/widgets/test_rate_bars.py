"""The rates: measured beside what one expert alone reached, labelled, never a number that is none."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, QPointF
from PySide6.QtGui import QHelpEvent
from PySide6.QtWidgets import QApplication, QToolTip
from pytestqt.qtbot import QtBot

from app.widgets.rate_bars import RateBars, rate_rows
from engine.experts.limits import Rates

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)
MEASURED, BEST = Rates(61e9, 21.4e9, None), Rates(63e9, 22e9, 360e9)


def test_rows_with_and_without_a_gpu() -> None:
    rows = rate_rows(MEASURED, BEST, has_gpu=True, simulated=False)
    assert [row.words for row in rows] == ["61 GB/s / 63 GB/s", "21 GB/s / 22 GB/s", "\N{EN DASH} / 360 GB/s"]
    assert rows[1].name == "copied to the GPU, at least"
    assert all("simulated GPU" in row.name for row in rate_rows(MEASURED, BEST, has_gpu=True, simulated=True)[1:])
    (row,) = rate_rows(Rates(5e9), Rates(), has_gpu=False, simulated=False)
    assert row.words == "5.0 GB/s"


@pytest.mark.parametrize("measured", [MEASURED, Rates(), Rates(200e9, 0.001, 1e15)])
@pytest.mark.parametrize("best", [BEST, Rates()])
def test_it_draws_and_describes_whatever_comes(qtbot: QtBot, measured: Rates, best: Rates) -> None:
    bars = RateBars()
    qtbot.addWidget(bars)
    bars.resize(300, 120)
    bars.show_rows(rate_rows(measured, best, has_gpu=True, simulated=False))
    assert not bars.grab().isNull()
    assert "\N{EN DASH}" not in bars.accessibleDescription()
    assert ("not measured" in bars.accessibleDescription()) == (None in (measured.ram, measured.link, measured.gpu))
    assert bars.sizeHint().height() > 60


def test_the_tool_tip_says_how(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(QToolTip, "showText", lambda _position, text, *_: shown.append(text))
    bars = RateBars()
    qtbot.addWidget(bars)
    bars.resize(300, 120)
    bars.show_rows(rate_rows(MEASURED, BEST, has_gpu=True, simulated=False))
    for point in (QPoint(20, 30), QPoint(20, 500)):
        QApplication.sendEvent(bars, QHelpEvent(QHelpEvent.Type.ToolTip, point, point))
    assert "over the measured time of the GPU side" in shown[0]
    assert shown[1] == ""
    assert bars.row_at(QPointF(5, 500)) is None
