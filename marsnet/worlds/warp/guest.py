"""What runs inside the warp guest: the emulated world at rate 1, then the results go out.

Started by `agent` as `python3 -m marsnet.worlds.warp.guest`. It loads what of the node's image is marsnet itself, and
stops the machine when all that missions have in common is done; each mission goes on from there. Everything that is
to be known outside is a line of JSON on a virtual serial port.
"""

from __future__ import annotations

import gc
import io
import pickle
import sys
import tarfile
import time
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from marsnet.clock import parse_utc
from marsnet.worlds.emulated import run_emulated
from marsnet.worlds.foreign import templates
from marsnet.worlds.lab import prometheus
from marsnet.worlds.lab.spec import namespace_name
from marsnet.worlds.spec import EmulatedOptions, Outcome, RunSpec
from marsnet.worlds.warp import agent
from marsnet.worlds.warp.agent import Channel
from marsnet.worlds.warp.foreign_images import load_images
from marsnet.worlds.warp.recipe import NODE_IMAGE
from marsnet.worlds.warp.shell import looking_in
from marsnet.worlds.warp.wakers import Wakers

_LAB = "warp"
_RANDOMIZE = Path("/proc/sys/kernel/randomize_va_space")


def run_mission(channel: Channel, wakers: Wakers, order: dict[str, Any]) -> None:
    """Run the scenario as the emulated world does, and send out what it observed and left."""
    spec: RunSpec = pickle.loads((agent.FOLDER / "spec.pickle").read_bytes())  # noqa: S301 - the driver outside wrote it
    origin = time.monotonic() + (parse_utc(spec.plan.epoch).timestamp() - time.time())
    scraped = order["prometheus"] is not None
    options = EmulatedOptions(
        lab=_LAB,
        image=NODE_IMAGE,
        origin=origin,
        images=order["images"],
        metrics=scraped,
        prometheus=order["prometheus"],
        scrape=order["scrape"],
        archived_metrics=True,
        quiet=True,
        # The lab goes with the guest.
        keep=True,
        asleep=nullcontext if scraped and _asked_in_containers(spec) else agent.platform_asleep,
        packages=Path("/", agent.PACKAGES),
        pause=looking_in((agent.FOLDER / "moment").read_bytes(), spec.folder, channel.say),
        links=order["links"],
        datapath=order["datapath"],
    )
    parts: dict[str, object] = {}

    def tell(share: float, state: str) -> None:
        if "waiting for mission time" in state:
            parts["setup"] = wakers.end()
            wakers.begin()
        channel.say(share=share, state=state, guest=time.monotonic())

    outcome = run_emulated(spec, options, tell)
    if scraped:
        prometheus.archive(namespace_name(_LAB), spec.folder / prometheus.FOLDER)
    channel.say(wakers={**parts, "mission": wakers.end()})
    channel.send("outcome.json", TypeAdapter(Outcome).dump_json(outcome))
    channel.send("run.tar", _packed(spec.folder, "."))


def _asked_in_containers(spec: RunSpec) -> bool:
    """Whether metrics come of commands that the container daemon runs, which cannot sleep then."""
    found = templates(spec.topology).values()
    return any(t.manifest.metrics is not None and t.manifest.metrics.command is not None for t in found)


def _packed(folder: Path, name: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(folder, name)
    return packed.getvalue()


def _do(channel: Channel) -> None:
    # Programs at the same addresses each time: QEMU translates code by its address, and so once for all processes.
    _RANDOMIZE.write_text("0")
    agent.load_image(agent.FOLDER / "image.tar")
    channel.say(state="marsnet is loaded", guest=time.monotonic())
    gc.freeze()
    order: dict[str, Any] = agent.stop_until_resumed(channel)
    if order.get("images") is True:
        with agent.docker_client() as client:
            for done in load_images(client, agent.FOLDER / "images"):
                channel.say(state=done, guest=time.monotonic())
        order = agent.stop_until_resumed(channel)
    wakers = Wakers()
    wakers.begin()
    channel.say(state=f"the mission has come, seed {order['seed']}", guest=time.monotonic())
    run_mission(channel, wakers, order)


def main() -> int:
    """Do what is ordered; returns the exit code."""
    channel = Channel()
    try:
        _do(channel)
    except BaseException as error:
        channel.say(error=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
        channel.say(end=True)
        raise
    channel.say(end=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
