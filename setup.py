"""Builds what is written in C: the core of the delay line and the kernel of routing. The rest is in pyproject.toml."""

from setuptools import Extension, setup

CORE = "marsnet/links/core"
STRICT = ["-std=gnu11", "-O2", "-Wall", "-Wextra"]

setup(
    ext_modules=[
        Extension(
            "marsnet.links._core",
            sources=[f"{CORE}/{name}.c" for name in ("store", "pipeline", "train", "wire", "engine")],
            depends=[f"{CORE}/{name}.h" for name in ("store", "pipeline", "engine")],
            extra_compile_args=[*STRICT, "-pthread"],
            extra_link_args=["-pthread"],
        ),
        Extension(
            "marsnet.dtn.routing._kernel",
            sources=["marsnet/dtn/routing/kernel.c"],
            # Arrivals are the same to the bit on every machine: no multiply-add in one rounding.
            extra_compile_args=[*STRICT, "-ffp-contract=off"],
        ),
    ]
)
