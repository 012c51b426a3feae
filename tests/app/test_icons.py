from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from app.icons import app_icon, icon

FOLDER = Path(__file__).parents[2] / "resources" / "icons"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.svg") if path.stem != "rooftop"))
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
