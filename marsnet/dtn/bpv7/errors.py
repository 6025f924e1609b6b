"""What can be wrong with a bundle. Every error carries a reason short enough to label a counter."""

from __future__ import annotations

from enum import StrEnum

from marsnet.errors import MarsnetError


class Malformation(StrEnum):
    """Why bytes are no acceptable bundle, endpoint ID or administrative record."""

    TRUNCATED = "truncated"
    TRAILING = "trailing_bytes"
    TOO_LARGE = "too_large"
    TYPE = "wrong_type"
    NOT_CANONICAL = "not_canonical"
    LENGTH = "wrong_length"
    VERSION = "version"
    CRC_TYPE = "crc_type"
    CRC = "crc_mismatch"
    EID = "endpoint_id"
    FLAGS = "flags"
    BLOCKS = "blocks"
    EXTENSION = "extension_block"
    RECORD = "administrative_record"
    FRAGMENT = "fragment"
    VALUE = "value"


class BundleError(MarsnetError):
    """A bundle, or a part of one, is malformed, inconsistent or beyond a limit.

    Attributes:
        reason: the kind of fault, for counters.
    """

    def __init__(self, reason: Malformation, message: str) -> None:
        self.reason = reason
        super().__init__(message)
