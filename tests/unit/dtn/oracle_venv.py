"""Programs of others in the environment that `make setup-test` makes: where they are, and pyd3tn as a process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[3] / ".cache" / "oracles" / "bin"
PYTHON = FOLDER / "python"
needs_oracles = pytest.mark.skipif(not PYTHON.exists(), reason="the oracles are not installed; make setup-test")

_SERVER = """
import json, sys
from pyd3tn import bundle7

def parse(data):
    bundle = bundle7.Bundle.parse(bytes.fromhex(data))
    primary = bundle.primary_block
    return {"source": str(primary.source), "destination": str(primary.destination), "lifetime": primary.lifetime,
            "payload": bundle.payload_block.data.hex(), "again": bytes(bundle).hex()}

def make(source, destination, payload, crc_type, **options):
    crc = bundle7.CRCType(crc_type)
    return bundle7.serialize_bundle7(source, destination, bytes.fromhex(payload), crc_type_primary=crc,
                                     crc_type_canonical=crc, **options).hex()

def assertions(payload):
    record = bundle7.Bundle.parse_administrative_record(bytes.fromhex(payload))["record_data"]
    return [bool(item[0]) for item in record[0]]

for line in sys.stdin:
    name, arguments = json.loads(line)
    print(json.dumps(globals()[name](**arguments)), flush=True)
"""


class Pyd3tn:
    """pyd3tn in its own environment, asked over a pipe; octets travel as hexadecimal digits."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(PYTHON), "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, name: str, **arguments: Any) -> Any:
        """The answer of `parse`, `make` or `assertions`."""
        pipe = self._process
        assert pipe.stdin is not None
        assert pipe.stdout is not None
        pipe.stdin.write(json.dumps([name, arguments]) + "\n")
        pipe.stdin.flush()
        return json.loads(pipe.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
