#!/bin/sh
# Prints the folder of a PostgreSQL server's programs. The first found wins: PG_BINDIR, `pg_config --bindir`, the newest
# /usr/lib/postgresql/*/bin, Debian's packages unpacked into the cache folder, by scripts/debian.sh if need be.
#
# exit: 0, 3 (none can be had here; the last line says why)
set -eu

# Prints the last of the given folders that holds a server's programs.
last() {
    found=
    for folder; do
        if [ -x "$folder/postgres" ] && [ -x "$folder/initdb" ]; then found=$folder; fi
    done
    [ -n "$found" ] && (cd "$found" && pwd)
}

# Prints the newest server below a root; the shell sorts the versions, which have two digits since 10.
newest() {
    last "$1"/usr/lib/postgresql/*/bin
}

if [ -n "${PG_BINDIR-}" ]; then
    last "$PG_BINDIR" && exit
    echo "$0: PG_BINDIR=$PG_BINDIR does not hold postgres and initdb: correct or unset it" >&2
    exit 3
fi
if configured=$(pg_config --bindir 2>/dev/null); then last "$configured" && exit; fi
newest "" && exit
root=$("$(dirname "$0")/debian.sh" postgresql)
newest "$root" && exit
echo "$0: $root holds no server: remove that folder, or install the package postgresql" >&2
exit 3
