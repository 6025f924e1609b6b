"""What one can ask of a node, each operation written once; how a request travels is the drivers' business."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload
from urllib.parse import quote, urlencode, urlsplit

from pydantic import BaseModel, ValidationError

from marsnet.dtn.apps import documents as d
from marsnet.errors import EnvironmentLacksError, InputError, MarsnetError

if TYPE_CHECKING:
    from marsnet.client.asynchronous import AsyncNodeClient
    from marsnet.client.synchronous import NodeClient

P = ParamSpec("P")
T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)

GRACE = 30.0
"""Host seconds that an answer may take beyond the time that it was asked to wait."""
_OCTETS = "application/octet-stream"


class NodeError(MarsnetError):
    """The node could not do what was asked, for a reason of its own.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, problem: str, remedy: str) -> None:
        self.status = status
        super().__init__(problem + (f"; {remedy}" if remedy else ""))


class RequestError(InputError):
    """The node refused a request as wrong.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, problem: str, *, remedy: str = "", line: int | None = None) -> None:
        self.status = status
        super().__init__(problem, remedy=remedy, line=line)


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP.
        body: octets.
    """

    status: int
    body: bytes


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read.

    Attributes:
        method: of HTTP.
        path: with escapes.
        read: makes the result of a good answer.
        query: parameters; None leaves one out.
        body: octets; None for none.
        content_type: of the body.
        wait: mission seconds that the node is asked to wait.
    """

    method: str
    path: str
    read: Callable[[Answer], T]
    query: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"
    wait: float = 0.0

    @property
    def target(self) -> str:
        """Path and query."""
        given = {name: value for name, value in self.query.items() if value is not None}
        return self.path + (f"?{urlencode(given)}" if given else "")

    def result(self, answer: Answer) -> T:
        """The result.

        Raises:
            RequestError: the node says that the request is wrong.
            NodeError: the node says that it cannot.
        """
        if answer.status < 400:
            return self.read(answer)
        try:
            problem = d.Failure.model_validate_json(answer.body).error
        except ValidationError:
            problem = d.Problem(problem=f"HTTP status {answer.status}", remedy="is this a marsnet node?")
        if answer.status < 500:
            raise RequestError(answer.status, problem.problem, remedy=problem.remedy, line=problem.line)
        raise NodeError(answer.status, problem.problem, problem.remedy)


class operation(Generic[P, T]):  # noqa: N801 - used as a decorator
    """A method that makes a `Call`: on a `NodeClient` it returns the result, on an `AsyncNodeClient` one awaits it."""

    def __init__(self, make: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._make = make
        update_wrapper(self, make)  # type: ignore[arg-type]

    @overload
    def __get__(self, client: None, owner: type) -> operation[P, T]: ...
    @overload
    def __get__(self, client: NodeClient, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncNodeClient, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self

        def ask(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.run(self._make(client, *args, **kwargs))

        return update_wrapper(ask, self._make)


def _document(model: type[Model]) -> Callable[[Answer], Model]:
    return lambda answer: model.model_validate_json(answer.body)


def _place(endpoint: int | str) -> str:
    return f"/v1/endpoints/{quote(str(endpoint), safe='')}"


class Operations:
    """Everything that a node offers but the stream. Times are mission seconds.

    Every operation raises RequestError when the node says that the request is wrong, NodeError when it cannot do it,
    and EnvironmentLacksError when no node answers.

    Attributes:
        url: of the node's HTTP interface.
    """

    def __init__(self, url: str, *, token: str | None = None) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: of the node's HTTP interface, as `http://127.0.0.1:8080`.
            token: bearer token, where the node asks for one.

        Raises:
            InputError: the URL is none of HTTP.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise InputError(f"{url!r} is no URL of a node", remedy="write it as http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._rate: float | None = None

    def _unreachable(self, error: Exception) -> EnvironmentLacksError:
        return EnvironmentLacksError(
            f"no node answers at {self.url} ({error or 'timeout'})",
            fix="start it, or give the URL of its HTTP interface",
        )

    @operation
    def status(self) -> Call[d.NodeStatus]:
        """Who the node is and how it is."""
        return Call("GET", "/v1/status", _document(d.NodeStatus))

    @operation
    def send(
        self,
        destination: str,
        payload: bytes,
        *,
        service_class: d.ClassName = "normal",
        lifetime: float = 86400.0,
        flags: tuple[d.FlagName, ...] = (),
        service: int = 0,
        report_to: str | None = None,
    ) -> Call[d.Accepted]:
        """Send a bundle; returns when it is durable at the node.

        Args:
            destination: endpoint ID, or `node.service` with the name of a node.
            payload: application data unit.
            service_class: class of service.
            lifetime: mission seconds.
            flags: of the bundle.
            service: service number of the source.
            report_to: endpoint ID for status reports; default: the source.
        """
        query = {
            "destination": destination,
            "service_class": service_class,
            "lifetime": lifetime,
            "flags": ",".join(flags),
            "service": service,
            "report_to": report_to,
        }
        return Call("POST", "/v1/bundles", _document(d.Accepted), query, payload, _OCTETS)

    @operation
    def receive(self, endpoint: int | str, *, wait: float = 0.0, lease: float = 60.0) -> Call[d.Received | None]:
        """Take the next bundle of an endpoint; it comes again unless it is acknowledged in time.

        Args:
            endpoint: service number of the node, or endpoint ID in full.
            wait: mission seconds to wait for one.
            lease: host seconds in which to acknowledge it.
        """

        def read(answer: Answer) -> d.Received | None:
            return None if answer.status == 204 else d.Received.model_validate_json(answer.body)

        return Call("GET", f"{_place(endpoint)}/next", read, {"wait": wait, "lease": lease}, wait=wait)

    @operation
    def acknowledge(self, endpoint: int | str, bundle: str) -> Call[d.Acknowledged]:
        """A bundle was taken for good; returns when that is durable. Repeating is safe."""
        return Call("DELETE", f"{_place(endpoint)}/bundles/{quote(bundle, safe='')}", _document(d.Acknowledged))

    @operation
    def endpoints(self) -> Call[tuple[d.Endpoint, ...]]:
        """Endpoints with bundles or applications."""
        return Call("GET", "/v1/endpoints", lambda answer: _document(d.Endpoints)(answer).endpoints)

    @operation
    def bundles(self, *, after: int = 0, limit: int = 100, state: d.StateName | None = None) -> Call[d.StoreListing]:
        """A page of the store."""
        query = {"after": after, "limit": limit, "state": state}
        return Call("GET", "/v1/bundles", _document(d.StoreListing), query)

    @operation
    def neighbours(self) -> Call[tuple[d.Neighbour, ...]]:
        """Who can be reached in one hop."""
        return Call("GET", "/v1/neighbours", lambda answer: _document(d.Neighbours)(answer).neighbours)

    @operation
    def forecast(self, destination: str, *, size: int = 64) -> Call[d.Forecast]:
        """What the contact plan promises a bundle that leaves now, and its answer."""
        query = {"destination": destination, "size": size}
        return Call("GET", "/v1/forecast", _document(d.Forecast), query)

    @operation
    def plan(self, form: str = "json") -> Call[str]:
        """The contact plan that the node goes by, as text of a format."""
        return Call("GET", "/v1/plan", lambda answer: answer.body.decode(), {"format": form})

    @operation
    def set_plan(self, text: str, form: str = "json", *, epoch: str | None = None) -> Call[d.PlanSummary]:
        """Go by another contact plan from now on; a plan with a mistake changes nothing."""
        query = {"format": form, "epoch": epoch}
        return Call("PUT", "/v1/plan", _document(d.PlanSummary), query, text.encode(), "text/plain")

    @operation
    def extend_plan(self, text: str, form: str = "json", *, epoch: str | None = None) -> Call[d.PlanSummary]:
        """Add the contacts and ranges of a plan to the one that the node goes by."""
        query = {"format": form, "epoch": epoch}
        return Call("POST", "/v1/plan", _document(d.PlanSummary), query, text.encode(), "text/plain")

    @operation
    def reports(self, bundle: str | None = None, *, after: int = 0, wait: float = 0.0) -> Call[tuple[d.Report, ...]]:
        """Status reports that came to the node, oldest first.

        Args:
            bundle: only those about this bundle.
            after: only those with a larger number.
            wait: mission seconds to wait for one.
        """
        query = {"bundle": bundle, "after": after, "wait": wait}
        return Call("GET", "/v1/reports", lambda answer: _document(d.Reports)(answer).reports, query, wait=wait)

    @operation
    def keys(self) -> Call[tuple[d.KeyName, ...]]:
        """Names of the keys for BPSec."""
        return Call("GET", "/v1/keys", lambda answer: _document(d.Keys)(answer).keys)

    @operation
    def set_key(self, name: str, secret: bytes, *, wraps: bool = False) -> Call[d.KeyName]:
        """Add a key for BPSec, or put another in its place."""
        body = d.KeyUpload(secret=secret.hex(), wraps=wraps).model_dump_json().encode()
        return Call("PUT", f"/v1/keys/{quote(name, safe='')}", _document(d.KeyName), body=body)

    @operation
    def drop_key(self, name: str) -> Call[None]:
        """Forget a key."""
        return Call("DELETE", f"/v1/keys/{quote(name, safe='')}", lambda answer: None)
