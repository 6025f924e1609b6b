"""The durable store of bundles, of what was seen and delivered, and of protocol state."""

from marsnet.dtn.store.base import Store
from marsnet.dtn.store.memory import MemoryStore
from marsnet.dtn.store.store import BundleStore
from marsnet.dtn.store.types import (
    Added,
    BundleRecord,
    BundleState,
    CorruptionError,
    EvictionPolicy,
    StorageFullError,
    StoreCounters,
    StoreError,
    UnknownBundleError,
    Usage,
)

__all__ = [
    "Added",
    "BundleRecord",
    "BundleState",
    "BundleStore",
    "CorruptionError",
    "EvictionPolicy",
    "MemoryStore",
    "StorageFullError",
    "Store",
    "StoreCounters",
    "StoreError",
    "UnknownBundleError",
    "Usage",
]
