"""Builds the Cython kernels; everything else about the package stands in pyproject.toml.

The extension is optional: without a working C compiler the package installs all the same and runs on its
pure-Python twin. ``SOR_REQUIRE_EXT=1`` makes a failed build an error, ``SOR_PURE_PYTHON=1`` skips it.
"""

import os
import warnings

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

REQUIRED = os.environ.get("SOR_REQUIRE_EXT") == "1"
PURE = os.environ.get("SOR_PURE_PYTHON") == "1"
KERNELS = {  # extension: its source; types for one that is Python stand in the .pxd of the extension's name
    "sor._core": "sor/_core.pyx",
    "sor._placement": "sor/_placement.pyx",
    "sor.backtest._market": "sor/backtest/_market_py.py",
    "sor.execution._routings": "sor/execution/_routings_py.py",
    "sor.execution._view": "sor/execution/_view_py.py",
    "sor.execution._worker": "sor/execution/_worker_py.py",
    "sor.market._messages": "sor/market/_messages_py.py",
    "sor.market._quotes": "sor/market/_quotes_py.py",
    "sor.market._rows": "sor/market/_rows_py.py",
    "sor.routing._many": "sor/routing/_many_py.py",
    "sor.routing._split": "sor/routing/_split_py.py",
}
SHARED = "sor._cyutility"  # Cython's own code for memoryviews, once and not in each kernel: half the time to compile

# The twins agree bit for bit only where the compiler neither fuses nor reorders floating-point operations.
FLAGS = (
    ["-O3", "-g0", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"]
    if os.name == "posix"
    else ["/O2", "/fp:precise"]
)

DIRECTIVES = {"annotation_typing": False, "cdivision": True}  # types come from the .pxd alone


class BuildKernels(build_ext):
    """Build kernels side by side, and turn a failed build of an optional one into one clear warning."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or True

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except (CCompilerError, ExecError, PlatformError) as error:
            if not ext.optional:
                raise
            warnings.warn(
                f"sor: {ext.name} was not compiled ({error}); the pure-Python twin will be used, "
                "with the same results, slower",
                stacklevel=1,
            )


def kernels() -> list[Extension]:
    if PURE:
        return []
    from Cython.Build import cythonize

    sources = [Extension(name, [source], extra_compile_args=FLAGS) for name, source in KERNELS.items()]
    sources.append(Extension(SHARED, [], extra_compile_args=FLAGS))  # cythonize() writes its source
    extensions: list[Extension] = cythonize(
        sources, language_level=3, compiler_directives=DIRECTIVES, shared_utility_qualified_name=SHARED
    )
    for extension in extensions:
        extension.optional = not REQUIRED  # cythonize() drops the flag when it is given before
    return extensions


setup(ext_modules=kernels(), cmdclass={"build_ext": BuildKernels})
