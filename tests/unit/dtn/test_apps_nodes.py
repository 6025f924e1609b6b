"""Applications at real node processes: HTTP, WebSocket, AAP 2.0 with uD3TN's clients, and kill -9 at bad moments."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from node_process import EPOCH, Node, line_plan, running
from openapi_spec_validator import validate
from oracle_venv import FOLDER, PYTHON, needs_oracles
from test_apps_aap2 import call

from marsnet import cli
from marsnet.client import AsyncNodeClient, NodeClient, RequestError
from marsnet.client.probe import Probe, ping, trace
from marsnet.dtn.apps.routes import ROUTES

pytestmark = pytest.mark.slow
SECRET = "the node's own secret"
NAMES = ["rover", "relay", "earth"]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Node]]:
    """Three nodes in a line, each with AAP 2.0 on a Unix socket and on TCP."""
    folder = tmp_path_factory.mktemp("line")
    secret = folder / "secret"
    secret.write_text(SECRET + "\n")

    def applications(address: str) -> dict[str, object]:
        return {"aap2": {"socket": "aap2.socket", "tcp": [address, 4242], "secret": str(secret)}}

    with running(folder, NAMES, reports={"enabled": True, "rate": 1000.0}, applications=applications) as nodes:
        yield nodes


def send(node: Node, destination: str, payload: bytes, **fields: object) -> dict[str, object]:
    body = {"destination": destination, "payload": base64.b64encode(payload).decode(), **fields}
    status, made = node.ask("POST", "/v1/bundles", body)
    assert status == 201, made
    return made  # type: ignore[no-any-return]


def take(node: Node, service: int, wait: float = 20.0) -> dict[str, object]:
    status, got = node.ask("GET", f"/v1/endpoints/{service}/next?wait={wait}")
    assert status == 200, got
    return got  # type: ignore[no-any-return]


def acknowledge(node: Node, service: int, bundle: object) -> tuple[int, dict[str, object]]:
    return node.ask("DELETE", f"/v1/endpoints/{service}/bundles/{quote(str(bundle), safe='')}")


# HTTP


def test_the_document_is_valid_and_names_every_route(line: dict[str, Node]) -> None:
    status, document = line["rover"].ask("GET", "/openapi.json")
    assert status == 200
    validate(document)
    assert document["openapi"] == "3.1.0"
    assert {(m.upper(), p) for p, ops in document["paths"].items() for m in ops} == {(r.method, r.path) for r in ROUTES}


def test_a_bundle_crosses_the_network_and_leaves_the_store_when_it_is_acknowledged(line: dict[str, Node]) -> None:
    rover, earth = line["rover"], line["earth"]
    made = send(rover, "earth.20", b"\x00\xffoctets", service_class="expedited", lifetime=500.0, service=3)
    got = take(earth, 20)
    assert (got["bundle"], got["source"], got["service_class"]) == (made["bundle"], "ipn:1.3", "expedited")
    assert base64.b64decode(str(got["payload"])) == b"\x00\xffoctets"
    assert (got["repeated"], got["created"], got["expires"]) == (False, made["created"], made["expires"])
    _, listing = earth.ask("GET", "/v1/bundles?state=delivering")
    assert [b["bundle"] for b in listing["bundles"]] == [made["bundle"]]
    assert acknowledge(earth, 20, got["bundle"]) == (200, {"bundle": got["bundle"], "first": True})
    assert acknowledge(earth, 20, got["bundle"]) == (200, {"bundle": got["bundle"], "first": False})
    assert earth.ask("GET", "/v1/bundles?state=delivering")[1] == {"bundles": [], "next": None}


def test_endpoints_have_names_too(line: dict[str, Node]) -> None:
    rover, earth = line["rover"], line["earth"]
    made = send(rover, "dtn://earth/inbox", b"by name")
    endpoint = quote("dtn://earth/inbox", safe="")
    status, got = earth.ask("GET", f"/v1/endpoints/{endpoint}/next?wait=20")
    assert (status, got["bundle"], got["destination"]) == (200, made["bundle"], "dtn://earth/inbox")
    path = f"/v1/endpoints/{endpoint}/bundles/{quote(str(made['bundle']), safe='')}"
    assert earth.ask("DELETE", path)[1]["first"] is True
    assert earth.ask("GET", f"/v1/endpoints/{quote('dtn://rover/inbox', safe='')}/next")[0] == 400


def test_a_client_that_was_idle_for_long_connects_again(line: dict[str, Node]) -> None:
    with NodeClient(line["rover"].url) as client:
        client.status()
        # What the node does to a connection on which nothing was asked for a while.
        assert client._connection.sock is not None
        client._connection.sock.shutdown(socket.SHUT_RD)
        assert client.send("earth.27", b"x").size == 1
    acknowledge(line["earth"], 27, take(line["earth"], 27)["bundle"])


def test_octets_are_sent_and_received_as_they_are(line: dict[str, Node]) -> None:
    rover, earth = line["rover"], line["earth"]
    payload = bytes(range(256)) * 4000
    octets = {"Content-Type": "application/octet-stream"}
    status, made = rover.ask("POST", "/v1/bundles?destination=ipn:3.21&flags=must_not_fragment", payload, octets)
    assert status == 201, made
    accept = {"Accept": "application/octet-stream"}
    status, got = earth.ask("GET", "/v1/endpoints/ipn%3A3.21/next?wait=20", headers=accept)
    assert (status, got) == (200, payload)
    assert acknowledge(earth, 21, made["bundle"])[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "problem"),
    [
        ("POST", "/v1/bundles", {"destination": "ipn:3.x"}, 400, "'ipn:3.x' is no endpoint ID"),
        ("POST", "/v1/bundles", {"destination": "ipn:3.9", "payload": "?"}, 400, "payload: no base64"),
        ("POST", "/v1/bundles", {"destination": "ipn:3.9", "lifetime": 0}, 400, "lifetime: Input should be greater"),
        ("POST", "/v1/bundles", {"destination": "ipn:3.9", "colour": 1}, 400, "colour: Extra inputs"),
        ("GET", "/v1/endpoints/0/next", None, 400, "no application can be at ipn:1.0"),
        ("GET", "/v1/endpoints/1/next", None, 400, "no application can be at ipn:1.1"),
        ("GET", "/v1/endpoints/7/next", None, 400, "no application can be at ipn:1.7"),
        ("GET", "/v1/endpoints/ipn%3A2.9/next", None, 400, "'ipn:2.9' is no endpoint of this node"),
        ("GET", "/v1/endpoints/9/next?wait=soon", None, 400, "wait: 'soon' is no number of seconds"),
        ("GET", "/v1/endpoints/9/next?wait=nan", None, 400, "wait: 'nan' is no number of seconds"),
        ("GET", "/v1/bundles?limit=0", None, 400, "limit: '0' is no whole number from 1"),
        ("GET", "/v1/bundles?state=lost", None, 400, "there is no state 'lost'"),
        ("GET", "/v1/forecast", None, 400, "destination is missing"),
        ("GET", "/v1/forecast?destination=ipn:99.1", None, 400, "no node is known at 'ipn:99.1'"),
        ("GET", "/v1/reports?bundle=x", None, 400, "'x' is no bundle ID"),
        ("GET", "/v1/plan?format=xml", None, 400, "unknown plan format 'xml'"),
        ("DELETE", "/v1/endpoints/9/bundles/ipn%3A1.1%2F1-1", None, 404, "no application at ipn:1.9 was handed"),
        ("DELETE", "/v1/keys/none", None, 404, "there is no key 'none'"),
        ("PUT", "/v1/keys/k", {"secret": "xyz"}, 400, "secret: String should match pattern"),
        ("GET", "/v1/nothing", None, 404, "Not Found"),
    ],
)
def test_what_is_wrong_is_said(
    line: dict[str, Node], method: str, path: str, body: dict[str, object] | None, status: int, problem: str
) -> None:
    got, answer = line["rover"].ask(method, path, body)
    assert got == status
    assert answer["error"]["problem"].startswith(problem)
    assert set(answer["error"]) == {"problem", "remedy", "line"}


def test_status_neighbours_endpoints_and_figures(line: dict[str, Node]) -> None:
    relay = line["relay"]
    _, status = relay.ask("GET", "/v1/status")
    assert (status["name"], status["node_id"], status["nodes"]) == (
        "relay",
        "ipn:2.0",
        {"rover": 1, "relay": 2, "earth": 3},
    )
    assert status["clock"]["epoch"] == EPOCH
    _, near = relay.ask("GET", "/v1/neighbours")
    assert [(n["name"], n["node_id"], n["contact"]) for n in near["neighbours"]] == [
        ("earth", "ipn:3.0", True),
        ("rover", "ipn:1.0", True),
    ]
    send(relay, "relay.33", b"to myself")
    assert {"endpoint": "ipn:2.33", "waiting": 1, "applications": 0} in relay.ask("GET", "/v1/endpoints")[1][
        "endpoints"
    ]
    acknowledge(relay, 33, take(relay, 33)["bundle"])
    figures = relay.ask("GET", "/metrics")[1].decode()
    assert 'marsnet_application_acknowledged_total{node="relay"}' in figures
    assert 'marsnet_aap2_connections{node="relay"} 0.0' in figures


def test_a_store_is_listed_page_by_page(line: dict[str, Node]) -> None:
    relay = line["relay"]
    sent = [send(relay, "relay.34", bytes([n]))["bundle"] for n in range(5)]
    seen: list[object] = []
    after = 0
    while True:
        _, page = relay.ask("GET", f"/v1/bundles?limit=2&after={after}&state=awaiting_delivery")
        seen += [bundle["bundle"] for bundle in page["bundles"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == sent
    for _ in sent:
        acknowledge(relay, 34, take(relay, 34)["bundle"])


def test_status_reports_come_to_the_node_that_asked(line: dict[str, Node]) -> None:
    rover, earth = line["rover"], line["earth"]
    flags = ["report_reception", "report_delivery", "status_time"]
    made = send(rover, "earth.22", b"x", flags=flags, report_to="ipn:1.0")
    acknowledge(earth, 22, take(earth, 22)["bundle"])
    found: list[tuple[str, str]] = []
    after = 0
    while ("earth", "delivered") not in found:
        query = f"bundle={quote(str(made['bundle']), safe='')}&after={after}&wait=20"
        _, answer = rover.ask("GET", f"/v1/reports?{query}")
        assert answer["reports"], found
        found += [(report["node"], report["assertion"]) for report in answer["reports"]]
        after = answer["reports"][-1]["number"]
        assert all(report["time"] >= made["created"] for report in answer["reports"])
    assert {("relay", "received"), ("earth", "received")} <= set(found)
    assert rover.ask("GET", f"/v1/reports?after={after}")[1]["reports"] == []


def test_a_forecast_adds_up_light_time_and_waits(line: dict[str, Node]) -> None:
    _, promise = line["rover"].ask("GET", "/v1/forecast?destination=earth.7&size=1000")
    assert [(h["source"], h["target"]) for h in promise["out"]["hops"]] == [("rover", "relay"), ("relay", "earth")]
    assert all(hop["light_time"] == pytest.approx(0.01) for hop in promise["out"]["hops"] + promise["back"]["hops"])
    assert promise["round_trip"] == pytest.approx(0.04 + 4 * 1120 * 8 / 1e7, rel=1e-3)


def test_a_bearer_token_guards_everything_but_the_description_and_the_figures(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with running(tmp_path / "n", ["rover"], applications={"token": str(token)}) as nodes:
        rover = nodes["rover"]
        for path in ("/v1/status", "/status", "/v1/plan", "/v1/endpoints/9/stream"):
            status, answer = rover.ask("GET", path)
            assert (status, answer["error"]["problem"]) == (401, "the bearer token is missing or wrong")
            assert rover.ask("GET", path, headers={"Authorization": "Bearer s3cre"})[0] == 401
        assert rover.ask("GET", "/openapi.json")[0] == rover.ask("GET", "/metrics")[0] == 200
        assert rover.ask("GET", "/v1/status", headers={"Authorization": "Bearer s3cret"})[0] == 200
        with NodeClient(rover.url) as client, pytest.raises(RequestError, match="bearer token"):
            client.status()
        with NodeClient(rover.url, token="s3cret") as client:
            assert client.status().name == "rover"


def test_keys_are_taken_replaced_and_dropped_but_never_shown(tmp_path: Path) -> None:
    rule = {"keys": {"old": {"hex": "00" * 32}}, "rules": [{"destination": "ipn:1.50", "integrity": "old"}]}
    with running(tmp_path, ["rover"], security=rule) as nodes:
        rover = nodes["rover"]
        secret = "ab" * 32
        assert rover.ask("PUT", "/v1/keys/fresh", {"secret": secret}) == (200, {"name": "fresh", "wraps": False})
        listed = {"keys": [{"name": "fresh", "wraps": False}, {"name": "old", "wraps": False}]}
        assert rover.ask("GET", "/v1/keys") == (200, listed)
        status, answer = rover.ask("DELETE", "/v1/keys/old")
        assert (status, answer["error"]["problem"]) == (400, "a rule uses key 'old'")
        file = rover.folder / "state" / "keys.json"
        assert file.stat().st_mode & 0o077 == 0
        rover.kill()
        rover.start()
        assert rover.ask("GET", "/v1/keys") == (200, listed)
        assert rover.ask("DELETE", "/v1/keys/fresh") == (204, b"")
        assert [key["name"] for key in rover.ask("GET", "/v1/keys")[1]["keys"]] == ["old"]
        said = [rover.ask("GET", path)[1] for path in ("/v1/keys", "/v1/status", "/status")]
        assert secret not in json.dumps(said)


# Plans at run time


def test_another_plan_opens_and_closes_ways_and_outlives_a_restart(tmp_path: Path) -> None:
    apart = line_plan(NAMES[:2], owlt=0.01)
    apart["contacts"] = [c | {"start": 9e5} for c in apart["contacts"]]
    together = line_plan(NAMES[:2], owlt=0.01)
    with running(tmp_path, NAMES[:2], plan=apart) as nodes:
        rover, relay = nodes["rover"], nodes["relay"]
        made = send(rover, "relay.9", b"waits")
        assert rover.ask("GET", "/v1/neighbours")[1]["neighbours"][0]["contact"] is False
        for broken, problem in (
            ("{", "malformed JSON"),
            (json.dumps(together | {"marsnet": "plan/9"}), "plan/9"),
            (json.dumps(together | {"ranges": []}), "has no range"),
            (json.dumps(together | {"contacts": [together["contacts"][0] | {"rate": "fast"}]}), "rate"),
        ):
            status, answer = rover.ask("PUT", "/v1/plan", broken.encode())
            assert status == 400
            assert problem in answer["error"]["problem"], answer
        assert rover.ask("GET", "/v1/neighbours")[1]["neighbours"][0]["contact"] is False
        for node in nodes.values():
            status, summary = node.ask("PUT", "/v1/plan", json.dumps(together).encode())
            assert (status, summary["contacts"]) == (200, 2)
        assert take(relay, 9)["bundle"] == made["bundle"]
        rover.kill()
        rover.start()
        assert rover.ask("GET", "/v1/neighbours")[1]["neighbours"][0]["contact"] is True
        _, text = rover.ask("GET", "/v1/plan?format=csv")
        assert b"rover" in text


def test_a_plan_is_extended_and_its_mistakes_are_placed(line: dict[str, Node]) -> None:
    relay = line["relay"]
    _, before = relay.ask("GET", "/v1/plan")
    more = {**before, "contacts": [{**before["contacts"][0], "start": 2e6, "end": 2.1e6}]}
    status, summary = relay.ask("POST", "/v1/plan", json.dumps(more).encode())
    assert (status, summary["contacts"]) == (200, len(before["contacts"]) + 1)
    other = json.dumps(more | {"epoch": "2030-01-01T00:00:00.000Z"})
    status, answer = relay.ask("POST", "/v1/plan", other.encode())
    assert (status, answer["error"]["problem"]) == (400, "the epoch is 2030-01-01T00:00:00.000Z")
    text = "a contact +0 +10 1 2 1000\n"
    status, answer = relay.ask("PUT", f"/v1/plan?format=ion&epoch={EPOCH}", (text + "a contact nonsense\n").encode())
    assert (status, answer["error"]["line"]) == (400, 2)
    assert relay.ask("PUT", "/v1/plan", json.dumps(before).encode())[0] == 200


# Delivery across kills


_TAKER = """
import base64, json, os, sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open(sys.argv[1] + "/v1/endpoints/9/next?wait=30&lease=" + sys.argv[2]) as answer:
    print(json.load(answer)["bundle"], flush=True)
