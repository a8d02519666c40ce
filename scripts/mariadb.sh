#!/bin/sh
# Prints the root of the files of a MariaDB server: MARIADB_ROOT, / if one is installed, else Debian's package unpacked
# into the cache folder by scripts/debian.sh.
#
# exit: 0, 3 (none can be had here; the last line says why)
set -eu

if [ -n "${MARIADB_ROOT-}" ]; then
    if [ -x "$MARIADB_ROOT/usr/sbin/mariadbd" ]; then echo "$MARIADB_ROOT"; exit; fi
    echo "$0: MARIADB_ROOT=$MARIADB_ROOT does not hold usr/sbin/mariadbd: correct or unset it" >&2
    exit 3
fi
if [ -x /usr/sbin/mariadbd ] && [ -x /usr/bin/mariadb-install-db ]; then echo /; exit; fi
root=$("$(dirname "$0")/debian.sh" mariadb-server)
if [ -x "$root/usr/sbin/mariadbd" ]; then echo "$root"; exit; fi
echo "$0: $root holds no server: remove that folder, or install the package mariadb-server" >&2
exit 3
