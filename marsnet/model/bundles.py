"""What a node is told to do with bundles beyond forwarding them: security, reports, fragments, tenants."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from marsnet.errors import InputError

ClassName = Literal["critical", "expedited", "normal", "bulk"]
BlockName = Literal["primary", "payload", "previous_node", "bundle_age", "hop_count", "service_class"]
"""Blocks that a security rule can name; others are named by their type code."""


class Settings(BaseModel):
    """A part of a node's configuration: unknown keys are mistakes, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class KeyConfig(Settings):
    """A symmetric key, from a file with hexadecimal digits or given as such digits.

    Attributes:
        file: relative to the configuration's folder.
        hex: the key itself.
        wraps: whether it only encrypts a fresh key for each bundle (AES key wrap).
    """

    file: Path | None = None
    hex: str | None = Field(default=None, repr=False)
    wraps: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> KeyConfig:
        if (self.file is None) == (self.hex is None):
            raise ValueError("a key has one source; give either 'file' or 'hex'")
        return self

    def digits(self, name: str) -> str:
        """Its hexadecimal digits. Raises InputError when its file cannot be read."""
        if self.file is None:
            return self.hex or ""
        try:
            return self.file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"key {name!r} cannot be read: {error}", remedy="check the path", file=self.file) from None


class SecurityRuleConfig(Settings):
    """What bundles that match must have (RFC 9172); the first rule that matches a bundle holds.

    A node that makes such a bundle protects it, a node that delivers it verifies, decrypts and strips.

    Attributes:
        source: source endpoint, with `*` and `?` as in file names.
        destination: destination endpoint, likewise.
        classes: classes of service; None for all.
        integrity: name of the key that signs; None for no signature.
        confidentiality: name of the key that encrypts; None for no encryption.
        integrity_targets: blocks to sign, by name or type code.
        confidentiality_targets: blocks to encrypt, likewise.
        sha: bits of the SHA-2 variant.
        aes: bits of the AES key.
        scope: what each operation covers besides its target's data.
        transit: what a node does with such a bundle of others that it forwards: `verify` signatures that it can see,
            `pass` it on unseen, `add` the protection where it is missing (a gateway at the border of a network that
            does not protect), `accept`: verify, decrypt and strip (the gateway at the other end).
        unexpected: what becomes of operations that the rule does not ask for: `pass`, or `refuse` the bundle.
    """

    source: str = "*"
    destination: str = "*"
    classes: frozenset[ClassName] | None = None
    integrity: str | None = None
    confidentiality: str | None = None
    integrity_targets: tuple[BlockName | Annotated[int, Field(ge=0)], ...] = ("primary", "payload")
    confidentiality_targets: tuple[BlockName | Annotated[int, Field(ge=1)], ...] = ("payload",)
    sha: Literal[256, 384, 512] = 384
    aes: Literal[128, 256] = 256
    scope: frozenset[Literal["primary", "target", "security"]] = frozenset({"primary", "target", "security"})
    transit: Literal["verify", "pass", "add", "accept"] = "verify"
    unexpected: Literal["pass", "refuse"] = "pass"


class SecurityConfig(Settings):
    """BPSec on this node.

    Attributes:
        keys: by name.
        rules: in order.
        entropy: `system`, or `seed` for runs that are to be the same twice; never on a node that anybody relies on.
    """

    keys: dict[str, KeyConfig] = Field(default_factory=dict)
    rules: tuple[SecurityRuleConfig, ...] = ()
    entropy: Literal["system", "seed"] = "system"

    def within(self, folder: Path) -> SecurityConfig:
        """The same with key files relative to a folder."""
        keys = {
            name: key if key.file is None else key.model_copy(update={"file": folder / key.file})
            for name, key in self.keys.items()
        }
        return self.model_copy(update={"keys": keys})

    def inlined(self) -> SecurityConfig:
        """The same without key files: for nodes that do not see them. Raises InputError as `KeyConfig.digits`."""
        keys = {name: KeyConfig(hex=key.digits(name), wraps=key.wraps) for name, key in self.keys.items()}
        return self.model_copy(update={"keys": keys})


class ReportsConfig(Settings):
    """Bundle status reports (RFC 9171 section 6.1.1), off unless enabled (section 5.1).

    Attributes:
        enabled: whether reports that bundles ask for are sent.
        rate: reports a mission second in the long run.
        burst: reports at once after a quiet time.
        keep: reports received that are remembered, the last ones.
    """

    enabled: bool = False
    rate: float = Field(default=1.0, gt=0)
    burst: int = Field(default=100, ge=1)
    keep: int = Field(default=10_000, ge=0)


class FragmentsConfig(Settings):
    """Fragmentation and reassembly (RFC 9171 sections 5.8 and 5.9).

    Attributes:
        proactive: cut bundles that no contact takes whole into fragments that contacts take.
        reactive: keep the beginning of a transfer that broke, and send only the rest to a neighbour that does so too.
        smallest: payload bytes of the smallest fragment that is cut.
        bytes: payload bytes of fragments that wait here for the others, in the store.
        bundles: bundles under reassembly at a time.
        parts: fragments of one bundle.
    """

    proactive: bool = True
    reactive: bool = False
    smallest: int = Field(default=1024, ge=1)
    bytes: int = Field(default=1 << 30, gt=0)
    bundles: int = Field(default=4096, ge=1)
    parts: int = Field(default=65_536, ge=2)


class TenantConfig(Settings):
    """Whose bundles count against a quota of their own.

    Attributes:
        sources: source endpoints, with `*` and `?` as in file names. In a laboratory the endpoints of the scenario's
            flows of this tenant besides.
        quota: bytes in the store.
    """

    sources: tuple[str, ...] = ()
    quota: int | None = Field(default=None, gt=0)


class BundleSettings(Settings):
    """What a node does with bundles.

    Attributes:
        groups: nodes in each group endpoint (`dtn://team/~all`), by name.
        has_clock: whether the node knows the time: bundles that it makes have a creation time. Without, they have
            creation time 0 and a Bundle Age block (RFC 9171 section 4.4.2).
        unknown_service: what becomes of a bundle for an endpoint of this node that no application is registered at.
        unroutable: what becomes of a bundle for a node that no contact leads to: `hold` it until it expires, or
            `drop` it.
        critical_copies: disjoint ways that a critical bundle takes at most; 1 for no copies.
        security: BPSec.
        reports: status reports.
        fragments: fragmentation and reassembly.
        tenants: by name; bundles of nobody's count against the node's quota only.
        on_corruption: what becomes of a damaged database when the node starts: `refuse` to start, or `set_aside` the
            file and begin with an empty one.
    """

    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    has_clock: bool = True
    unknown_service: Literal["hold", "drop"] = "hold"
    unroutable: Literal["hold", "drop"] = "hold"
    critical_copies: int = Field(default=2, ge=1, le=8)
    security: SecurityConfig = SecurityConfig()
    reports: ReportsConfig = ReportsConfig()
    fragments: FragmentsConfig = FragmentsConfig()
    tenants: dict[str, TenantConfig] = Field(default_factory=dict)
    on_corruption: Literal["refuse", "set_aside"] = "refuse"
