#!/bin/sh
# Prisma with pg, from npm, in a folder of its own. Its queries are compiled by WebAssembly that comes with it, so no
# engine is downloaded. The program that makes its client is large, and not kept.
set -eu

name=orm-node
. "$(dirname "$0")/../serve.sh"
here=$(cd "$(dirname "$0")" && pwd)
command -v node >/dev/null || missing "node"
if ! cmp -s "$here/schema.prisma" "$cache/schema.prisma"; then
    command -v npm >/dev/null || missing "npm"
    install() {
        npm install --silent --no-fund --no-audit --ignore-scripts --prefix "$@" >&2 || missing "Prisma from npm"
    }
    rm -rf "$cache"
    mkdir -p "$cache" "$work/generator"
    install "$cache" @prisma/adapter-pg@7 @prisma/client-runtime-utils@7 pg@8 pg-cursor@2
    install "$work/generator" prisma@7 @prisma/client@7
    cp "$here/schema.prisma" "$work/generator"
    # What migrates, and is not used here, would be downloaded if it were not there.
    (cd "$work/generator" && PRISMA_SCHEMA_ENGINE_BINARY=/bin/true PRISMA_HIDE_UPDATE_MESSAGE=1 CHECKPOINT_DISABLE=1 \
        node_modules/.bin/prisma generate --schema schema.prisma --no-hints >"$work/generated" 2>&1) ||
        { cat "$work/generated" >&2; missing "the generator of Prisma"; }
    cp -R "$work/generator/client" "$cache/client"
    cp "$here/schema.prisma" "$cache"
fi
serve
NODE_PATH=$cache/node_modules:$cache node "$here/claims.js"
