# Sourced by the suites, with $name set: starts Headpond twice, and ends both with the suite.
#
# DIRECT_PORT: a PostgreSQL of its own; SESSION_PORT and TRANSACTION_PORT: in these modes before it, the latter with 3 server
# connections that take turns, so that a client that may be moved is.
# User postgres, no password. Folders: $cache is kept, $work is not.

missing() {
    echo "needs $*"
    exit 77
}

repository=$(cd "$(dirname "$0")/../../.." && pwd)
# Homes are shared between machines, and what is kept is made for one.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/headpond/drivers/$(uname -m)/$name
work=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null || true; wait; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

headpond=${CARGO_TARGET_DIR:-$repository/target}/debug/headpond
serve() {
    [ -x "$headpond" ] || cargo build --locked --manifest-path "$repository/Cargo.toml" -p headpond-cli
    PG_BINDIR=$("$repository/scripts/postgres.sh")
    export PG_BINDIR
    start embedded
    DIRECT_PORT=$(sed -n 's/.*listens on port \([0-9]*\).*/\1/p' "$work/embedded")
    for SESSION_PORT in 26542 26543 26544 26545 26546 26547 26548 26549; do
        configure session "$SESSION_PORT" "max_size = 50" && break
    done
    for TRANSACTION_PORT in 26532 26533 26534 26535 26536 26537 26538 26539; do
        configure transaction "$TRANSACTION_PORT" "max_size = 3
min_idle = 3
round_robin = true" && break
    done
    export DIRECT_PORT SESSION_PORT TRANSACTION_PORT
}

# Starts one in this mode, on this port, with a pool like this.
configure() {
    cat >"$work/$1.toml" <<CONFIG
listen = ["127.0.0.1:$2"]
http_listen = ""
pool_mode = "$1"
admin_users = ["postgres"]
[data_source.postgres]
host = "127.0.0.1"
port = $DIRECT_PORT
user = "postgres"
$3
CONFIG
    start "$1" "$work/$1.toml"
}

# Runs `headpond serve`, and returns when it listens; its output goes to $work/$1.
start() {
    output=$work/$1
    shift
    "$headpond" serve "$@" >"$output" 2>&1 &
    pid=$!
    tries=0
    until grep -Eq '^  page|clients: ' "$output"; do
        kill -0 $pid 2>/dev/null && [ $tries -lt 600 ] || { cat "$output" >&2; return 1; }
        tries=$((tries + 1))
        sleep 0.1
    done
    pids="$pid $pids"
}
