#!/bin/sh
# Every sslmode, channel_binding and sslnegotiation that psycopg (with the libpq it brings) and PostgreSQL's JDBC driver
# know, against each client_tls.
set -eu

name=python
. "$(dirname "$0")/../serve.sh"
command -v openssl >/dev/null || missing "openssl"
python=$(command -v python3) || missing "python3"
folder=$cache/$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! PYTHONPATH=$folder "$python" -c 'import psycopg' 2>/dev/null; then
    "$python" -m pip --version >/dev/null 2>&1 || missing "pip (package python3-pip)"
    "$python" -m pip install --quiet --upgrade --target "$folder" 'psycopg[binary]>=3.2,<4' >&2 || missing "psycopg from PyPI"
fi
command -v java >/dev/null || missing "java (package openjdk-17-jdk-headless or newer)"
driver=/usr/share/java/postgresql.jar
if [ ! -f "$driver" ]; then
    root=$("$repository/scripts/debian.sh" libpostgresql-jdbc-java) || missing "libpostgresql-jdbc-java"
    driver=$root$driver
fi
java --source 17 -version >/dev/null 2>&1 || missing "a JDK of version 17 or newer"

# An authority, a server's certificate for localhost, and a client's.
(
    cd "$work"
    issue() {
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$2"
        printf '%s\n' "$3" >"$1.ext"
        openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt"
    }
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=authority
    issue server localhost 'subjectAltName=DNS:localhost,IP:127.0.0.1'
    issue client postgres 'extendedKeyUsage=clientAuth'
    # JDBC reads keys in DER only.
    openssl pkcs8 -topk8 -nocrypt -in client.key -outform DER -out client.pk8
) >"$work/openssl" 2>&1 || { cat "$work/openssl" >&2; exit 1; }
echo '"postgres" "secret"' >"$work/users"

[ -x "$headpond" ] || cargo build --locked --manifest-path "$repository/Cargo.toml" -p headpond-cli
PG_BINDIR=$("$repository/scripts/postgres.sh")
export PG_BINDIR
start embedded
DIRECT_PORT=$(sed -n 's/.*listens on port \([0-9]*\).*/\1/p' "$work/embedded")
port=26561
PORTS=
for mode in disable allow prefer require verify-ca verify-full; do
    tries=0
    while :; do
        case $mode in verify-*) verify="client_tls_ca_file = \"ca.crt\"" ;; *) verify= ;; esac
        cat >"$work/$mode.toml" <<CONFIG
listen = ["127.0.0.1:$port"]
http_listen = ""
auth_type = "scram-sha-256"
auth_file = "users"
client_tls = "$mode"
client_tls_cert_file = "server.crt"
client_tls_key_file = "server.key"
$verify
[data_source.postgres]
host = "127.0.0.1"
port = $DIRECT_PORT
user = "postgres"
CONFIG
        start "$mode" "$work/$mode.toml" && break
        tries=$((tries + 1)) port=$((port + 1))
        [ $tries -lt 10 ] || exit 1
    done
    PORTS="$PORTS $mode=$port"
    port=$((port + 1))
done
FOLDER=$work
export PORTS FOLDER
{
    PYTHONPATH=$folder "$python" "$(dirname "$0")/claims.py" || true
    java -cp "$driver" "$(dirname "$0")/Claims.java" || true
} | tee "$work/output"
# Both suites as one.
awk '$1 == "python:" || $1 == "java:" { passed += $2; failed += $4; suites += 1 }
    END { if (suites < 2) failed += 1; printf "tls: %d passed, %d failed\n", passed, failed; exit failed > 0 }' "$work/output"
