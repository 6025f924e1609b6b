"""Builds the C core of the delay line; everything else is in pyproject.toml."""

from setuptools import Extension, setup

CORE = "marsnet/links/core"

setup(
    ext_modules=[
        Extension(
            "marsnet.links._core",
            sources=[f"{CORE}/{name}.c" for name in ("store", "pipeline", "train", "wire", "engine")],
            depends=[f"{CORE}/{name}.h" for name in ("store", "pipeline", "engine")],
            extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-pthread"],
            extra_link_args=["-pthread"],
        )
    ]
)
