"""The traffic that a node makes by itself: its flows, and the replies of its receivers."""

from __future__ import annotations

from marsnet.dtn.bpsec import SecurityError
from marsnet.dtn.bpv7 import Bundle, Eid, ServiceClass, encode
from marsnet.dtn.node.config import FlowConfig, NodeConfig, ReceiverConfig
from marsnet.dtn.node.keeping import Keeper
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.node.making import Maker
from marsnet.dtn.node.queues import Held
from marsnet.dtn.node.reasons import security_reason
from marsnet.dtn.node.traffic import BacklogSource, Offered, Source, TrafficSource, file_part
from marsnet.dtn.recipe import Recipe


class Flows:
    """The flows that begin at one node.

    Attributes:
        sources: where their bundles come from.
    """

    def __init__(self, config: NodeConfig, keeper: Keeper, maker: Maker, now: float) -> None:
        """Go on where the store says that each of them stood."""
        self._config, self._keeper, self._maker = config, keeper, maker
        self.sources: list[Source] = [self._source(flow, now) for flow in config.flows]

    def deadlines(self, now: float) -> list[float]:
        """Mission times of the next bundles; a backlog that may go on is not late."""
        return [max(at, now) for source in self.sources if (at := source.next_time) is not None]

    def adopt(self, source: Eid, key: int) -> None:
        """A bundle of an endpoint was in the store when the node began: a backlog counts it."""
        for each in self.sources:
            if isinstance(each, BacklogSource) and source == Eid.ipn(self._config.number, each.flow.service):
                each.adopt(key)

    def reply(self, receiver: ReceiverConfig, bundle: Bundle, now: float) -> None:
        """A receiver's reply, which becomes durable together with the delivery of what it answers."""
        if receiver.reply is None:
            return
        reply, name = receiver.reply, str(bundle.id)
        self._accept(
            Recipe(f"{receiver.flow}.reply/{name}", 0, reply.size),
            receiver.service,
            bundle.source,
            bundle.service_class if reply.service_class is None else ServiceClass[reply.service_class.upper()],
            bundle.lifetime_ms / 1000 if reply.lifetime is None else reply.lifetime,
            now,
            {
                "flow": f"{receiver.flow}.reply",
                "answers": name,
                **({"tenant": receiver.tenant} if receiver.tenant else {}),
            },
        )

    def generate(self, now: float) -> None:
        """Make the bundles that are due by `now`. Raises StorageFullError when the disk is full."""
        for source in self.sources:
            if (at := source.next_time) is None or at > now:
                continue
            flow = source.flow
            for offered in source.take(now):
                key = self._accept(
                    self._payload(flow, offered),
                    flow.service,
                    Eid.ipn(self._config.numbers[offered.destination], flow.service),
                    offered.priority,
                    flow.lifetime,
                    now,
                    {"flow": flow.name, **({"tenant": flow.tenant} if flow.tenant else {})},
                )
                if not source.stored(offered, key, now):
                    break
            self._keeper.store.put("flow", flow.name, source.index.to_bytes(8, "big"))

    @staticmethod
    def _payload(flow: FlowConfig, offered: Offered) -> bytes | Recipe:
        if flow.file is not None:
            return file_part(flow.file, offered.number, flow.size)
        return Recipe(flow.name, offered.number, offered.size)

    def _accept(
        self,
        content: bytes | Recipe,
        service: int,
        destination: Eid,
        priority: ServiceClass,
        lifetime: float,
        now: float,
        details: dict[str, object],
    ) -> int | None:
        """An application here sends a payload; returns its key in the store, None where there was no room."""
        source, data = Eid.ipn(self._config.number, service), bytes(content)
        try:
            bundle = self._maker.make(source, destination, data, lifetime, now, service_class=priority)
        except SecurityError as error:
            self._keeper.failures[security_reason(error.reason)] += 1
            return None
        details = {
            **details,
            "class": priority.name.lower(),
            "source": self._config.name,
            "destination": self._keeper.destination(bundle),
            "size": len(data),
            "lifetime": lifetime,
        }
        if isinstance(content, Recipe) and self._keeper.store.recipes is not None:
            self._keeper.store.recipes.note(bundle.key, content)
        stored = self._keeper.keep(bundle, encode(bundle), None, Step.ACCEPTED, details, now)
        return stored.key if isinstance(stored, Held) else None

    def _source(self, flow: FlowConfig, now: float) -> Source:
        index = int.from_bytes(self._keeper.store.get("flow", flow.name) or b"", "big")
        if flow.arrivals == "backlog":
            return BacklogSource(flow, index, now, self._keeper.forwarder.held)
        return TrafficSource(flow, self._config.seed, index=index, after=now)
