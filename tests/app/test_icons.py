from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from app.icons import app_icon, icon

FOLDER = Path(__file__).parents[2] / "resources" / "icons"


# Two have colours of their own: the application's icon, and an arrow that the style sheet names by its file.
OWN_COLOURS = {"rooftop", "combo-arrow"}
NAMES = sorted({path.stem for path in FOLDER.glob("*.svg")} - OWN_COLOURS)


@pytest.mark.parametrize("name", NAMES)
def test_every_icon_takes_the_colour(qapp: QApplication, name: str) -> None:
    image = icon(name, "#ff0000").pixmap(24, 24).toImage()
    opaque = [
        image.pixelColor(x, y)
        for x in range(image.width())
        for y in range(image.height())
        if image.pixelColor(x, y).alpha() == 255
    ]
    assert opaque
    assert all((colour.red(), colour.green(), colour.blue()) == (255, 0, 0) for colour in opaque)


def test_the_application_has_an_icon(qapp: QApplication) -> None:
    assert not app_icon().pixmap(64, 64).isNull()
