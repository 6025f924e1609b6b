"""A run as OpenMetrics text on mission time, for `promtool tsdb create-blocks-from openmetrics`.

Everything follows from the ledger and the contact plan, so that both worlds give the same families: those of the nodes'
own metrics where there is one of that name, and what only hindsight knows. Samples lie on a grid of mission time, a
few hundred for a run; between them a series that does not change is repeated often enough for Prometheus to see it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from marsnet.clock import parse_utc
from marsnet.dtn.node.ledger import Record, Step
from marsnet.dtn.node.metrics import LATENCY_BUCKETS
from marsnet.plan.types import Contact
from marsnet.runs.judge import Judgement
from marsnet.runs.stays import stays
from marsnet.worlds.availability import real_contacts
from marsnet.worlds.spec import Outcome, RunSpec

_STEPS = (15.0, 30.0, 60.0, 120.0, 240.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0)
_MOST = 400
"""Samples of a series, unless the run is longer than that many days."""
_SEEN_FOR = 240.0
"""Seconds after which an unchanged sample is repeated: Prometheus looks back five minutes by default."""

Labels = tuple[tuple[str, str], ...]
Values = NDArray[np.float64]


def grid(duration: float) -> tuple[float, ...]:
    """Mission times of the samples: 0, then every step, then the end of the run.

    The step is 15 s to a day, the smallest of a series of round ones that needs at most some 400 samples.
    """
    step = next((s for s in _STEPS if duration / s <= _MOST), _STEPS[-1])
    return (*(step * i for i in range(math.ceil(duration / step))), duration)


def write_openmetrics(path: Path, spec: RunSpec, outcome: Outcome, judgement: Judgement) -> None:
    """Write a run's metrics; timestamps are seconds of mission UTC since 1970."""
    times = grid(outcome.elapsed)
    text = _Text(parse_utc(spec.plan.epoch).timestamp(), times)
    steps, classes = np.array(times), {name: life.service_class for name, life in judgement.lives.items()}
    _bundles(text, steps, outcome.records, classes)
    _stores(text, steps, outcome.records, judgement)
    _traffic(text, steps, outcome.records, judgement)
    _links(text, times, spec, outcome)
    _latency(text, steps, judgement)
    path.write_text(text.finished(), encoding="utf-8")


class _Text:
    """Lines of OpenMetrics: families, and in each the samples of one series after those of another."""

    def __init__(self, epoch: float, times: Sequence[float]) -> None:
        self._lines: list[str] = []
        self._times = times
        self._stamps = [f"{epoch + time:.3f}" for time in times]

    def family(self, name: str, kind: str, text: str, unit: str = "") -> None:
        self._lines += [f"# TYPE {name} {kind}", f"# HELP {name} {text}"]
        if unit:
            self._lines.append(f"# UNIT {name} {unit}")

    def series(self, name: str, labels: Labels, values: Iterable[float]) -> None:
        """One series; a value that does not change is repeated only as often as needed."""
        head = name + _inside(labels)
        previous, shown_at = math.nan, -math.inf
        for time, stamp, value in zip(self._times, self._stamps, values, strict=True):
            if value != previous or time - shown_at >= _SEEN_FOR:
                self._lines.append(f"{head} {_number(value)} {stamp}")
                previous, shown_at = value, time
        if shown_at < self._times[-1]:
            self._lines.append(f"{head} {_number(previous)} {self._stamps[-1]}")

    def histogram(self, name: str, labels: Labels, buckets: Mapping[str, Values], total: Values) -> None:
        """One histogram: buckets, count and sum whenever something was observed, and often enough in between."""
        heads = [f"{name}_bucket{_inside((*labels, ('le', bound)))}" for bound in buckets]
        inside = _inside(labels)
        counts = [values.tolist() for values in buckets.values()]
        previous, shown_at = -1.0, -math.inf
        for index, (time, stamp) in enumerate(zip(self._times, self._stamps, strict=True)):
            count = counts[-1][index]
            if count == previous and time - shown_at < _SEEN_FOR and index < len(self._times) - 1:
                continue
            previous, shown_at = count, time
            self._lines += [f"{head} {_number(c[index])} {stamp}" for head, c in zip(heads, counts, strict=True)]
            self._lines.append(f"{name}_count{inside} {_number(count)} {stamp}")
            self._lines.append(f"{name}_sum{inside} {_number(float(total[index]))} {stamp}")

    def finished(self) -> str:
        return "\n".join([*self._lines, "# EOF", ""])


