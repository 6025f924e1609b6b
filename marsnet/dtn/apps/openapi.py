"""The OpenAPI 3.1 document of a node's HTTP interface, made from the table of routes that the server itself uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from marsnet.dtn.apps.documents import Failure

_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_OCTETS = "application/octet-stream"
_ERRORS = {
    400: "The request is wrong; the answer says where.",
    401: "The bearer token is missing or wrong.",
    404: "There is no such thing here.",
    409: "The node is not in a state for that.",
    413: "The body is larger than the node takes.",
    507: "The store has no room.",
}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a route.

    Attributes:
        name: of the parameter.
        text: what it is.
        kind: JSON type.
        place: `query`, `path`.
        default: without it.
        choices: the only values.
        least: the least number.
    """

    name: str
    text: str
    kind: str = "string"
    place: str = "query"
    default: object = None
    choices: tuple[str, ...] = ()
    least: float | None = None

    def document(self) -> dict[str, Any]:
        """As OpenAPI says it."""
        schema: dict[str, Any] = {"type": self.kind}
        if self.default is not None:
            schema["default"] = self.default
        if self.choices:
            schema["enum"] = list(self.choices)
        if self.least is not None:
            schema["minimum"] = self.least
        return {
            "name": self.name,
            "in": self.place,
            "required": self.place == "path",
            "description": self.text,
            "schema": schema,
        }


@dataclass(frozen=True)
class Route:
    """One operation.

    Attributes:
        method: of HTTP.
        path: with parameters in braces.
        operation: its name; also of the method that serves it.
        summary: what it does.
        answer: document of the answer; None for no content, or for `content`.
        body: document of the request's body.
        octets: whether the body may be octets as they are.
        content: media types of an answer that is no JSON, or not only.
        parameters: of query and path.
        errors: status codes of errors, besides 401.
        status: of success.
        empty: meaning of an answer 204, where there is one.
        open: whether it needs no token.
        large: whether the body may be as large as a payload.
    """

    method: str
    path: str
    operation: str
    summary: str
    answer: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    octets: str = ""
    content: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()
    status: int = 200
    empty: str = ""
    open: bool = False
    large: bool = False

    @property
    def handler_path(self) -> str:
        """The path as aiohttp matches it: a bundle ID contains slashes."""
        return self.path.replace("{bundle}", "{bundle:.+}")

    def document(self) -> dict[str, Any]:
        """As OpenAPI says it."""
        good: dict[str, Any] = {"description": self.summary}
        content: dict[str, Any] = {}
        if self.answer is not None:
            content["application/json"] = {"schema": _reference(self.answer)}
        for media in self.content:
            content |= _TEXT if media == "text/plain" else {media: {"schema": {"type": "string", "format": "binary"}}}
        if content:
            good["content"] = content
        responses: dict[str, Any] = {str(self.status): good}
        if self.empty:
            responses["204"] = {"description": self.empty}
        for code in sorted({*self.errors, *(() if self.open else (401,))}):
            schema = {"application/json": {"schema": _reference(Failure)}}
            responses[str(code)] = {"description": _ERRORS[code], "content": schema}
        entry: dict[str, Any] = {
            "operationId": self.operation,
            "summary": self.summary,
            "parameters": [parameter.document() for parameter in self.parameters],
            "responses": responses,
        }
        request: dict[str, Any] = {}
        if self.body is not None:
            request["application/json"] = {"schema": _reference(self.body)}
        if self.octets:
            request[self.octets] = {"schema": {"type": "string", "format": "binary"}}
        if request:
            entry["requestBody"] = {"required": True, "content": request}
        if self.open:
            entry["security"] = []
        return entry


def document(routes: tuple[Route, ...], version: str) -> dict[str, Any]:
    """The whole document."""
    models = {m for route in routes for m in (route.answer, route.body) if m is not None} | {Failure}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "serialization") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = route.document()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "marsnet node",
            "version": version,
            "description": "Applications, operators and plans of a bundle node. Times are mission seconds.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
