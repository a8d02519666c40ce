#!/bin/sh
# Django and SQLAlchemy with psycopg and asyncpg, from PyPI, in a folder of its own.
set -eu

name=orm-python
. "$(dirname "$0")/../serve.sh"
python=$(command -v python3) || missing "python3"
folder=$cache/$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! PYTHONPATH=$folder "$python" -c 'import asyncpg, django, psycopg, sqlalchemy' 2>/dev/null; then
    "$python" -m pip --version >/dev/null 2>&1 || missing "pip (package python3-pip)"
    "$python" -m pip install --quiet --upgrade --target "$folder" 'psycopg[binary]>=3.2,<4' 'asyncpg>=0.30,<1' \
        'django>=4.2,<6' 'sqlalchemy[asyncio]>=2,<3' >&2 || missing "Django and SQLAlchemy from PyPI"
fi
serve
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$folder "$python" "$(dirname "$0")/claims.py"
