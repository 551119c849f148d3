"""The compiled kernel; everything else about the build stands in pyproject.toml."""

from setuptools import Extension, setup

KERNEL = "onnxpuma/mpc/ring/_ring"
PARTS = (
    "bytes",
    "cells",
    "deal",
    "fused",
    "gemm",
    "ids",
    "keyed",
    "keys",
    "kinds",
    "level",
    "levels",
    "long",
    "narrow",
    "packed",
    "product",
    "series",
    "steps",
    "thin",
    "threads",
    "tiles",
    "trees",
    "unpack",
    "vector",
    "words",
)

setup(
    ext_modules=[
        Extension(
            "onnxpuma.mpc.ring._ring",
            sources=[f"{KERNEL}.cpp"],
            depends=[f"{KERNEL}_{part}.hpp" for part in PARTS],
            extra_compile_args=["-O3", "-std=c++17", "-pthread", "-fvisibility=hidden", "-g0"],
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,  # without a compiler the package installs, and numpy does the work
        )
    ]
)
