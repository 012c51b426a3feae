from pathlib import Path

import packages
import pytest
import wheels


def test_sums_are_of_every_package_and_as_sha256sum_reads_them(tmp_path: Path) -> None:
    (tmp_path / "b.deb").write_bytes(b"")
    (tmp_path / "a.tar.zst").write_bytes(b"x")
    (tmp_path / "work").mkdir()
    for _ in range(2):  # the second time the file is there
        packages.write_sums(tmp_path)
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert [line.partition("  ")[2] for line in lines] == ["a.tar.zst", "b.deb"]
    assert lines[1].startswith("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def test_a_package_that_grew_too_large_ends_the_build() -> None:
    packages.refuse_larger("x.deb", 10, 10)
    with pytest.raises(wheels.BuildError, match=r"x.deb takes 351 MB, more than the 350 it may"):
        packages.refuse_larger("x.deb", 351_000_000, 350_000_000)


def test_what_is_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wheels, "ROOT", tmp_path)
    monkeypatch.setattr(packages, "PACKAGES", tmp_path / "out")

    def build(folder: Path) -> list[Path]:
        folder.mkdir()
        (folder / "x.deb").write_bytes(bytes(200_000))
        return [folder / "x.deb"]

    assert packages.main(build) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["0.2", "MB", "out/x.deb"]


def test_why_nothing_could_be_made_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def build(_folder: Path) -> list[Path]:
        raise wheels.BuildError("It rains.")

    assert packages.main(build) == 1
    assert capsys.readouterr().err == "packaging: It rains.\n"
