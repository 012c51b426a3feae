import json
import re
from importlib import metadata
from pathlib import Path

import notices
import pytest
import wheels

FONTS = ("Inter", "STIX Two Math", "DejaVu Sans")


def install(site: Path, name: str, *lines: str, licence_text: str = "") -> None:
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines]) + "\n"
    )
    record = [f"{folder.name}/METADATA,,"]
    if licence_text:
        (folder / "LICENSE").write_text(licence_text)
        record.append(f"{folder.name}/LICENSE,,")
    (folder / "RECORD").write_text("\n".join(record) + "\n")


def test_a_package_is_described_from_what_it_brings(tmp_path: Path) -> None:
    install(
        tmp_path,
        "some_thing",
        "License-Expression: MIT",
        "Project-URL: Home, https://a.example",
        licence_text="May be used.",
    )
    (part,) = notices.packages(tmp_path)
    assert (part.name, part.version, part.licence, part.home) == ("some_thing", "1.0", "MIT", "https://a.example")
    assert part.texts == {"LICENSE.txt": "May be used."}
    assert part.purl == "pkg:pypi/some-thing@1.0"


@pytest.mark.parametrize("lines", [["License-Expression: MIT"], []])
def test_a_package_without_a_text_ends_the_build(tmp_path: Path, lines: list[str]) -> None:
    install(tmp_path, "silent", *lines)
    with pytest.raises(wheels.BuildError, match="silent brings no licence text"):
        notices.packages(tmp_path)


def test_every_package_of_the_app_has_its_notice() -> None:
    pinned = wheels.pins(wheels.lock_path(wheels.LINUX).read_text(encoding="utf-8"))
    installed = [one for one in metadata.distributions() if re.sub(r"[-_.]+", "-", one.name).lower() in pinned]
    assert len(installed) > 40
    for one in installed:
        part = notices.package(one)
        assert all(text.strip() for text in part.texts.values()), part.name


def test_the_folder_tells_people_and_programs(tmp_path: Path) -> None:
    site, folder = tmp_path / "site", tmp_path / "licences"
    install(site, "one", "License: A licence of its own", licence_text="Words.")
    notices.write(folder, [*notices.packages(site), *notices.bundled()], "python/qt")
    assert (folder / "one-1.0/LICENSE.txt").read_text() == "Words."
    assert "SIL OPEN FONT LICENSE" in (folder / "Inter/OFL.txt").read_text()
    assert "SIL OPEN FONT LICENSE" in (folder / "STIX-Two-Math/stix-two-math.txt").read_text()
    assert "Bitstream Vera" in (folder / "DejaVu-Sans/dejavu-sans.txt").read_text()
    assert "GNU LESSER GENERAL PUBLIC LICENSE" in next(folder.glob("Qt-6*/LGPL-3.0.txt")).read_text()
    assert "one 1.0\n    A licence of its own\n" in (folder / notices.OVERVIEW).read_text()
    assert "python/qt" in (folder / notices.RELINKING).read_text()
    assert "Apache License" in (folder / "LICENSE.txt").read_text()
    found = json.loads((folder / notices.SBOM).read_text())
    assert found["metadata"]["component"]["version"] == wheels.version()
    assert [component["name"] for component in found["components"]] == ["one", "Qt", "ICU", *FONTS]
    assert found["components"][0]["licenses"] == [{"license": {"name": "A licence of its own"}}]
    assert found["components"][1]["licenses"][0]["expression"].startswith("LGPL-3.0-only")


def test_the_same_content_gives_the_same_sbom() -> None:
    assert notices.sbom(notices.bundled()) == notices.sbom(notices.bundled())
    assert notices.sbom([])["serialNumber"] != notices.sbom(notices.bundled())["serialNumber"]
