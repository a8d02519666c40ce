#!/bin/sh
# Prints the command, one word a line, that runs a PgBouncer of 1.21 or newer: the one on the PATH, else Debian's of a
# newer suite, unpacked with all its libraries into the cache folder and run by its own loader. Nothing is installed.
#
# exit: 0, 3 (cannot be had here; the last line says why)
set -eu

suite=trixie

fail() {
    echo "$0: $*" >&2
    exit 3
}

if found=$(command -v pgbouncer); then
    version=$("$found" --version | sed -n 's/^PgBouncer 1\.\([0-9]*\).*/\1/p')
    if [ "${version:-0}" -ge 21 ]; then echo "$found"; exit; fi
fi
command -v apt-get >/dev/null || fail "needs a pgbouncer of 1.21 or newer on the PATH"

# Not below root's home: PgBouncer refuses to run as root.
if [ "$(id -u)" = 0 ]; then cache=/var/cache; else cache=${XDG_CACHE_HOME:-$HOME/.cache}; fi
root=$cache/headpond/$suite-$(dpkg --print-architecture)/pgbouncer
if [ ! -d "$root" ]; then
    umask 022
    mkdir -p "${root%/*}"
    work=$(mktemp -d "${root%/*}/.work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 3' HUP INT TERM
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/root"
    # The system's own mirror and keys, with the other suite; no package counts as installed.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$') ||
        fail "no Debian mirror among the system's sources"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
    : >"$work/status"
    cat >"$work/apt.conf" <<CONF
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Log "$work";
Debug::NoLocking "true";
APT::Sandbox::User "";
APT::Get::Assume-Yes "true";
Acquire::Languages "none";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
    echo "$0: downloading PgBouncer of Debian $suite, to be kept in $root" >&2
    {
        apt-get -c "$work/apt.conf" -qq update &&
        apt-get -c "$work/apt.conf" -qq install --download-only --no-install-recommends pgbouncer
    } >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "apt-get cannot get pgbouncer of $suite"; }
    for package in "$work"/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$work/root"
    done
    mv -T "$work/root" "$root" 2>/dev/null || [ -d "$root" ] || fail "cannot write $root"
fi

libraries=$(dirname "$(find "$root/usr/lib" -name 'libevent*.so*' | head -n 1)")
loader=$(find "$root/usr/lib" -name 'ld-linux*.so*' | head -n 1)
printf '%s\n' "$loader" --library-path "$libraries" "$root/usr/sbin/pgbouncer"
