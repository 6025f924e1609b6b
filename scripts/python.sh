#!/bin/sh
# Prints the first Python that marsnet can run on: the distribution's own before any other on PATH, because Mininet
# belongs to the distribution's and a shim in front of it may be older.
for candidate in /usr/bin/python3 /usr/bin/python3.14 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 \
    python3 python3.14 python3.13 python3.12 python3.11; do
    path=$(command -v "$candidate" 2>/dev/null) || continue
    if "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "$path"
        exit 0
    fi
done
echo "marsnet needs Python 3.11 or newer and found none; to fix it: apt-get install python3.11 python3.11-venv python3.11-dev" >&2
exit 4
