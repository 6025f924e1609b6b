"""Stops the Docker daemon that this checkout's set-up started; any other is left alone."""

from __future__ import annotations

from pathlib import Path

from frame import daemon

if __name__ == "__main__":
    daemon.stop(Path(__file__).resolve().parent.parent)
