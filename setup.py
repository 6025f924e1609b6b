"""Builds what is in C: delay line, routing, what keeps a warp guest in step. The rest is in pyproject.toml."""

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
        # Not for Python to import: QEMU loads it.
        Extension(
            "marsnet.worlds.warp._turns",
            sources=["marsnet/worlds/warp/turns.c"],
            extra_compile_args=[*STRICT, "-pthread"],
            extra_link_args=["-pthread"],
        ),
    ]
)
