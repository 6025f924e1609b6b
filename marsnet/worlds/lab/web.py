"""HTTP requests to programs inside a lab, from wherever the caller is."""

from __future__ import annotations

import urllib.request

from marsnet.worlds.lab import namespace


def request(
    lab_namespace: str, url: str, *, method: str = "GET", body: bytes | None = None, timeout: float = 10.0
) -> bytes:
    """Body of the answer to a request whose connection is made inside the namespace, past any proxy.

    Raises:
        urllib.error.HTTPError: when the answer is an error.
        OSError: when there is no answer within `timeout` host seconds.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    message = urllib.request.Request(url, data=body, method=method)  # noqa: S310 - the lab makes the address
    with namespace.inside(lab_namespace), opener.open(message, timeout=timeout) as answer:
        content: bytes = answer.read()
    return content
