"""Talk to a bundle node from Python: `NodeClient` blocks, `AsyncNodeClient` awaits; both offer the same operations."""

from marsnet.client.asynchronous import AsyncNodeClient, Stream, StreamedBundle
from marsnet.client.calls import NodeError, RequestError
from marsnet.client.synchronous import NodeClient
from marsnet.dtn.apps.documents import (
    Accepted,
    Acknowledged,
    Forecast,
    Neighbour,
    NodeStatus,
    Received,
    Report,
    StoredBundle,
    Way,
)

__all__ = [
    "Accepted",
    "Acknowledged",
    "AsyncNodeClient",
    "Forecast",
    "Neighbour",
    "NodeClient",
    "NodeError",
    "NodeStatus",
    "Received",
    "Report",
    "RequestError",
    "StoredBundle",
    "Stream",
    "StreamedBundle",
    "Way",
]
