import configparser
import re
import shutil
import subprocess
from pathlib import Path

import linux_deb
import linux_python
import pytest
import wheels
from PySide6.QtGui import QImage

SOURCES = wheels.ROOT / "packaging" / "linux"


def read(name: str) -> configparser.SectionProxy:
    entry = configparser.ConfigParser(interpolation=None)
    entry.optionxform = str  # type: ignore[assignment,method-assign]
    entry.read(SOURCES / name, encoding="utf-8")
    return entry["Desktop Entry"]


def test_the_menu_entry_says_what_desktops_ask_for() -> None:
    entry = read("rooftop.desktop")
    assert {"Version": "1.0", "Type": "Application", "Exec": "rooftop", "Icon": "rooftop"}.items() <= dict(
        entry
    ).items()
    assert entry["StartupWMClass"] == "rooftop", "as Qt calls the window"
    assert entry["GenericName[de]"]
    assert entry["Comment[de]"]


def test_a_model_file_is_opened_by_double_click() -> None:
    entry = read("rooftop-open.desktop")
    assert entry["Exec"] == "rooftop --model %f"
    assert entry["MimeType"] == "application/x-gguf;"
    assert '<mime-type type="application/x-gguf">' in (SOURCES / "rooftop-mime.xml").read_text()


@pytest.mark.skipif(not shutil.which("desktop-file-validate"), reason="desktop-file-utils are not installed")
def test_the_menu_entries_are_valid() -> None:
    done = subprocess.run(
        ["desktop-file-validate", *SOURCES.glob("*.desktop")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_templates_take_the_version_from_pyproject(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert linux_deb.filled("@VERSION@ of @DATE@") == f"{wheels.version()} of 2023-11-14"
    assert linux_deb.filled((SOURCES / "changelog").read_text()).rstrip().endswith("Tue, 14 Nov 2023 22:13:20 +0000")
    assert f'<release version="{wheels.version()}"' in linux_deb.filled((SOURCES / "rooftop.metainfo.xml").read_text())
    for source in (*SOURCES.glob("*.desktop"), SOURCES / "control", SOURCES / "copyright"):
        assert wheels.version() not in re.findall(r"\d+\.\d+\.\d+", source.read_text())


def test_the_package_depends_on_what_a_checkout_needs_and_is_not_inside() -> None:
    found = linux_deb.dependencies()
    assert {"libegl1", "libfontconfig1", "libxkbcommon-x11-0", "libgssapi-krb5-2"} <= set(found)
    assert found[0].startswith("libc6 (>= 2.35)")
    assert not set(found) & set(linux_python.XCB_PACKAGES)
    assert not [name for name in found if not re.fullmatch(r"[a-z0-9.+-]+( \(>= [0-9.]+\))?", name)]


def test_the_desktop_gets_icons_in_all_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    linux_deb.add_desktop_files(tmp_path)
    for size in linux_deb.ICON_SIZES:
        image = QImage(str(tmp_path / f"icons/hicolor/{size}x{size}/apps/rooftop.png"))
        assert (image.width(), image.height()) == (size, size)
        assert image.pixelColor(size // 2, size - 1).alpha() > 200, "drawn to the edge"
        assert image.pixelColor(0, 0).alpha() < 100, "but for its round corners"
    assert (tmp_path / "icons/hicolor/scalable/apps/rooftop.svg").is_file()
    assert (tmp_path / "applications/rooftop.desktop").stat().st_mode & 0o777 == 0o644
