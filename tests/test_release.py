"""A release is cut from a changelog, and no tag goes out without its section."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pytest
import release

DAY = datetime.date(2030, 1, 2)
CHANGELOG = (
    "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [1.2.3] - 2029-01-01\n\n- The one before.\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout in which 1.2.3 is the newest release."""
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    for name in release.IMAGES:
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(release.CHECKOUT / name, tmp_path / name)
    return tmp_path


def test_what_is_unreleased_becomes_the_version(root: Path) -> None:
    release.cut(root, "1.3.0", DAY)
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text == CHANGELOG.replace("## [Unreleased]\n", "## [Unreleased]\n\n## [1.3.0] - 2030-01-02\n")
    assert set(release.images(root).values()) == {"1.3.0"}
    assert release.check(root, "v1.3.0") == "### Added\n\n- A thing."


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("v1.3.0", "'v1.3.0' is no version: it must be three numbers, as 1.2.3"),
        ("1.3", "'1.3' is no version"),
        ("1.3.0rc1", "'1.3.0rc1' is no version"),
        ("1.2.3", "CHANGELOG.md has 1.2.3 already, which is not before 1.2.3"),
        ("1.1.9", "CHANGELOG.md has 1.2.3 already, which is not before 1.1.9"),
    ],
)
def test_what_is_no_next_version_is_refused(root: Path, version: str, reason: str) -> None:
    with pytest.raises(release.ReleaseError) as refused:
        release.cut(root, version, DAY)
    assert reason in str(refused.value)
    assert (root / "CHANGELOG.md").read_text(encoding="utf-8") == CHANGELOG


def test_nothing_unreleased_is_no_release(root: Path) -> None:
    release.cut(root, "1.3.0", DAY)
    with pytest.raises(release.ReleaseError, match="nothing under"):
        release.cut(root, "1.4.0", DAY)


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("1.3.0", "it must be v1.3.0"),
        ("v1.3", "'1.3' is no version"),
        ("v1.4.0", "the newest release in CHANGELOG.md is 1.3.0, not 1.4.0"),
        ("v1.2.3", "the newest release in CHANGELOG.md is 1.3.0, not 1.2.3"),
    ],
)
def test_a_tag_without_its_section_is_refused(
    root: Path, tag: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    release.cut(root, "1.3.0", DAY)
    assert release.main(["--check", tag], root) == 2
    assert reason in capsys.readouterr().err


def test_a_tag_whose_image_is_not_deployed_is_refused(root: Path) -> None:
    release.cut(root, "1.3.0", DAY)
    path = root / "deploy/kubernetes/kustomization.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("1.3.0", "1.2.3"), encoding="utf-8")
    with pytest.raises(release.ReleaseError, match=r"kustomization\.yaml names the image 1\.2\.3, not 1\.3\.0"):
        release.check(root, "v1.3.0")


def test_a_section_without_a_word_is_refused(root: Path) -> None:
    (root / "CHANGELOG.md").write_text("## [Unreleased]\n\n## [1.3.0] - 2030-01-02\n", encoding="utf-8")
    with pytest.raises(release.ReleaseError, match=r"says nothing of 1\.3\.0"):
        release.check(root, "v1.3.0")


def test_this_checkout_could_be_released() -> None:
    """What is deployed is the newest release, or, before the first, the one to come."""
    assert next(iter(release.sections(release.CHECKOUT))) == "Unreleased"
    released = [name for name in release.sections(release.CHECKOUT) if name != "Unreleased"]
    assert set(release.images(release.CHECKOUT).values()) == {released[0] if released else "0.1.0"}
