"""Runs a controller: `python controllers/launcher.py SETTINGS [--stack os_ken|ryu] [--application MODULE]`.

os-ken has no manager program any more; this is all that is needed of one. It prints `listening` when switches can
connect.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

# Whoever waits for a switch's words would otherwise wake up every five seconds, once for each switch, to wait on.
_PATIENCE = 600.0
_ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run an application until the process is ended."""
    parser = argparse.ArgumentParser(description="Run a marsnet controller.")
    parser.add_argument("settings", type=Path, help="settings file that the lab wrote")
    parser.add_argument("--stack", choices=("os_ken", "ryu"), default="os_ken")
    parser.add_argument("--application", default="controllers.plan_forwarding", help="module of the application")
    arguments = parser.parse_args()
    sys.path[0] = str(_ROOT)
    os.environ["MARSNET_SDN_STACK"] = arguments.stack
    os.environ["MARSNET_CONTROLLER_SETTINGS"] = str(arguments.settings)
    # os-ken's default hub of native threads leaks two of them with every connection of a switch.
    os.environ.setdefault("OSKEN_HUB_TYPE", "eventlet")
    # A third of all that would be imported is for names that somebody else's server knows: nobody has such names here.
    os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Nothing of what is imported is garbage.
    gc.disable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)

    eventlet: Any = importlib.import_module("eventlet")
    eventlet.monkey_patch()
    wsgi: Any = importlib.import_module("eventlet.wsgi")
    if not hasattr(wsgi, "ALREADY_HANDLED"):
        # eventlet 0.30.3 dropped a name that Ryu 4.34 imports.
        wsgi.ALREADY_HANDLED = []

    from controllers import settings, stack  # noqa: PLC0415

    told = settings.read(arguments.settings)
    options = stack.part("cfg").CONF
    stack.part("controller.controller")
    options(
        args=["--ofp-listen-host=127.0.0.1", f"--ofp-tcp-listen-port={told.openflow_port}"], project=arguments.stack
    )
    options.set_override("socket_timeout", _PATIENCE)
    importlib.import_module(arguments.application)
    gc.freeze()
    gc.enable()
    stack.app_manager.AppManager.run_apps([f"{arguments.stack}.controller.ofp_handler", arguments.application])


if __name__ == "__main__":
    main()
