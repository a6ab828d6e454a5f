"""Cuts a release, or checks that a tag is one.

    python tools/release.py 0.2.0           # the changelog's section and what deploy/ names, then what to do next
    python tools/release.py --check v0.2.0  # prints the section, for the tag's own page; status 2 where something lacks

The version itself stands nowhere: it is the tag's, which setuptools-scm reads (`sor version`).
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
HEADING = re.compile(r"^## \[(.+?)\](?: - \d{4}-\d\d-\d\d)?\n", re.MULTILINE)
VERSION = re.compile(r"\d+\.\d+\.\d+")
# Files that name the image of the newest release, each with what stands before its tag.
IMAGES = {
    "deploy/kubernetes/kustomization.yaml": r"newTag: ",
    "deploy/ecs/task-definition.json": r"amazonaws\.com/sor:",
}


class ReleaseError(Exception):
    """Why this is no release."""


def sections(root: Path) -> dict[str, str]:
    """The changelog's sections by version, the newest first, ``Unreleased`` before them."""
    parts = HEADING.split((root / "CHANGELOG.md").read_text(encoding="utf-8"))[1:]
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def images(root: Path) -> dict[str, str]:
    """The tag of the image that each file of `deploy/` names."""
    named = {}
    for name, before in IMAGES.items():
        tags = re.findall(before + r"([\w.-]+)", (root / name).read_text(encoding="utf-8"))
        if len(tags) != 1:
            raise ReleaseError(f"{name} names {len(tags)} images of sor, not one")
        named[name] = tags[0]
    return named


def numbers(version: str) -> tuple[int, ...]:
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} is no version: it must be three numbers, as 1.2.3")
    return tuple(map(int, version.split(".")))


def check(root: Path, tag: str) -> str:
    """What a tag's release says of itself.

    Raises
    ------
    ReleaseError
        It is no ``vX.Y.Z``, the changelog's newest section is another's, or a file of `deploy/` names another image.
    """
    version = tag.removeprefix("v")
    numbers(version)
    if version == tag:
        raise ReleaseError(f"{tag!r} is no tag of a release: it must be v{version}")
    released = {name: text for name, text in sections(root).items() if name != "Unreleased"}
    newest = next(iter(released), "none")
    if newest != version:
        raise ReleaseError(f"the newest release in CHANGELOG.md is {newest}, not {version}")
    if not released[version]:
        raise ReleaseError(f"CHANGELOG.md says nothing of {version}")
    for name, image in images(root).items():
        if image != version:
            raise ReleaseError(f"{name} names the image {image}, not {version}")
    return released[version]


def cut(root: Path, version: str, day: datetime.date) -> None:
    """Make what is unreleased the section of a version, and let `deploy/` name its image."""
    wanted = numbers(version)
    found = sections(root)
    if not found.get("Unreleased"):
        raise ReleaseError("CHANGELOG.md has nothing under [Unreleased]")
    for name in found.keys() - {"Unreleased"}:
        if wanted <= numbers(name):
            raise ReleaseError(f"CHANGELOG.md has {name} already, which is not before {version}")
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    heading = f"## [Unreleased]\n\n## [{version}] - {day.isoformat()}\n"
    changelog.write_text(text.replace("## [Unreleased]\n", heading, 1), encoding="utf-8")
    images(root)
    for name, before in IMAGES.items():
        path = root / name
        path.write_text(
            re.sub(f"({before})[\\w.-]+", rf"\g<1>{version}", path.read_text(encoding="utf-8")), encoding="utf-8"
        )


def main(arguments: list[str] | None = None, root: Path = CHECKOUT) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("version", help="as 1.2.3; with --check a tag, as v1.2.3")
    parser.add_argument("--check", action="store_true", help="change nothing; print the section of this tag")
    given = parser.parse_args(arguments)
    try:
        if given.check:
            print(check(root, given.version))
        else:
            cut(root, given.version, datetime.datetime.now(datetime.timezone.utc).date())
            print(f"git commit --all --message 'Release {given.version}'")
            print(f"git tag --annotate v{given.version} --message {given.version}")
            print(f"git push origin main v{given.version}")
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
