"""Every parser of octets or text that come from outside, with well-formed examples to start from.

A target takes any octets and returns; the errors that the parser documents are not let out. Whatever else comes out of
it, more memory than `allowance` or more time than `PATIENCE` is a fault. Both property tests and the coverage-guided
fuzzer run these.
"""

from __future__ import annotations

import io
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from marsnet.clock import MissionClock
from marsnet.dtn.apps.aap2 import Aap2Session, Adu, Configure
from marsnet.dtn.apps.aap2_schema import MESSAGES, Status
from marsnet.dtn.apps.contact_commands import commanded
from marsnet.dtn.apps.documents import KeyUpload, NewBundle, StreamAnswer
from marsnet.dtn.bpsec import Key, SecurityPolicy, SecurityRule
from marsnet.dtn.bpsec.asb import SecurityBlock
from marsnet.dtn.bpsec.types import SecurityError
from marsnet.dtn.bpv7 import (
    Bundle,
    BundleError,
    CreationTimestamp,
    Eid,
    ServiceClass,
    decode,
    decode_admin_record,
    encode,
    encode_status_report,
)
from marsnet.dtn.bpv7.admin import ReasonCode, StatusAssertion, StatusReport
from marsnet.dtn.bpv7.codec import decode_from
from marsnet.dtn.bpv7.fragment import Reassembler, fragment
from marsnet.dtn.bpv7.prefix import leading_fragment, read_primary_block
from marsnet.dtn.ltp import ConstantPeer, LtpConfig, LtpEngine, SessionId
from marsnet.dtn.ltp.aggregate import split_block
from marsnet.dtn.ltp.sdnv import SegmentError, decode_sdnv, encode_sdnv
from marsnet.dtn.ltp.segments import (
    CancelAckSegment,
    CancelSegment,
    DataSegment,
    Extension,
    ReportAckSegment,
    ReportSegment,
    decode_segment,
    encode_segment,
)
from marsnet.dtn.mtcp import FramingError, MtcpDeframer, StcpDeframer, mtcp_frame, stcp_frame
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.conditions import Conditions
from marsnet.dtn.node.config import ClockConfig, NodeConfig, load_config
from marsnet.dtn.node.ledger import MemoryLedger, parse_record
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.store.memory import MemoryStore
from marsnet.dtn.tcpcl import TcpclConfig, TcpclEngine
from marsnet.dtn.tcpcl.messages import (
    KEEPALIVE,
    MessageError,
    MessageReader,
    SessInit,
    encode_ack,
    encode_contact_header,
    encode_refuse,
    encode_reject,
    encode_segment_head,
    encode_sess_init,
    encode_term,
    transfer_length,
)
from marsnet.dtn.udpcl import DatagramError, from_datagram
from marsnet.errors import InputError
from marsnet.plan import csvplan, hdtn, ion, jsonplan
from marsnet.plan.files import write_plan_to
from marsnet.plan.types import Contact, ContactPlan, Range

