"""Where transactions run, and why a server connection stays with its client."""

import os
import threading

import psycopg

PORTS = {mode: int(os.environ[f"{mode.upper()}_PORT"]) for mode in ("direct", "session", "transaction")}
PID = "SELECT pg_backend_pid()"


def is_shown(name, reason):
    """Whether the console comes to say that an application is pinned so. One without the command says yes."""
    login = f"host=127.0.0.1 port={PORTS['transaction']} user=postgres dbname=headpond"
    with psycopg.connect(login, autocommit=True, cursor_factory=psycopg.ClientCursor) as console:
        for _ in range(5000):
            try:
                cursor = console.execute("SHOW PINS")
            except psycopg.Error:
                return True
            columns = [column.name for column in cursor.description]
            pins = [dict(zip(columns, row)) for row in cursor]
            if any(pin["application_name"] == name and reason in pin["reasons"] for pin in pins):
                return True
    return False


def moves(mode, ask):
    """Nothing keeps a client's transactions together. `ask` runs one statement in a transaction of its own."""
    first = ask(PID)
    moved = any(ask(PID) != first for _ in range(2000 if mode == "transaction" else 4))
    assert moved == (mode == "transaction"), "it moves" if moved else "it stays"


def stays(mode, ask, reason):
    """All transactions of a client are on one connection, for this reason."""
    pids = {ask(PID) for _ in range(6)}
    assert len(pids) == 1, f"{len(pids)} connections"
    if mode == "transaction":
        assert is_shown(ask("SELECT current_setting('application_name')"), reason), f"pinned, but not by {reason}"


def together(work, count=6):
    """Runs work(0), work(1), … at the same time."""
    wrong = []

    def guarded(number):
        try:
            work(number)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]
