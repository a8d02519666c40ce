#!/bin/sh
# Unpacks Debian packages, with whatever they depend on that is not installed, and prints the folder that is then the
# root of their files. Needs no privileges and installs nothing: apt works on a state of its own, with the system's
# sources and keys. What is unpacked once is kept. Programs from there need LD_LIBRARY_PATH=ROOT/usr/lib/ARCHITECTURE.
#
# usage: scripts/debian.sh PACKAGE...
# exit: 0, 3 (cannot be had here; the last line says why)
set -eu

fail() {
    echo "$0: $*" >&2
    exit 3
}

[ $# -gt 0 ] || fail "name a package"
command -v apt-get >/dev/null || fail "not a Debian system: install $* yourself"

# Root's home is closed to the unprivileged account that runs the database.
if [ "$(id -u)" = 0 ]; then cache=/var/cache; else cache=${XDG_CACHE_HOME:-$HOME/.cache}; fi
# Homes are shared between machines: a folder for each system.
system=$(. /etc/os-release && echo "$ID-${VERSION_ID:-$VERSION_CODENAME}")-$(dpkg --print-architecture)
root=$cache/headpond/$system/$(echo "$*" | tr ' ' +)
if [ -d "$root" ]; then echo "$root"; exit; fi

umask 022
mkdir -p "${root%/*}"
work=$(mktemp -d "${root%/*}/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 3' HUP INT TERM
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/root"

# The hooks are the system's own housekeeping; the sandbox user could not write to our folders.
cat >"$work/apt.conf" <<CONF
Dir::State::lists "$work/lists";
Dir::Cache "$work/cache";
Dir::Log "$work";
Debug::NoLocking "true";
APT::Sandbox::User "";
APT::Get::Assume-Yes "true";
Acquire::Languages "none";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF

echo "$0: downloading $*, to be kept in $root" >&2
# A source that does not answer matters only if the packages are missing in the end.
apt-get -c "$work/apt.conf" -qq update >"$work/log" 2>&1 || true
# --reinstall: the named ones even where they are installed, so that the root always holds them.
apt-get -c "$work/apt.conf" -qq install --reinstall --download-only --no-install-recommends "$@" >>"$work/log" 2>&1 || {
    cat "$work/log" >&2
    fail "apt-get cannot get $*"
}
for package in "$work"/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$work/root"
done
# Whoever was faster has unpacked the same.
mv -T "$work/root" "$root" 2>/dev/null || [ -d "$root" ] || fail "cannot write $root"
echo "$root"