PATIENCE = 5.0
"""Seconds that a target may take for a few kB on a busy machine: a hang takes for ever."""
BASE, PER_OCTET = 400_000, 400
"""Octets that a target may allocate at once, whatever the input's size, and for each octet of it. The first holds an
engine or a plan with a parser's buffers; the second, a Python object for each octet."""


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        run: parses octets.
        seeds: well-formed inputs.
        base: octets that it may allocate whatever the input's size.
    """

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    base: int = BASE

    def allowance(self, data: bytes) -> int:
        """Octets that it may allocate for an input."""
        return self.base + PER_OCTET * len(data)

    def check(self, data: bytes) -> None:
        """Run it on octets.

        Raises:
            AssertionError: it takes too long or too much memory.
        """
        begin = time.perf_counter()
        tracemalloc.start()
        try:
            self.run(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        took = time.perf_counter() - begin
        assert peak <= self.allowance(data), f"{peak} octets allocated for {len(data)}: {data[:200].hex()}"
        assert took < PATIENCE, f"{took:.1f} s for {len(data)} octets: {data[:200].hex()}"


def _bundle(data: bytes) -> None:
    try:
        bundle = decode(data)
    except BundleError:
        return
    assert encode(bundle) == data
    _ = (
        bundle.hop_count,
        bundle.bundle_age,
        bundle.service_class,
        bundle.previous_node,
        bundle.encrypted,
        str(bundle.id),
    )
    decode(encode(bundle.forwarded(Eid.ipn(9, 0), 1)) if bundle.hop_count is None else data)


def _block(data: bytes) -> None:
    position = 0
    try:
        while position < len(data):
            _, position = decode_from(data, position)
    except BundleError:
        return


def _beginning(data: bytes) -> None:
    for read in (leading_fragment, read_primary_block):
        try:
            bundle = read(data)
        except BundleError:
            continue
        _ = str(bundle.id) if bundle.blocks else (str(bundle.source), bundle.timestamp)


def _admin(data: bytes) -> None:
    try:
        decode_admin_record(data)
    except BundleError:
        return


def _eid(data: bytes) -> None:
    try:
        eid = Eid.from_cbor(data)
    except BundleError:
        return
    assert Eid.parse(str(eid)) == eid


def _eid_text(data: bytes) -> None:
    try:
        eid = Eid.parse(data.decode("utf-8", errors="replace"))
    except BundleError:
        return
    assert Eid.from_cbor(eid.cbor) == eid


def _security_block(data: bytes) -> None:
    try:
        block = SecurityBlock.decode(data)
    except SecurityError:
        return
    SecurityBlock.decode(block.encode())


_KEY = Key("key", bytes(range(32)))
_POLICY = SecurityPolicy([SecurityRule(integrity=_KEY, confidentiality=_KEY)])


def _secured_bundle(data: bytes) -> None:
    try:
        bundle = decode(data)
    except BundleError:
        return
    found = _POLICY.accept(bundle)
    assert found.failures or encode(found.bundle)


def _fragments(data: bytes) -> None:
    parts = Reassembler(max_bytes=1 << 20)
    position = 0
    try:
        while position < len(data):
            part, position = decode_from(data, position)
            parts.add(part, expiry=1.0)
    except BundleError:
        return


def _sdnv(data: bytes) -> None:
    try:
        value, end = decode_sdnv(data, 0)
    except SegmentError:
        return
    assert decode_sdnv(encode_sdnv(value), 0)[0] == value < 1 << 64
    assert end <= 10


def _segment(data: bytes) -> None:
    try:
        segment, end = decode_segment(data)
    except SegmentError:
        return
    assert decode_segment(encode_segment(segment))[0] == segment
    assert end <= len(data)


def _ltp_block(data: bytes) -> None:
    if data:
        try:
            split_block(1 + data[0] % 2, data[1:])
        except SegmentError:
            return


def _cuts(data: bytes) -> Iterator[bytes]:
    """The octets in pieces: two octets of length before each."""
    position = 0
    while position + 2 <= len(data):
        size = int.from_bytes(data[position : position + 2], "big")
        yield data[position + 2 : position + 2 + size]
        position += 2 + size


def _ltp_engine(data: bytes) -> None:
    engine = LtpEngine(2, LtpConfig(session_base=7, max_import_bytes=1 << 20), random.Random(1))
    engine.add_peer(1, ConstantPeer(mtu=300, owlt=1.0, rate=1e6))
    engine.send(1, bytes(1000), 0.0)
    for count, datagram in enumerate(_cuts(data)):
        engine.receive(datagram, float(count), 1)
        engine.advance(float(count))
        engine.take_datagrams()
        for event in engine.take_events():
            session = getattr(event, "session", None)
            if isinstance(session, SessionId):
                engine.confirm(session, float(count))


def _messages(data: bytes) -> None:
    reader = MessageReader()
    try:
        for octets in _cuts(data):
            reader.feed(octets)
            while reader.next() is not None:
                pass
    except MessageError:
        return


def _tcpcl_engine(data: bytes) -> None:
    engine = TcpclEngine(TcpclConfig("ipn:2.0", transfer_mru=1 << 20), active=False, now=0.0)
    engine.send(bytes(100), 0.0)
    for count, octets in enumerate(_cuts(data)):
        engine.receive(octets, float(count))
        engine.advance(float(count))
        engine.data_to_send(float(count))
        for event in engine.take_events():
            transfer = getattr(event, "transfer", None)
            if transfer is not None:
                engine.confirm(transfer, float(count))


def _deframer(kind: type[MtcpDeframer] | type[StcpDeframer]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        deframer = kind(1 << 20)
        try:
            for octets in _cuts(data):
                deframer.feed(octets)
        except FramingError:
            return

    return run


def _aap2(data: bytes) -> None:
    session = Aap2Session("ipn:3.0", 0.0, payload_limit=1 << 20)
    for count, octets in enumerate(_cuts(data)):
        session.receive(octets, float(count))
        for event in session.take_events():
            if isinstance(event, Configure):
                session.configured(event, float(count))
            elif isinstance(event, Adu):
                session.respond(Status.SUCCESS)
        session.take_output()


def _delimited(message: object) -> bytes:
    """A message of AAP 2.0 behind its length, which is below 128."""
    octets: bytes = message.SerializeToString()  # type: ignore[attr-defined]
    return bytes((len(octets),)) + octets


def _datagram(data: bytes) -> None:
    try:
        from_datagram(data)
    except DatagramError:
        return


def _plan(read: Callable[[str, Path], ContactPlan]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        try:
            read(data.decode("utf-8", errors="replace"), Path("plan"))
        except InputError:
            return

    return run


def _configuration(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("node.yaml", "node.json"):
            path = Path(folder, name)
            path.write_bytes(data)
            try:
                load_config(path)
            except InputError:
                continue


_HERE = NodeConfig.model_validate(
    {"name": "a", "number": 1, "neighbours": {"b": {"number": 2, "convergence": "mtcp", "address": "127.0.0.1"}}}
)
_EPOCH = "2026-10-01T00:00:00.000Z"
_PLAN = ContactPlan(
    _EPOCH,
    0.0,
    1000.0,
    {"a": 3, "b": 2},
    tuple(Contact("a-b", x, y, 0.0, 1000.0, 1e6) for x, y in (("a", "b"), ("b", "a"))),
    tuple(Range(x, y, 0.0, 1000.0, 0.1) for x, y in (("a", "b"), ("b", "a"))),
)
_NODE = NodeConfig.model_validate(
    {
        "name": "a",
        "number": 3,
        "numbers": _PLAN.nodes,
        "clock": {"epoch": _EPOCH, "rate": 1.0, "origin": 0.0},
        "plan": "plan.json",
        "neighbours": {"b": {}},
        "reports": {"enabled": True},
        "fragments": {"reactive": True},
        "tenants": {"science": {"sources": ["ipn:3.*"], "quota": 10_000}},
    }
)
_CLOCK = MissionClock("2026-10-01T00:00:00.000Z", 1.0, 0.0)
_NO_PLAN = ContactPlan("2026-10-01T00:00:00.000Z", 0.0, 1000.0, {"a": 1, "b": 2}, (), ())


def _contact_command(data: bytes) -> None:
    try:
        commanded(_NO_PLAN, data, _HERE, _CLOCK, 1.0)
    except InputError:
        return


def _documents(data: bytes) -> None:
    for kind in (NewBundle, StreamAnswer, KeyUpload, Conditions, ClockConfig):
        try:
            kind.model_validate_json(data)
        except ValidationError:
            continue


def _record(data: bytes) -> None:
    parse_record(data)


def _node(data: bytes) -> None:
    """The octets as an LTP block from a neighbour, to a node that does all it can with them."""
    agent = BundleAgent(_NODE, _PLAN, MemoryStore(), MemoryLedger(), NodeMetrics("a"), 0.0)
    block = DataSegment(3, SessionId(2, 5), 1, 0, data, 9, 0)
    agent.receive("b", encode_segment(block), 1.0)
    for now in (1.0, 2.0, 500.0):
        agent.advance(now)
        agent.take_datagrams()


def _framed(*pieces: bytes) -> bytes:
    return b"".join(len(piece).to_bytes(2, "big") + piece for piece in pieces)


def _example(**changes: Any) -> Bundle:
    fields: dict[str, Any] = {"age_ms": 5, "hop_limit": 30, "crc_type": 2} | changes
    return Bundle.create(
        Eid.ipn(3, 1), Eid.parse("dtn://x/y"), b"p" * 40, CreationTimestamp(812_000_000_000, 1), 1000, **fields
    )


def _plan_seeds(form: Any) -> tuple[bytes, ...]:
    plan = ContactPlan(
        "2026-10-01T00:00:00.000Z",
        0.0,
        1000.0,
        {"a": 1, "b": 2},
        (Contact("a-b", "a", "b", 1.0, 9.5, 1e6, loss=0.01), Contact("a-b", "b", "a", 2.0, 9.5, 1e6)),
        (Range("a", "b", 0.0, 1000.0, 800.5, 0.001), Range("b", "a", 0.0, 1000.0, 800.0)),
    )
    out = io.StringIO()
    write_plan_to(plan, out, form)
    return (out.getvalue().encode(),)


_SESSION = SessionId(1, 5)
_SEGMENTS = tuple(
    encode_segment(segment)
    for segment in (
        DataSegment(0, _SESSION, 1, 0, b"hello", 0, 0),
        DataSegment(3, _SESSION, 1, 5, b" world", 9, 0),
        DataSegment(4, _SESSION, 1, 300, b"green", 0, 0, (Extension(0, b"cookie"),)),
        ReportSegment(SessionId(2, 7), 3, 4, 1000, 0, ((0, 200), (400, 900))),
        ReportAckSegment(_SESSION, 77),
        CancelSegment(12, _SESSION, 3),
        CancelSegment(14, SessionId(2, 7), 3),
        CancelAckSegment(13, _SESSION),
    )
)
_TALK = (
    encode_contact_header(0),
    encode_sess_init(SessInit(30, 1 << 20, 1 << 63, "ipn:1.0")),
    encode_segment_head(2, 0, 5, (transfer_length(11),)) + b"hello",
    encode_segment_head(1, 0, 6) + b" world",
    encode_ack(3, 0, 100),
    encode_refuse(2, 0),
    KEEPALIVE,
    encode_reject(3, 1),
    encode_term(0, 1),
)
_BUNDLES = tuple(
    encode(bundle)
    for bundle in (
        _example(),
        _example(crc_type=1, service_class=ServiceClass.BULK).forwarded(Eid.ipn(4, 0), 6),
        _example(crc_type=0),
    )
)
_ADDRESSED = tuple(
    encode(
        Bundle.create(
            Eid.ipn(2, 1),
            Eid.parse(destination),
            payload,
            CreationTimestamp(844_128_000_000, number),
            10**6,
            crc_type=crc_type,
            flags=flags | 0x7C000,
            report_to=Eid.ipn(2, 0),
            age_ms=5,
        )
    )
    for number, (destination, payload, crc_type, flags) in enumerate(
        (
            ("ipn:3.7", b"p" * 40, 0, 0),
            ("ipn:2.7", b"p" * 40, 0, 0),
            ("ipn:9.7", b"p" * 40, 2, 0),
            ("dtn://a/x", b"p" * 40, 0, 0),
            ("ipn:3.0", b"p" * 40, 0, 0),
        )
    )
)
_FRAGMENTS = b"".join(map(encode, fragment(_example(), 15)))
_REPORT = encode_status_report(
    StatusReport.of(StatusAssertion.RECEIVED, _example().id, ReasonCode.NO_INFORMATION, 812_000_000_001)
)

TARGETS: dict[str, Target] = {
    "bundle": Target(_bundle, _BUNDLES),
    "bundles": Target(_block, (b"".join(_BUNDLES),)),
    "fragments": Target(_fragments, (_FRAGMENTS,)),
    "beginning of a bundle": Target(_beginning, (*_BUNDLES, _BUNDLES[0][:60], _FRAGMENTS[:80])),
    "node": Target(_node, (*_ADDRESSED, b"".join(_ADDRESSED), _FRAGMENTS), base=2_000_000),
    "administrative record": Target(_admin, (_REPORT,)),
    "endpoint": Target(_eid, tuple(Eid.parse(t).cbor for t in ("ipn:1.2", "dtn://a/b", "dtn:none", "ipn:7.1.2"))),
    "endpoint as text": Target(_eid_text, (b"ipn:1.2", b"ipn:7.1.2", b"dtn://a/b", b"dtn:none", b"dtn://g/~all")),
    "security block": Target(
        _security_block,
        tuple(
            block.data
            for block in _POLICY.protect(_example(), Eid.ipn(3, 0), entropy=bytes).blocks
            if block.type in (11, 12)
        ),
    ),
    "secured bundle": Target(
        _secured_bundle, (encode(_POLICY.protect(_example(), Eid.ipn(3, 0), entropy=bytes)), *_BUNDLES)
    ),
    "sdnv": Target(_sdnv, (encode_sdnv(5), encode_sdnv(1 << 40))),
    "ltp segment": Target(_segment, _SEGMENTS),
    "ltp block": Target(_ltp_block, (b"\0" + _BUNDLES[0] + _BUNDLES[1], b"\1\1" + _BUNDLES[0])),
    "ltp engine": Target(_ltp_engine, (_framed(*_SEGMENTS), _framed(b"".join(_SEGMENTS)))),
    "tcpcl messages": Target(_messages, (_framed(*_TALK), _framed(b"".join(_TALK)))),
    "tcpcl engine": Target(_tcpcl_engine, (_framed(*_TALK), _framed(b"".join(_TALK)))),
    "mtcp": Target(_deframer(MtcpDeframer), (_framed(b"".join(mtcp_frame(_BUNDLES[0]) + mtcp_frame(bytes(300)))),)),
    "stcp": Target(_deframer(StcpDeframer), (_framed(b"".join(stcp_frame(_BUNDLES[0])), b"\0\0\0\0"),)),
    "aap2": Target(
        _aap2,
        tuple(
            _framed(
                _delimited(MESSAGES["AAPMessage"](config={"endpoint_id": "ipn:3.5", "is_subscriber": subscriber})), call
            )
            for subscriber in (False, True)
            for call in (
                _delimited(MESSAGES["AAPMessage"](adu={"dst_eid": "ipn:4.7", "payload_length": 5})) + b"hello",
                _delimited(MESSAGES["AAPMessage"](keepalive={})),
                _delimited(MESSAGES["AAPResponse"](response_status=int(Status.SUCCESS))),
            )
        ),
    ),
    "udpcl": Target(_datagram, (_BUNDLES[0], b"\0\0\0\0")),
    "node configuration": Target(
        _configuration,
        (
            b"name: a\nnumber: 1\nlisten: {tcpcl: 127.0.0.1:4561}\nneighbours:\n  b: {number: 2, address: 127.0.0.1}\n",
            b'{"name": "a", "number": 1, "quota": 5000, "neighbours": {}}',
        ),
        base=4_000_000,
    ),
    "contact command": Target(
        _contact_command,
        (
            b'{"command": "ADD", "node_id": "ipn:2.0", "cla_addr": "mtcp:127.0.0.1:16162", "contact_list": '
            b'[{"start": 844128100, "end": 844128200, "data_rate": 1000}]}',
            b'{"command": "DELETE", "node_id": "ipn:2.0"}',
        ),
    ),
    "documents over HTTP": Target(
        _documents,
        (
            b'{"destination": "ipn:2.7", "payload": "aGVsbG8=", "flags": ["report_delivery"], "lifetime": 60}',
            b'{"acknowledge": "ipn:1.2/5-1"}',
            b'{"quota": 100, "drift": 0.5}',
            b'{"epoch": "2026-10-01T00:00:00.000Z", "rate": 1.0, "origin": 0.0}',
        ),
    ),
    "ledger": Target(_record, (b'{"t": 1.5, "node": "a", "step": "received", "bundle": "ipn:1.2/5-1", "peer": "b"}',)),
    "json plan": Target(_plan(jsonplan.read), _plan_seeds("json")),
    "csv plan": Target(_plan(csvplan.read), _plan_seeds("csv")),
    "ion plan": Target(_plan(ion.read), _plan_seeds("ion")),
    "hdtn plan": Target(_plan(hdtn.read), _plan_seeds("hdtn")),
}
"""By name."""


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Octets changed, removed, inserted, repeated, or numbers made extreme."""
    octets = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(octets) + 1)
        kind = draw.randrange(6)
        if kind == 0 and at < len(octets):
            octets[at] = draw.choice((0x00, 0x1B, 0x5B, 0x5F, 0x7F, 0x80, 0x9B, 0x9F, 0xBB, 0xFF, draw.randrange(256)))
        elif kind == 1:
            del octets[at : at + draw.randint(1, 8)]
        elif kind == 2:
            octets[at:at] = draw.randbytes(draw.randint(1, 8))
        elif kind == 3:
            octets[at:at] = octets[at : at + draw.randint(1, 40)] * draw.choice((1, 1, 50))
        elif kind == 4:
            octets[at : at + 8] = draw.choice((b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"9" * 30, b"1e999", b"-1", b"nan"))
        else:
            octets[at : at + 1] = draw.choice((b"[", b"{", b"\x81", b"\xd8", b'"', b"\n", b",")) * draw.choice(
                (1, 2000)
            )
    return bytes(octets)
