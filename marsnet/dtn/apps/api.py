"""The HTTP interface of a node for applications and operators. What it offers is the table in `routes`."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web
from pydantic import BaseModel, ValidationError

from marsnet import __version__
from marsnet.dtn.apps import documents as d
from marsnet.dtn.apps import openapi
from marsnet.dtn.apps.config import ApplicationsConfig
from marsnet.dtn.apps.leases import Leases
from marsnet.dtn.apps.plans import extended, plan_text, read_plan_text
from marsnet.dtn.apps.registry import Delivery
from marsnet.dtn.apps.routes import OCTETS, OPEN, ROUTES
from marsnet.dtn.apps.submission import Submission, SubmissionError
from marsnet.dtn.apps.views import accepted, forecast, neighbours, received, report, status, stored
from marsnet.dtn.bpsec import SecurityError
from marsnet.dtn.bpv7 import BundleError, BundleFlags, BundleId, Eid, ServiceClass
from marsnet.dtn.node.gateway import Gateway
from marsnet.dtn.node.identity import delivery_keys
from marsnet.dtn.store import BundleState
from marsnet.errors import InputError

_HEARTBEAT = 30.0
"""Host seconds between pings on a WebSocket; a peer that does not answer in half of it is gone."""
_FAREWELL = 1.0
"""Host seconds that a client gets to close its end when the node ends."""
_PAGE = 1000
_WINDOW = 1024
_ROOM = 1 << 16
"""Octets of a request beside its payload."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiError(Exception):
    """A request that cannot be served.

    Attributes:
        status: of HTTP.
        document: what was wrong.
    """

    def __init__(self, status: int, problem: str, remedy: str = "", line: int | None = None) -> None:
        self.status = status
        self.document = d.Failure(error=d.Problem(problem=problem, remedy=remedy, line=line))
        super().__init__(problem)


