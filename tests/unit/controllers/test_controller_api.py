"""The controllers' HTTP server, over real sockets on the loopback."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from controllers.api import Answer, ApiServer


def spawn(function: Callable[..., Any], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def echo(method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
    if path == "/missing":
        return Answer.of_json(404, {"error": "no"})
    return Answer.of_json(200, {"method": method, "path": path, "query": query, "body": body.decode()})


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.fixture(scope="module")
def port() -> int:
    server = ApiServer(0, echo, spawn)
    server.start()
    return server.port


def test_method_path_query_and_body_arrive(port: int) -> None:
    expected = {"method": "GET", "path": "/ready", "query": {"timeout": "2.5"}, "body": ""}
    assert ask(port, "GET", "/ready?timeout=2.5") == (200, expected)
    assert ask(port, "PUT", "/plan", b"x" * 100_000)[1]["body"] == "x" * 100_000


def test_the_status_is_passed_on(port: int) -> None:
    assert ask(port, "GET", "/missing") == (404, {"error": "no"})


def test_a_body_beyond_all_bounds_is_refused_unread(port: int) -> None:
    status, answer = ask(port, "PUT", "/plan", b"", **{"Content-Length": str(2**40)})
    assert status == 413
    assert str(2**40) in answer["error"]
