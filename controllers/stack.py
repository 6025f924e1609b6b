"""One set of names for os-ken and for Ryu, so that the same application runs on either.

The environment variable `MARSNET_SDN_STACK` (`os_ken` or `ryu`) decides; without it, the first one installed does.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any, TypeVar


def _choose() -> str:
    wanted = os.environ.get("MARSNET_SDN_STACK", "")
    for name in [wanted] if wanted else ["os_ken", "ryu"]:
        if importlib.util.find_spec(name) is not None:
            return name
    raise ImportError(f"no OpenFlow stack: {wanted or 'os_ken or ryu'} is not installed; pip install os-ken")


NAME = _choose()


def part(path: str) -> Any:
    """A module of the stack by its path below the stack's package."""
    return importlib.import_module(f"{NAME}.{path}")


# The order matters: os-ken's controller module imports itself in a circle unless the application manager comes first.
hub: Any = part("lib.hub")
app_manager: Any = part("base.app_manager")
ofp_event: Any = part("controller.ofp_event")
handler: Any = part("controller.handler")
ofproto: Any = part("ofproto.ofproto_v1_3")
App: Any = getattr(app_manager, "OSKenApp", None) or app_manager.RyuApp

Handler = TypeVar("Handler", bound=Callable[..., None])


def on(event: Any, *states: Any) -> Callable[[Handler], Handler]:
    """Mark a method as the handler of an event while a switch is in one of these states."""
    mark: Callable[[Handler], Handler] = handler.set_ev_cls(event, list(states))
    return mark