class NodeApi:
    """The interface of one node."""

    def __init__(
        self,
        config: ApplicationsConfig,
        token: bytes | None,
        gateway: Callable[[], Gateway | None],
        metrics: Callable[[], bytes],
    ) -> None:
        """Prepare.

        Args:
            config: its limits.
            token: that requests must bear; None for none.
            gateway: the running node; None while it waits for its clock.
            metrics: text for Prometheus.
        """
        self._config, self._token, self._gateway, self._metrics = config, token, gateway, metrics
        self._leases = Leases()
        self._sockets: set[web.WebSocketResponse] = set()
        self._document: dict[str, Any] | None = None

    def application(self) -> web.Application:
        """Its routes, and errors as JSON; other routes may be added to it."""
        largest = max(self._config.payload * 4 // 3 + _ROOM, 64 << 20)
        app = web.Application(middlewares=[self._guard], client_max_size=largest)
        for route in ROUTES:
            app.router.add_route(route.method, route.handler_path, getattr(self, f"on_{route.operation}"))
        app.on_shutdown.append(self._close)
        return app

    async def _close(self, app: web.Application) -> None:
        self._leases.close()
        farewells = [socket.close(code=WSCloseCode.GOING_AWAY, message=b"the node ends") for socket in self._sockets]
        await asyncio.gather(*farewells, return_exceptions=True)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Ask for the token, and turn errors into answers."""
        try:
            self._authorise(request)
            return await handler(request)
        except ApiError as error:
            return _json(error.document, error.status)
        except InputError as error:
            return _json(d.Failure(error=d.Problem(problem=error.problem, remedy=error.remedy, line=error.line)), 400)
        except BundleError as error:
            return _json(d.Failure(error=d.Problem(problem=str(error))), 400)
        except SecurityError as error:
            problem = d.Problem(problem=str(error), remedy="give the key that the node's security rules ask for")
            return _json(d.Failure(error=problem), 409)
        except SubmissionError as error:
            problem = d.Problem(problem=str(error), remedy="wait until bundles have left, or raise the node's quota")
            return _json(d.Failure(error=problem), 507)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            problem = d.Problem(problem=f"{place}: {first['msg']}", remedy="see /openapi.json for what it takes")
            return _json(d.Failure(error=problem), 400)
        except web.HTTPRequestEntityTooLarge:
            problem = d.Problem(
                problem="the body is too large", remedy=f"send at most {self._config.payload} octets of payload"
            )
            return _json(d.Failure(error=problem), 413)
        except web.HTTPException as error:
            problem = d.Problem(problem=error.reason, remedy="see /openapi.json for what there is")
            return _json(d.Failure(error=problem), error.status)

    def _authorise(self, request: web.Request) -> None:
        if self._token is None or request.path in OPEN:
            return
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), b"Bearer " + self._token):
            raise ApiError(401, "the bearer token is missing or wrong", "send 'Authorization: Bearer TOKEN'")

    @property
    def _node(self) -> Gateway:
        gateway = self._gateway()
        if gateway is None:
            raise ApiError(
                409, "the node waits for its mission clock", "PUT /clock, or give 'clock' in its configuration"
            )
        return gateway

    # The node

    async def on_describe(self, request: web.Request) -> web.Response:
        if self._document is None:
            self._document = openapi.document(ROUTES, __version__)
        return web.json_response(self._document)

    async def on_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), content_type="text/plain", charset="utf-8")

    async def on_status(self, request: web.Request) -> web.Response:
        return _json(status(self._node))

    async def on_neighbours(self, request: web.Request) -> web.Response:
        return _json(d.Neighbours(neighbours=neighbours(self._node)))

    async def on_store(self, request: web.Request) -> web.Response:
        node = self._node
        after, limit = _integer(request, "after", 0), min(_integer(request, "limit", 100, least=1), _PAGE)
        state = request.query.get("state")
        states = tuple(BundleState)
        if state is not None:
            if state.upper() not in BundleState.__members__:
                known = ", ".join(s.name.lower() for s in BundleState)
                raise ApiError(400, f"there is no state {state!r}", f"choose one of {known}")
            states = (BundleState[state.upper()],)
        page = node.agent.store.page(after, limit, states)
        bundles = tuple(stored(node, record) for record in page)
        return _json(d.StoreListing(bundles=bundles, next=bundles[-1].key if len(bundles) == limit else None))

    # Bundles of applications

    async def on_send(self, request: web.Request) -> web.Response:
        node = self._node
        if request.content_type == OCTETS:
            fields: dict[str, Any] = dict(request.query)
            if "flags" in fields:
                fields["flags"] = tuple(filter(None, fields["flags"].split(",")))
            wish = d.NewBundle.model_validate(fields)
            payload = await request.read()
        else:
            wish = d.NewBundle.model_validate_json(await request.read())
            try:
                payload = base64.b64decode(wish.payload, validate=True)
            except ValueError:
                raise ApiError(400, "payload: no base64", f"encode it, or send it as {OCTETS}") from None
        if len(payload) > self._config.payload:
            raise ApiError(
                413, f"a payload of {len(payload)} octets", f"send at most {self._config.payload}, in several bundles"
            )
        flags = BundleFlags(0)
        for flag in wish.flags:
            flags |= BundleFlags[flag.upper()]
        bundle = await node.submit(
            Submission(
                node.destination(wish.destination),
                payload,
                Eid.ipn(node.node_id.node, wish.service or 0),
                wish.lifetime,
                ServiceClass[wish.service_class.upper()],
                None if wish.report_to is None else node.destination(wish.report_to),
                int(flags),
            )
        )
        return _json(accepted(node, bundle), 201)

    async def on_endpoints(self, request: web.Request) -> web.Response:
        rows = self._node.agent.local.applications.endpoints()
        found = tuple(d.Endpoint(endpoint=name, waiting=count, applications=apps) for name, count, apps in rows)
        return _json(d.Endpoints(endpoints=found))

    async def on_receive(self, request: web.Request) -> web.StreamResponse:
        node = self._node
        endpoint = node.endpoint(request.match_info["endpoint"], receiving=True)
        lease = _number(request, "lease", 60.0)
        delivery = await self._leases.next(node, endpoint, _number(request, "wait", 0.0), lease)
        if delivery is None:
            return web.Response(status=204)
        found = received(node, delivery)
        if request.headers.get("Accept", "").partition(";")[0].strip() == OCTETS:
            headers = {"Marsnet-Bundle": found.bundle, "Marsnet-Source": found.source}
            headers["Marsnet-Repeated"] = "true" if found.repeated else "false"
            return web.Response(body=delivery.content.payload, content_type=OCTETS, headers=headers)
        return _json(found)

    async def on_acknowledge(self, request: web.Request) -> web.Response:
        node = self._node
        endpoint = node.endpoint(request.match_info["endpoint"], receiving=True)
        bundle = request.match_info["bundle"]
        delivery_keys(bundle)
        first = await node.confirm(endpoint, bundle)
        if first is None:
            raise ApiError(404, f"no application at {endpoint} was handed {bundle}", "acknowledge what you received")
        self._leases.end(str(endpoint), bundle)
        return _json(d.Acknowledged(bundle=bundle, first=first))

    async def on_stream(self, request: web.Request) -> web.StreamResponse:
        node = self._node
        endpoint = node.endpoint(request.match_info["endpoint"], receiving=True)
        window = min(_integer(request, "window", 1, least=1), _WINDOW)
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT, max_msg_size=_ROOM, timeout=_FAREWELL)
        await socket.prepare(request)
        queue: asyncio.Queue[Delivery | d.Document] = asyncio.Queue()
        attachment = node.attach(endpoint, "websocket", queue.put_nowait, window)

        async def write() -> None:
            while True:
                item = await queue.get()
                body = received(node, item) if isinstance(item, Delivery) else item
                await socket.send_str(body.model_dump_json(by_alias=True))

        writer = asyncio.create_task(write())
        self._sockets.add(socket)
        try:
            async for message in socket:
                if message.type != WSMsgType.TEXT:
                    break
                queue.put_nowait(
                    await self._stream_message(node, endpoint, attachment_of=attachment, text=message.data)
                )
        finally:
            self._sockets.discard(socket)
            writer.cancel()
            node.detach(attachment)
        return socket

    async def _stream_message(self, node: Gateway, endpoint: Eid, *, attachment_of: Any, text: str) -> d.Document:
        try:
            wish = d.StreamAnswer.model_validate_json(text)
        except ValidationError as error:
            problem = f"{error.errors()[0]['msg']}"
            return d.Failure(error=d.Problem(problem=problem, remedy='send {"acknowledge": ID} or {"release": ID}'))
        if wish.acknowledge is not None:
            held = wish.acknowledge in {parcel.bundle for parcel in attachment_of.hands.values()}
            first = await node.confirm(endpoint, wish.acknowledge)
            if held:
                node.grant(attachment_of)
            if first is not None:
                return d.StreamDone(acknowledged=wish.acknowledge)
        if wish.release is not None:
            for parcel in list(attachment_of.hands.values()):
                if parcel.bundle == wish.release:
                    node.release(parcel, refused=True)
                    node.grant(attachment_of)
                    return d.StreamDone(released=wish.release)
        name = wish.acknowledge or wish.release
        return d.Failure(
            error=d.Problem(problem=f"no bundle {name} was handed over here", remedy="use the ID as given")
        )

    # Plans, reports, keys

    async def on_plan(self, request: web.Request) -> web.Response:
        node = self._node
        form = request.query.get("format", "json")
        text = plan_text(node.plan, form)
        return web.Response(text=text, content_type="application/json" if form in {"json", "hdtn"} else "text/plain")

    async def on_set_plan(self, request: web.Request) -> web.Response:
        return await self._take_plan(request, extend=False)

    async def on_extend_plan(self, request: web.Request) -> web.Response:
        return await self._take_plan(request, extend=True)

    async def _take_plan(self, request: web.Request, *, extend: bool) -> web.Response:
        node = self._node
        body = await request.read()
        plan = read_plan_text(body, request.query.get("format", "json"), request.query.get("epoch"))
        if extend:
            plan = extended(node.plan, plan)
        node.set_plan(plan)
        summary = d.PlanSummary(
            epoch=plan.epoch,
            start=plan.start,
            end=plan.end,
            nodes=len(plan.nodes),
            contacts=len(plan.contacts),
            ranges=len(plan.ranges),
        )
        return _json(summary)

    async def on_forecast(self, request: web.Request) -> web.Response:
        text = request.query.get("destination")
        if text is None:
            raise ApiError(400, "destination is missing", "give it in the query, as in ?destination=ipn:3.7")
        return _json(forecast(self._node, text, _integer(request, "size", 64)))

    async def on_reports(self, request: web.Request) -> web.Response:
        node = self._node
        bundle = request.query.get("bundle")
        wanted = None if bundle is None else BundleId.parse(bundle)
        after = _integer(request, "after", 0)
        found = await node.reports(wanted, after, _number(request, "wait", 0.0))
        return _json(d.Reports(reports=tuple(report(node, each) for each in found)))

    async def on_keys(self, request: web.Request) -> web.Response:
        keys = self._node.keys.names
        return _json(d.Keys(keys=tuple(d.KeyName(name=name, wraps=wraps) for name, wraps in sorted(keys.items()))))

    async def on_set_key(self, request: web.Request) -> web.Response:
        upload = d.KeyUpload.model_validate_json(await request.read())
        name = request.match_info["name"]
        self._node.keys.put(name, bytes.fromhex(upload.secret), wraps=upload.wraps)
        return _json(d.KeyName(name=name, wraps=upload.wraps))

    async def on_drop_key(self, request: web.Request) -> web.Response:
        keys, name = self._node.keys, request.match_info["name"]
        if name not in keys.names:
            raise ApiError(404, f"there is no key {name!r}", f"there are: {', '.join(keys.names) or 'none'}")
        keys.drop(name)
        return web.Response(status=204)


def _json(body: BaseModel, status_code: int = 200) -> web.Response:
    return web.Response(text=body.model_dump_json(), status=status_code, content_type="application/json")


def _number(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e10:
        raise ApiError(400, f"{name}: {text!r} is no number of seconds", f"write it as in ?{name}=60")
    return value


def _integer(request: web.Request, name: str, default: int, *, least: int = 0) -> int:
    text = request.query.get(name)
    try:
        value = default if text is None else int(text)
    except ValueError:
        value = -1
    if not least <= value < 1 << 63:
        raise ApiError(400, f"{name}: {text!r} is no whole number from {least}", f"write it as in ?{name}={default}")
    return value
