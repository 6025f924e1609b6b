"""The bundle store that a node's configuration asks for."""

from __future__ import annotations

from pathlib import Path

from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.recipe import Recipes
from marsnet.dtn.store import BundleStore, EvictionPolicy, MemoryStore, Store


def open_store(config: NodeConfig, folder: Path | None, recipes: Recipes | None = None) -> Store:
    """Open the store in a folder, or make one in memory for None, which need not keep what `recipes` make.

    Raises:
        CorruptionError: its database is damaged and the configuration does not say `set_aside`.
        StoreError: another process has it open, or the folder cannot be written.
    """
    quotas = {name: tenant.quota for name, tenant in config.tenants.items() if tenant.quota is not None}
    policy = EvictionPolicy(tenant_quota=quotas)
    if folder is None:
        return MemoryStore(quota_bytes=config.quota, policy=policy, recipes=recipes)
    return BundleStore(
        folder,
        quota_bytes=config.quota,
        policy=policy,
        on_corruption=config.on_corruption,
        sync=config.durability == "power",
    )
