"""Packages detectors, poplar_ops and poptorch_host, with one C++ library built without torch.

The library has plain C entry points and is loaded by ctypes, so one binary serves every Python and
every torch: hence the wheel tag py3-none-<platform>. Without a C++17 compiler the packages install
all the same; the operators then run in plain torch.
"""

from __future__ import annotations

import os
import sys
from glob import glob
from typing import List, Tuple

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel  # setuptools 70.1 and later
except ImportError:
    from wheel.bdist_wheel import bdist_wheel

SOURCES = "poplar_ops/csrc/host"
SLOWER = """
poplar_ops was installed WITHOUT its compiled library ({reason}).
Everything works, but roi_align, nms and topk_select run in plain torch, ten times slower or more.
To build it: install a C++17 compiler (g++ 9, clang 10 or later), then `pip install .` again.
"""


class HostLibrary(build_ext):  # type: ignore[misc]  # setuptools has no types
    """Builds `poplar_ops/_host.so`: no Python in its name, and optional."""

    def get_ext_filename(self, fullname: str) -> str:
        """The library's path below the packages, without Python's version in it."""
        return os.path.join(*fullname.split(".")) + ".so"

    def run(self) -> None:
        """Build, or say once what is slower."""
        try:
            super().run()
        except Exception as error:  # distutils raises another class at each step that may fail
            sys.stderr.write(SLOWER.format(reason=error))

    def get_outputs(self) -> List[str]:
        """Only what exists: the library is optional."""
        return [path for path in super().get_outputs() if os.path.exists(path)]


class AnyPythonWheel(bdist_wheel):  # type: ignore[misc]  # as above
    """Tags the wheel for every Python 3 of this platform."""

    def get_tag(self) -> Tuple[str, str, str]:
        """The platform is all that the library depends on."""
        return "py3", "none", super().get_tag()[2]


setup(
    name="detectors",
    version="0.1.0",
    description="Object detection written for PopTorch, running on any machine",
    license="MIT",
    python_requires=">=3.8",
    packages=find_packages(
        include=["detectors", "detectors.*", "poplar_ops", "poptorch_host", "poptorch_host.*"]
    ),
    package_data={
        "poplar_ops": [
            "py.typed",
            "csrc/host/*",
            "csrc/ipu/*",
            "csrc/ipu/nms/*",
            "csrc/ipu/roi_align/*",
        ],
        "poptorch_host": ["py.typed"],
        "poptorch_host.capture": ["*.txt", "*.tsv"],
        "detectors": ["py.typed"],
    },
    ext_modules=[
        Extension(
            "poplar_ops._host",
            sources=sorted(glob(f"{SOURCES}/*.cpp")),
            depends=sorted(glob(f"{SOURCES}/*.h")),
            language="c++",
            extra_compile_args=[
                "-std=c++17",
                "-O3",
                "-g0",
                "-ffp-contract=off",  # a fused multiply-add would move boxes across the threshold
                "-fvisibility=hidden",
                "-Wall",
                "-Wextra",
            ],
            extra_link_args=["-pthread"],
            libraries=["dl"] if sys.platform == "linux" else [],
        )
    ],
    cmdclass={"build_ext": HostLibrary, "bdist_wheel": AnyPythonWheel},
    install_requires=[
        "torch>=2.0.1",
        "numpy>=1.24",
        "pillow>=9",
        "omegaconf>=2.3",
        "safetensors>=0.3",
        "rich>=12",
    ],
    extras_require={
        # 2.6.2 and 2.6.3 were malicious uploads (GHSA-w37p-236h-pfx3)
        "train": ["lightning>=2.3,!=2.6.2,!=2.6.3", "pycocotools>=2.0.6"],
        "coco": ["pycocotools>=2.0.6"],
        "timm": ["timm>=0.9"],
        "augment": ["albumentations>=1.4,<2.1", "opencv-python-headless<5"],
        "test": [
            "pytest>=7",
            "lightning>=2.3,!=2.6.2,!=2.6.3",
            "tensorboard>=2.10",
            "pycocotools>=2.0.6",
            "timm>=0.9",
            "albumentations>=1.4,<2.1",
            "opencv-python-headless<5",
        ],
        "peers": ["effdet>=0.4.1", "torchvision>=0.15.2", "faster-coco-eval>=1.6"],
        "lint": ["ruff", "mypy", "clang-format", "types-PyYAML"],
    },
)
