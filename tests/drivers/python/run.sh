#!/bin/sh
# psycopg 3, from PyPI, in a folder of its own.
set -eu

name=python
. "$(dirname "$0")/../serve.sh"
python=$(command -v python3) || missing "python3"
folder=$cache/$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! PYTHONPATH=$folder "$python" -c 'import psycopg' 2>/dev/null; then
    "$python" -m pip --version >/dev/null 2>&1 || missing "pip (package python3-pip)"
    "$python" -m pip install --quiet --upgrade --target "$folder" 'psycopg[binary]>=3.2,<4' >&2 || missing "psycopg from PyPI"
fi
serve
PYTHONPATH=$folder "$python" "$(dirname "$0")/claims.py"