sys.stdin.read()
"""


def test_an_application_killed_before_it_acknowledges_loses_nothing(tmp_path: Path) -> None:
    with running(tmp_path, ["rover"]) as nodes:
        rover = nodes["rover"]
        made = send(rover, "rover.9", b"once")
        taker = subprocess.Popen(
            [sys.executable, "-c", _TAKER, rover.url, "0.2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert taker.stdout is not None
        assert taker.stdout.readline().strip() == made["bundle"]
        taker.kill()
        taker.communicate()
        again = take(rover, 9)
        assert (again["bundle"], again["repeated"]) == (made["bundle"], True)
        assert acknowledge(rover, 9, made["bundle"])[1]["first"] is True
        assert rover.ask("GET", "/v1/endpoints/9/next")[0] == 204


def test_a_node_killed_between_delivery_and_acknowledgement_takes_the_acknowledgement_afterwards(
    tmp_path: Path,
) -> None:
    with running(tmp_path, ["rover"]) as nodes:
        rover = nodes["rover"]
        first, second = (send(rover, "rover.9", bytes([n]))["bundle"] for n in range(2))
        assert [take(rover, 9)["bundle"] for _ in range(2)] == [first, second]
        rover.kill()
        rover.start()
        assert acknowledge(rover, 9, first) == (200, {"bundle": first, "first": True})
        again = take(rover, 9)
        assert (again["bundle"], again["repeated"]) == (second, True)
        rover.kill()
        rover.start()
        again = take(rover, 9)
        assert (again["bundle"], again["repeated"]) == (second, True)
        assert acknowledge(rover, 9, second)[1]["first"] is True
        rover.kill()
        rover.start()
        assert acknowledge(rover, 9, first) == (200, {"bundle": first, "first": False})
        assert rover.ask("GET", "/v1/endpoints/9/next")[0] == 204
        steps = [json.loads(row) for row in (rover.folder / "state" / "ledger.jsonl").read_text().splitlines()]
        assert sorted(s["bundle"] for s in steps if s["step"] == "delivered") == sorted([first, second])


async def test_a_node_that_ends_takes_back_what_is_in_hands_and_keeps_nobody_waiting() -> None:
    # The path of a Unix socket has 107 octets at most (unix(7)), which a temporary folder of a test may exceed.
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        running(Path(folder), ["rover"], applications={"aap2": {"socket": "aap2.socket"}}) as nodes,
    ):
        rover = nodes["rover"]
        made = [send(rover, f"rover.{service}", b"x")["bundle"] for service in (9, 10, 11)]
        async with aiohttp.ClientSession() as session:
            stream = await session.ws_connect(f"{rover.url}/v1/endpoints/9/stream")
            assert (await stream.receive_json())["bundle"] == made[0]
            assert take(rover, 10)["bundle"] == made[1]
            reader, writer = await asyncio.open_unix_connection(rover.folder / "aap2.socket")
            writer.write(call(config={"endpoint_id": "ipn:1.11", "secret": "s", "is_subscriber": True}))
            await reader.readuntil(b"x")
            idle = [session.get(f"{rover.url}/v1/{path}?wait=3600") for path in ("endpoints/12/next", "reports")]
            waiting = [asyncio.ensure_future(request) for request in idle]
            while not any(e["endpoint"] == "ipn:1.12" for e in (rover.ask("GET", "/v1/endpoints")[1])["endpoints"]):
                await asyncio.sleep(0)
            before = time.monotonic()
            process = rover.process
            assert process is not None
            process.terminate()
            assert (await stream.receive()).type is aiohttp.WSMsgType.CLOSE
            assert await asyncio.to_thread(process.wait, 20) == 0
            assert time.monotonic() - before < 15
            await asyncio.gather(*waiting, return_exceptions=True)
            writer.close()
        assert "Traceback" not in (rover.folder / "stderr.txt").read_text()
        rover.start()
        for service, bundle in zip((9, 10, 11), made, strict=True):
            again = take(rover, service)
            assert (again["bundle"], again["repeated"]) == (bundle, True)


async def test_a_stream_goes_on_across_a_killed_node_and_shows_each_bundle_once(tmp_path: Path) -> None:
    with running(tmp_path, ["rover"]) as nodes:
        rover = nodes["rover"]
        async with AsyncNodeClient(rover.url) as client, client.stream(9, window=2) as stream:
            sent = [(await client.send("rover.9", bytes([n]))).bundle for n in range(4)]
            shown = [await stream.next(), await stream.next()]
            await shown[0].acknowledge()
            rover.kill()
            settled = asyncio.create_task(shown[1].acknowledge())
            await asyncio.to_thread(rover.start)
            await settled
            shown += [await stream.next(), await stream.next()]
            for bundle in shown[2:]:
                await bundle.acknowledge()
            assert [bundle.document.bundle for bundle in shown] == sent
            assert stream.connections == 2
            assert (await client.status()).store.bundles == 0


async def test_a_websocket_that_breaks_gives_its_bundles_back(line: dict[str, Node]) -> None:
    rover = line["rover"]
    made = send(rover, "rover.35", b"x")
    async with aiohttp.ClientSession() as session:
        url = f"{rover.url}/v1/endpoints/35/stream"
        for round_ in range(2):
            async with session.ws_connect(url) as socket:
                got = await socket.receive_json()
                assert (got["bundle"], got["repeated"]) == (made["bundle"], round_ > 0)
                # The connection is cut without a goodbye.
                assert socket._response.connection is not None
                socket._response.connection.transport.abort()  # type: ignore[union-attr]
        async with session.ws_connect(url) as socket:
            await socket.receive_json()
            for message, answer in (
                ("nonsense", "Invalid JSON"),
                ('{"acknowledge": "ipn:1.1/1-1"}', "no bundle ipn:1.1/1-1 was handed over here"),
                ("{}", "Value error, give either"),
            ):
                await socket.send_str(message)
                assert (await socket.receive_json())["error"]["problem"].startswith(answer)
            await socket.send_json({"release": made["bundle"]})
            assert (await socket.receive_json())["released"] == made["bundle"]
    taken = take(rover, 35)
    assert taken["bundle"] == made["bundle"]
    acknowledge(rover, 35, taken["bundle"])


async def test_a_stream_that_the_node_refuses_says_why(line: dict[str, Node]) -> None:
    async with AsyncNodeClient(line["rover"].url) as client:
        with pytest.raises(RequestError, match=r"no application can be at ipn:1\.1"):
            async with client.stream(1):
                pass


# The client, ping and trace


def test_the_blocking_client_sends_receives_and_acknowledges_as_it_goes(line: dict[str, Node]) -> None:
    with NodeClient(line["rover"].url) as rover, NodeClient(line["earth"].url) as earth:
        sent = [rover.send("earth.23", bytes([n])).bundle for n in range(3)]
        got = []
        for bundle in earth.deliveries(23, wait=20.0):
            got.append((bundle.bundle, bundle.data))
            if len(got) == 3:
                break
        assert got == [(name, bytes([n])) for n, name in enumerate(sent)]
        # The last one was not asked beyond, so it is not acknowledged.
        assert earth.acknowledge(23, sent[2]).first
        assert earth.receive(23) is None
        assert earth.forecast("rover").destination == "rover"


async def test_ping_and_trace_cross_two_hops(line: dict[str, Node]) -> None:
    async with AsyncNodeClient(line["rover"].url) as client:
        probes = await ping(client, "earth", count=3, interval=0.01, size=100)
        assert [(p.number, p.source, p.late) for p in probes] == [(n, "ipn:3.7", False) for n in (1, 2, 3)]
        assert all(p.expected == pytest.approx(0.0407, abs=0.001) for p in probes)
        traced = await trace(client, "earth")
        assert traced.delivered
        told = [(report.node, report.assertion) for report in traced.reports]
        assert set(told) == {
            ("rover", "forwarded"),
            ("relay", "received"),
            ("relay", "forwarded"),
            ("earth", "received"),
            ("earth", "delivered"),
        }
        assert (await ping(client, "ipn:3.99", count=1, timeout=0.05))[0].came is None


def test_the_commands_ping_trace_send_and_recv(
    line: dict[str, Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def marsnet(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["marsnet", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return (int(ended.value.code or 0), *capfd.readouterr())

    rover, earth = line["rover"].url, line["earth"].url
    code, said, _ = marsnet("ping", rover, "earth", "--count", "2", "--interval", "10 ms")
    assert code == 0
    assert "by the plan 40." in said
    assert "2 sent, 2 in time, 0 late, 0 missing" in said
    code, said, _ = marsnet("trace", rover, "earth", "--json")
    assert (code, json.loads(said)["delivered"]) == (0, True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe")))
    code, bundle, _ = marsnet("send", rover, "earth.24", "-", "--class", "critical")
    assert code == 0
    target = tmp_path / "got.bin"
    code, said, _ = marsnet("recv", earth, "24", "-o", str(target), "--timeout", "30 s", "--json")
    assert (code, target.read_bytes()) == (0, b"from a pipe")
    assert json.loads(said)["bundles"][0]["bundle"] == bundle.strip()
    code, _, told = marsnet("recv", earth, "24", "--timeout", "100 ms")
    assert (code, told) == (1, "marsnet: 0 of 1 bundles came in time\n")
    code, said, _ = marsnet("send", rover, "earth.7", str(target), "--confirm", "20 s")
    assert (code, said.split()[1]) == (0, "delivered")
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        assert marsnet("send", rover, "earth.25", str(tmp_path / name))[0] == 0
    assert marsnet("recv", earth, "25", "-c", "2", "-o", str(tmp_path / "many"), "--timeout", "30 s")[0] == 0
    assert sorted(file.read_text() for file in (tmp_path / "many").iterdir()) == ["a", "b"]
    assert marsnet("send", rover, "earth.26", str(tmp_path / "a"))[0] == 0
    assert marsnet("recv", earth, "26", "--timeout", "30 s")[:2] == (0, "a")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["ping", "http://127.0.0.1:9", "x"], 4, "no node answers at http://127.0.0.1:9"),
        (["ping", "http://127.0.0.1:9", "x", "--timeout", "5"], 2, "'5' is no time"),
        (["ping", "http://127.0.0.1:9", "x", "--class", "best"], 2, "there is no class 'best'"),
        (["ping", "https://127.0.0.1:9", "x"], 2, "is no URL of a node"),
        (["send", "http://127.0.0.1:9", "x.1", "absent"], 2, "cannot read 'absent'"),
        (["send", "http://127.0.0.1:9", "x.1", "absent", "--token", "none"], 2, "cannot read 'absent'"),
        (["recv", "http://127.0.0.1:9", "5", "--json"], 2, "both want standard output"),
        (["recv", "http://127.0.0.1:9", "5", "--token", "none"], 2, "the token cannot be read"),
        (["trace", "http://127.0.0.1:9", "x", "--timeout", "0 s"], 2, "'0 s' is no time to wait"),
    ],
)
def test_the_commands_say_what_is_wrong(
    arguments: list[str], code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["marsnet", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert told in capsys.readouterr().err


def test_an_answer_is_late_only_beyond_light_time_and_waits() -> None:
    assert not Probe(1, "b", 100.0, 1600.0, 1602.0).late
    assert not Probe(1, "b", 100.0, 1600.0, 1602.0, came=1701.9).late
    assert Probe(1, "b", 100.0, 1600.0, 1602.0, came=1702.1).late
    assert not Probe(1, "b", 100.0, None, float("inf"), came=9e9).late


async def test_a_ping_over_a_contact_that_opens_later_is_in_time_and_a_stopped_node_makes_it_late(
    tmp_path: Path,
) -> None:
    plan = line_plan(NAMES[:2], owlt=0.0)
    # At 20 mission seconds a second; the first contact opens some host seconds after the nodes are up.
    plan["contacts"] = [c | {"start": 120.0} for c in plan["contacts"]]
    with running(tmp_path, NAMES[:2], plan=plan, rate=20.0, hiccup=0.02) as nodes:
        async with AsyncNodeClient(nodes["rover"].url) as client:
            now = (await client.status()).clock.now
            (probe,) = await ping(client, "relay", count=1)
            assert probe.expected == pytest.approx(max(0.0, 120.0 - now), abs=20.0)
            assert not probe.late
            relay = nodes["relay"].process
            assert relay is not None
            relay.send_signal(signal.SIGSTOP)
            waiting = asyncio.create_task(ping(client, "relay", count=1, timeout=600.0))
            start = (await client.status()).clock.now
            while (now := (await client.status()).clock.now) < start + 10:
                await client.reports(wait=start + 10 - now)
            relay.send_signal(signal.SIGCONT)
            (probe,) = await waiting
            assert probe.late


# AAP 2.0 with the clients of ud3tn-utils


def ud3tn(command: str, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PYTHON), str(FOLDER / command), *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )


def receiving(*arguments: str) -> subprocess.Popen[str]:
    """aap2-receive, registered and waiting."""
    process = subprocess.Popen(
        [str(PYTHON), str(FOLDER / "aap2-receive"), "-v", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stderr is not None
    for told in process.stderr:
        if "Waiting for bundles" in told:
            return process
    raise AssertionError(process.communicate())


def by_socket(node: Node) -> tuple[str, str]:
    return "--socket", str(node.folder / "aap2.socket")


@needs_oracles
@pytest.mark.parametrize("size", [5, 100_000])
def test_aap2_send_and_receive(line: dict[str, Node], size: int) -> None:
    text = "m" * size
    receiver = receiving(*by_socket(line["earth"]), "-a", "42", "-c", "1", "--verify-pl", text, "-k", "1")
    sent = ud3tn("aap2-send", *by_socket(line["rover"]), "-a", "41", "ipn:3.42", text)
    assert sent.returncode == 0, sent.stderr
    out, err = receiver.communicate(timeout=60)
    assert (receiver.returncode, out) == (0, text), err
    assert "from 'ipn:1.41'" in err


@needs_oracles
def test_aap2_ping(line: dict[str, Node]) -> None:
    done = ud3tn("aap2-ping", *by_socket(line["rover"]), "ipn:3.7", "-c", "3", "-i", "0.05", "-t", "20")
    assert done.returncode == 0, done.stderr
    assert "received 3 of 3 sent" in done.stderr


@needs_oracles
def test_aap2_over_tcp(line: dict[str, Node]) -> None:
    host, port = line["earth"].config["applications"]["aap2"]["tcp"]
    receiver = receiving("--tcp", host, str(port), "-a", "43", "-c", "1")
    assert ud3tn("aap2-send", "--tcp", host, str(port), "ipn:3.43", "over TCP").returncode == 0
    assert receiver.communicate(timeout=60)[0] == "over TCP"


@needs_oracles
def test_aap2_secrets_guard_endpoints_and_other_peoples_names(line: dict[str, Node]) -> None:
    earth = by_socket(line["earth"])
    receiver = receiving(*earth, "-a", "44", "-c", "2", "--secret", "mine", "--newline")
    refused = ud3tn("aap2-send", *earth, "-a", "44", "--secret", "yours", "ipn:3.44", "no")
    assert refused.returncode != 0
    assert "invalid response status: 12" in refused.stderr
    assert ud3tn("aap2-send", *earth, "-a", "44", "--secret", "mine", "ipn:3.44", "yes").returncode == 0
    forged = ("-s", "ipn:9.9", "ipn:3.44", "forged")
    assert ud3tn("aap2-send", *earth, "-a", "45", "--secret", "guess", *forged).returncode != 0
    assert ud3tn("aap2-send", *earth, "-a", "45", "--secret", SECRET, *forged).returncode == 0
    out, err = receiver.communicate(timeout=60)
    assert out == "yes\nforged\n"
    assert "from 'ipn:9.9'" in err


@needs_oracles
def test_aap2_config_adds_contacts_to_the_plan_and_takes_them_away(line: dict[str, Node]) -> None:
    rover = line["rover"]
    place = "ltp:{}:1113".format(rover.config["neighbours"]["relay"]["address"])

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return ud3tn("aap2-config", *by_socket(rover), "--secret", SECRET, *arguments)

    before = rover.ask("GET", "/v1/plan")[1]
    done = command("ipn:2.0", place, "-s", "0", "60", "1000", "-s", "120", "30", "500")
    assert done.returncode == 0, done.stderr
    after = rover.ask("GET", "/v1/plan")[1]
    added = [contact for contact in after["contacts"] if contact not in before["contacts"]]
    assert sorted((c["source"], c["target"], round(c["end"] - c["start"]), c["rate"]) for c in added) == [
        ("relay", "rover", 30, 4000.0), ("relay", "rover", 60, 8000.0),
        ("rover", "relay", 30, 4000.0), ("rover", "relay", 60, 8000.0),
    ]  # fmt: skip
    assert command("ipn:2.0", "--delete").returncode == 0
    left = rover.ask("GET", "/v1/plan")[1]["contacts"]
    assert len(left) == len(before["contacts"])
    assert all(contact in before["contacts"] for contact in left)
    again = command("ipn:2.0", "--delete")
    assert again.returncode == 1
    assert "INVALID_REQUEST" in again.stderr


@needs_oracles
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("ipn:9.0", "mtcp:127.0.0.1:1", "-s", "1", "60", "1000"), "is no neighbour"),
        (("ipn:2.0", "mtcp:127.0.0.1:1", "-s", "1", "60", "1000"), "not at 'mtcp:127.0.0.1:1'"),
        (("ipn:2.0", "", "-r", "ipn:3.0", "-s", "1", "60", "1000"), "does not say when"),
        (("-q", "ipn:2.0"), "QUERY has no answer"),
    ],
)
def test_aap2_config_is_refused_where_a_plan_cannot_say_that(
    line: dict[str, Node], arguments: tuple[str, ...], why: str
) -> None:
    rover = line["rover"]
    place = "ltp:{}:1113".format(rover.config["neighbours"]["relay"]["address"])
    told = [argument or place for argument in arguments]
    done = ud3tn("aap2-config", *by_socket(rover), "--secret", SECRET, *told)
    assert done.returncode == 1
    assert "INVALID_REQUEST" in done.stderr
    assert why in (rover.folder / "stderr.txt").read_text()


@needs_oracles
def test_aap2_reports_and_encapsulated_bundles_are_marked(line: dict[str, Node]) -> None:
    rover, earth = by_socket(line["rover"]), by_socket(line["earth"])
    reports = receiving(*rover, "-a", "46", "-c", "1")
    sink = receiving(*earth, "-a", "47", "-c", "1")
    assert ud3tn("aap2-send", *rover, "-r", "ipn:1.46", "ipn:3.47", "report this").returncode == 0
    assert sink.communicate(timeout=60)[0] == "report this"
    assert "Received Status Report from" in reports.communicate(timeout=60)[1]
    inner = receiving(*earth, "-a", "48", "-c", "1")
    wrapped = ("--bibe-source", "ipn:5.5", "--bibe-destination", "ipn:6.6", "ipn:3.48", "inside")
    assert ud3tn("aap2-send", *rover, *wrapped).returncode == 0
    out, err = inner.communicate(timeout=60)
    assert (out, "Received encapsulated Bundle" in err) == ("inside", True)


@needs_oracles
def test_an_aap2_client_killed_before_it_answers_loses_nothing(line: dict[str, Node]) -> None:
    earth = line["earth"]
    code = (
        "import sys\nfrom ud3tn_utils.aap2 import AAP2UnixClient\n"
        "with AAP2UnixClient(sys.argv[1]) as client:\n"
        "    client.configure('49', subscribe=True)\n    print(client.receive_adu()[1].decode(), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    send(earth, "earth.49", b"precious")
    first = subprocess.Popen(
        [str(PYTHON), "-c", code, str(earth.folder / "aap2.socket")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "precious\n"
    first.kill()
    first.communicate()
    assert receiving(*by_socket(earth), "-a", "49", "-c", "1").communicate(timeout=60)[0] == "precious"
    assert earth.ask("GET", "/v1/endpoints/49/next")[0] == 204


@needs_oracles
def test_aap2_subscribers_of_links_are_told_of_contacts(line: dict[str, Node]) -> None:
    code = (
        "import sys\nfrom ud3tn_utils.aap2 import AAP2UnixClient, AuthType, LinkStatus, ResponseStatus\n"
        "with AAP2UnixClient(sys.argv[1]) as client:\n"
        "    client.configure(False, subscribe=True, secret=sys.argv[2], auth_type=AuthType.AUTH_TYPE_FIB_CONTROL)\n"
        "    for _ in range(2):\n"
        "        link = client.receive_msg().link\n"
        "        print(link.peer_node_id, link.status == LinkStatus.LINK_STATUS_UP, flush=True)\n"
        "        client.send_response_status(ResponseStatus.RESPONSE_STATUS_SUCCESS)\n"
    )
    command = [str(PYTHON), "-c", code, str(line["relay"].folder / "aap2.socket"), SECRET]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.splitlines()) == ["ipn:1.0 True", "ipn:3.0 True"]
