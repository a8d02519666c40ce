#!/bin/sh
# pg, from npm, in a folder of its own.
set -eu

name=node
. "$(dirname "$0")/../serve.sh"
command -v node >/dev/null || missing "node"
if [ ! -d "$cache/node_modules/pg" ]; then
    command -v npm >/dev/null || missing "npm"
    mkdir -p "$cache"
    npm install --silent --no-fund --no-audit --prefix "$cache" pg@8 >&2 || missing "pg from npm"
fi
serve
NODE_PATH=$cache/node_modules node "$(dirname "$0")/claims.js"
