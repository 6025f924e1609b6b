"""Starts bundle nodes by forking a process that has imported them, so that a start takes milliseconds of CPU time.

Commands on stdin, one a line, each answered with one line: `start CONFIG LOG [LIMIT]` with the new process id, and
`kill PID` and `stop PID` with its wait status once it is gone. A node started so is a process like any other.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

from marsnet.dtn.node.config import load_config
from marsnet.dtn.node.daemon import serve


def start(config: str, log: str, limit: str = "") -> int:
    """Fork a node, whose files may grow to `limit` octets where that is given; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        asyncio.run(serve(load_config(Path(config)), Path(config).parent))
        sys.stdout.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Serve until stdin ends."""
    for line in sys.stdin:
        command, *rest = line.split()
        if command == "start":
            print(start(*rest), flush=True)
        else:
            pid = int(rest[0])
            os.kill(pid, signal.SIGKILL if command == "kill" else signal.SIGTERM)
            print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
