"""Who gets in, and encrypted or not, by psycopg: in each mode of libpq, with each binding, each way to begin."""

import itertools
import os
import sys

import psycopg

PORTS = dict(pair.split("=") for pair in os.environ["PORTS"].split())
FOLDER = os.environ["FOLDER"]
MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
DEMANDED = {"require", "verify-ca", "verify-full"}


def expected(ours, theirs, binding, negotiation, certificate):
    """None: not in. Otherwise whether it is encrypted."""
    if negotiation == "direct" and theirs not in DEMANDED:
        return None  # libpq itself refuses the combination.
    offered, demanded = ours != "disable", ours in DEMANDED
    # In clear, in TLS, and in which order they are tried.
    clear, tls = not demanded, offered and (certificate or not ours.startswith("verify"))
    if binding == "require":
        clear = False
    ways = {"disable": ["clear"], "allow": ["clear", "tls"], "prefer": ["tls", "clear"]}.get(theirs, ["tls"])
    if binding == "require" and theirs == "allow" and ours in ("disable", "allow", "prefer"):
        return None  # It was let in in clear as far as the password, and that it does not try again.
    if theirs == "prefer" and binding == "require" and not tls:
        return None
    for way in ways:
        if way == "clear" and clear:
            return False
        if way == "tls" and tls:
            return True
    return None


def got(ours, theirs, binding, negotiation, certificate):
    options = {"sslmode": theirs, "channel_binding": binding, "sslrootcert": f"{FOLDER}/ca.crt"}
    if psycopg.pq.version() >= 170000:
        options["sslnegotiation"] = negotiation
    names = ("client.crt", "client.key") if certificate else ("none.crt", "none.key")
    options["sslcert"], options["sslkey"] = (f"{FOLDER}/{name}" for name in names)
    try:
        with psycopg.connect(
            host="127.0.0.1", port=PORTS[ours], user="postgres", password="secret", dbname="postgres", **options
        ) as connection:
            assert connection.execute("SELECT repeat('x', 100000)").fetchone() == ("x" * 100000,)
            return bool(connection.pgconn.ssl_in_use), None
    except psycopg.OperationalError as error:
        return None, str(error).strip()


def main():
    os.chmod(f"{FOLDER}/client.key", 0o600)
    negotiations = ["postgres", "direct"] if psycopg.pq.version() >= 170000 else ["postgres"]
    passed = failed = 0
    bindings = ["disable", "prefer", "require"]
    for case in itertools.product(MODES, MODES, bindings, negotiations, [False, True]):
        outcome, why = got(*case)
        if outcome == expected(*case):
            passed += 1
        else:
            failed += 1
            print(f"FAILED: {case}: {outcome}, not {expected(*case)}: {why}")
    print(f"libpq {psycopg.pq.version()}")
    print(f"python: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