def _inside(labels: Labels) -> str:
    escaped = ((name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels)
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _counted(times: Sequence[float], steps: Values) -> Values:
    """How many of the times, which are in order, lie at or before each step."""
    return np.searchsorted(np.array(times), steps, side="right").astype(np.float64)


def _summed(events: Sequence[tuple[float, float]], steps: Values) -> Values:
    """The sum of the amounts up to each step, of events in order of time."""
    sums = np.concatenate(([0.0], np.cumsum([amount for _, amount in events])))
    summed: Values = sums[np.searchsorted(np.array([time for time, _ in events]), steps, side="right")]
    return summed


def _bundles(text: _Text, steps: Values, records: Iterable[Record], classes: Mapping[str, str]) -> None:
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for record in sorted(records, key=lambda r: r.time):
        service_class = classes.get(record.bundle) or str(record.details.get("class", "unknown"))
        found[record.node, str(record.step), service_class].append(record.time)
    text.family("marsnet_bundles", "counter", "Steps in the lives of bundles.")
    for (node, event, service_class), times in sorted(found.items()):
        labels = (("node", node), ("event", event), ("class", service_class))
        text.series("marsnet_bundles_total", labels, _counted(times, steps))


def _stores(text: _Text, steps: Values, records: Iterable[Record], judgement: Judgement) -> None:
    bundles: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    octets: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    queues: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for stay in stays(records):
        life = judgement.lives.get(stay.whole)
        if life is None:
            continue
        first, last = life.part(stay.bundle)
        at: Labels = (("node", stay.node),)
        queue: Labels = (*at, ("neighbour", stay.neighbour), ("class", life.service_class))
        for kind, labels, amount in ((bundles, at, 1.0), (octets, at, float(last - first)), (queues, queue, 1.0)):
            kind[labels] += [(stay.begin, amount), (stay.end, -amount)]
    for name, help_text, unit, kind in (
        ("marsnet_store_bundles", "Bundles in the store.", "", bundles),
        ("marsnet_store_bytes", "Payload of bundles in the store.", "bytes", octets),
        (
            "marsnet_queue_bundles",
            "Bundles in the store that this neighbour took later; nobody's are those that ended here, or stay.",
            "",
            queues,
        ),
    ):
        text.family(name, "gauge", help_text, unit)
        for labels, events in sorted(kind.items()):
            text.series(name, labels, _summed(sorted(events, key=lambda event: event[0]), steps))


def _traffic(text: _Text, steps: Values, records: Iterable[Record], judgement: Judgement) -> None:
    """What each direction of a link carried."""
    carried: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for record in sorted(records, key=lambda r: r.time):
        life, peer = judgement.lives.get(record.bundle), record.details.get("peer")
        if record.step == Step.RECEIVED and life is not None and peer:
            labels: Labels = (("source", str(peer)), ("target", record.node), ("class", life.service_class))
            carried[labels].append((record.time, float(life.size)))
    for name, text_, unit in (
        ("marsnet_carried_bundles", "Bundles that the target took from the source.", ""),
        ("marsnet_carried_bytes", "Payload of bundles that the target took from the source.", "bytes"),
    ):
        text.family(name, "counter", text_, unit)
        for labels, events in sorted(carried.items()):
            values = _summed(events, steps) if unit else _counted([time for time, _ in events], steps)
            text.series(f"{name}_total", labels, values)


def _links(text: _Text, times: Sequence[float], spec: RunSpec, outcome: Outcome) -> None:
    """Whether contacts were open, less the faults, and at which rate."""
    contacts: dict[tuple[str, str], list[Contact]] = {pair: [] for pair in spec.plan.pairs()}
    for contact in real_contacts(spec.plan, outcome.incidents):
        contacts[contact.source, contact.target].append(contact)
    rates = {}
    for pair, own in sorted(contacts.items()):
        own.sort(key=lambda contact: contact.start)
        starts = [contact.start for contact in own]
        at = [bisect_right(starts, time) - 1 for time in times]
        rates[pair] = [own[i].rate if i >= 0 and time < own[i].end else 0.0 for i, time in zip(at, times, strict=True)]
    text.family("marsnet_contact_open", "gauge", "1 while what leaves can really arrive.")
    for (source, target), values in rates.items():
        text.series(
            "marsnet_contact_open", (("node", source), ("neighbour", target)), [float(value > 0) for value in values]
        )
    text.family("marsnet_link_rate_bits_per_second", "gauge", "Rate of the transmitter; 0 without a contact.")
    for (source, target), values in rates.items():
        text.series("marsnet_link_rate_bits_per_second", (("source", source), ("target", target)), values)


def _latency(text: _Text, steps: Values, judgement: Judgement) -> None:
    """Latency of what was delivered so far, and the light time that bounds it."""
    name = "marsnet_bundle_latency_seconds"
    arrived: dict[Labels, list[tuple[float, float, float]]] = defaultdict(list)
    for life in judgement.lives.values():
        if life.delivered is not None:
            light = judgement.light.between(life.source, life.destination, life.created)
            at: Labels = (("node", life.destination), ("class", life.service_class))
            arrived[at].append((life.delivered, life.delivered - life.created, light))
    text.family(name, "histogram", "Mission seconds from creation to delivery.", "seconds")
    for labels, events in sorted(arrived.items()):
        events.sort()
        buckets = {
            f"{float(bound)}": _counted([time for time, late, _ in events if late <= bound], steps)
            for bound in LATENCY_BUCKETS
        }
        buckets["+Inf"] = _counted([time for time, *_ in events], steps)
        text.histogram(name, labels, buckets, _summed([(time, late) for time, late, _ in events], steps))
    total = "marsnet_bundle_light_time_seconds"
    text.family(total, "counter", "Light time of what was delivered, summed; to be set beside the latency.", "seconds")
    for labels, events in sorted(arrived.items()):
        text.series(f"{total}_total", labels, _summed([(time, light) for time, _, light in events], steps))
