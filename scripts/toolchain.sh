# Sourced by ./run and ./test: finds cargo and a C linker, or stops with one line and exit code 3.

command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
command -v cargo >/dev/null || {
    echo "$0: no cargo found: install Rust from https://rustup.rs" >&2
    exit 3
}
if ! command -v cc >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$0: no C linker found: install the packages gcc and libc6-dev" >&2
        exit 3
    fi
    echo "$0: installing gcc and libc6-dev" >&2
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq update; apt-get -qq install --no-install-recommends gcc libc6-dev; } >/dev/null </dev/null || {
        echo "$0: apt-get cannot install gcc and libc6-dev" >&2
        exit 3
    }
fi
