"""What is built: a source distribution that is the whole checkout, and an install without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from sor.market.toml_file import tomllib

CHECKOUT = Path(__file__).resolve().parent.parent
BUILT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.so", "*.c", "__pycache__")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"

pytestmark = pytest.mark.network


def run(folder: Path, *command: object, **variables: str) -> str:
    """The output, errors included, of a command of Python's in a folder that has to succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SOR_", "PYTHON"))}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables}
    line = [sys.executable, *map(str, command)]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the checkout without git, by the tools that pyproject.toml asks for."""
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(CHECKOUT, folder / "checkout", ignore=BUILT)
    for hidden in (".ci", ".github"):
        shutil.copytree(CHECKOUT / hidden, folder / "checkout" / hidden)
    for hidden in (".dockerignore", ".gitattributes", ".gitignore", ".hadolint.yaml", ".readthedocs.yaml"):
        shutil.copy(CHECKOUT / hidden, folder / "checkout")
    tools = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    run(folder, "-m", "pip", "install", "-q", "--target", folder / "tools", *tools)
    run(folder / "checkout", "-c", BUILD, folder, PYTHONPATH=str(folder / "tools"))
    (found,) = folder.glob("sor-*.tar.gz")
    return found


def test_the_source_distribution_is_the_whole_checkout(sdist: Path) -> None:
    """So that its tests run, which read all of it; and no more, such as generated C. `.ci/run` runs some of them."""
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a checkout of git, which knows what belongs to it")
    made = {"PKG-INFO", "setup.cfg"} | {name for name in held if name.startswith("sor.egg-info/")}
    assert held - made == set(filter(None, tracked.stdout.split("\0")))


@pytest.mark.parametrize(
    ("variables", "version"),
    [
        ({}, "0.0+unknown"),
        ({"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_SOR": ""}, "0.0+unknown"),
        ({"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_SOR": "1.2.3"}, "1.2.3"),
    ],
)
def test_the_version_without_git_is_the_one_that_is_given(
    sdist: Path, tmp_path: Path, variables: dict[str, str], version: str
) -> None:
    """As the Dockerfile does it; without one it is told that it is not known."""
    shutil.copytree(sdist.parent / "checkout", tmp_path / "copy", ignore=shutil.ignore_patterns("*.egg-info"))
    tools = str(sdist.parent / "tools")
    asked = run(tmp_path / "copy", "-m", "setuptools_scm", PYTHONPATH=tools, **variables)
    assert asked.split()[-1] == version


def test_without_a_compiler_the_source_distribution_installs_all_the_same(sdist: Path, tmp_path: Path) -> None:
    """`sor version` tells which kernels run, and why; what a build warns of is shown with `-v`, by pip 26.3 `-vv`."""
    installed = tmp_path / "installed"
    told = run(tmp_path, "-m", "pip", "install", "-vv", "--no-deps", "--target", installed, sdist, CC="false")
    assert "sor._core was not compiled" in told
    libraries = os.pathsep.join([str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    version = run(tmp_path, "-S", "-m", "sor", "version", PYTHONPATH=libraries)  # -S: no way to the checkout
    assert "kernels: python (the compiled extension cannot be imported (" in version
    assert "$250,296.50" in run(tmp_path, "-S", "-m", "sor", "demo", PYTHONPATH=libraries)
