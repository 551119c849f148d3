"""The compiled kernel; everything else about the build stands in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "onnxpuma.mpc._ring",
            sources=["onnxpuma/mpc/_ring.cpp"],
            depends=["onnxpuma/mpc/_ring_gemm.hpp", "onnxpuma/mpc/_ring_words.hpp"],
            extra_compile_args=["-O3", "-std=c++17", "-pthread", "-fvisibility=hidden"],
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
    ]
)
