"""What is measured: a row is a workload."""

from dataclasses import dataclass, field

ONE = "select 1;\n"
LARGE = "select repeat('x', 10000) from generate_series(1, 1000);\n"


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    clients: int
    script: str = ""
    """A transaction; empty: what the arguments of pgbench say."""
    arguments: tuple = ()
    processes: int = 1
    """The clients are spread over so many pgbench processes, each with settings of its own."""
    environment: object = field(default=lambda number: {})
    """Of the pgbench process of that number."""
    mode: str = "transaction"
    auth: str = "trust"
    unix: bool = False
    tls: str = ""
    """Which leg is in TLS: "client", or "both"."""
    sampling: float = 0.05
    """The share of transactions whose latency is noted."""
    without: tuple = ()
    """Contenders that cannot do it."""
    idle: bool = False
    """Nothing runs: the clients only sit."""
    note: str = ""


def own_settings(number):
    return {"PGTZ": f"Etc/GMT-{number % 13}", "PGOPTIONS": f"-c search_path=own_{number},public"}


DIRECT_TOO_MANY = ("direct",)

NO_TLS = ("floor", "floor-plain")

ROWS = [
    Row("select-1", "SELECT 1, 1 client", 1, ONE),
    Row("select-50", "SELECT 1, 50 clients", 50, ONE),
    Row("select-500", "SELECT 1, 500 clients", 500, ONE, without=DIRECT_TOO_MANY),
    Row("select-2000", "SELECT 1, 2,000 clients", 2000, ONE, without=DIRECT_TOO_MANY),
    Row("select-5000", "SELECT 1, 5,000 clients", 5000, ONE, without=DIRECT_TOO_MANY),
    Row("simple", "pgbench -S, simple, 20 clients", 20, arguments=("-S",)),
    Row("extended", "pgbench -S, extended, 20 clients", 20, arguments=("-S", "-M", "extended")),
    Row("prepared", "pgbench -S, prepared, 20 clients", 20, arguments=("-S", "-M", "prepared"),
        without=("floor", "floor-plain", "headpond-untracked")),
    Row("function", "SELECT of a function in PL/pgSQL, 20 clients", 20, "select user_function(1);\n"),
    Row("trigger", "INSERT into a table with a trigger, 20 clients", 20, "insert into with_trigger values (1);\n",
        sampling=1),
    Row("paced", "SELECT 1, 50 clients, 16,000 a second", 50, ONE, arguments=("-R", "16000")),
    Row("settings", "SELECT 1, 50 clients, each its own search_path and time zone", 50, ONE, processes=50,
        environment=own_settings, sampling=0.05, without=("floor", "floor-plain"),
        note="PgBouncer keeps the time zone only: search_path is in its ignore_startup_parameters."),
    Row("connect", "SELECT 1, 20 clients, a connection for each, trust", 20, ONE, arguments=("-C",)),
    Row("connect-scram", "SELECT 1, 20 clients, a connection for each, SCRAM, plain passwords in the file", 20, ONE,
        arguments=("-C",), auth="scram-sha-256", sampling=1, without=("floor", "floor-plain", "direct")),
    Row("large", "10 MB results, 2 clients", 2, LARGE, sampling=1, note="A transaction is one result of 10 MB."),
    Row("tpcb", "TPC-B, 20 clients", 20, arguments=("-b", "tpcb-like"), sampling=1),
    Row("tls-50", "SELECT 1, 50 clients in TLS", 50, ONE, tls="client", without=NO_TLS),
    Row("tls-both-50", "SELECT 1, 50 clients, TLS on both legs", 50, ONE, tls="both", without=NO_TLS),
    Row("tls-large", "10 MB results, 2 clients in TLS", 2, LARGE, sampling=1, tls="client", without=NO_TLS,
        note="A transaction is one result of 10 MB."),
    Row("connect-tls", "SELECT 1, 20 clients, a connection in TLS for each, trust", 20, ONE, arguments=("-C",), sampling=1,
        tls="client", without=NO_TLS),
    Row("unix-50", "SELECT 1, 50 clients, Unix socket to the server", 50, ONE, unix=True, without=("floor", "floor-plain")),
    Row("unix-500", "SELECT 1, 500 clients, Unix socket to the server", 500, ONE, unix=True,
        without=(*DIRECT_TOO_MANY, "floor", "floor-plain")),
    Row("idle", "10,000 idle clients", 10000, idle=True, without=DIRECT_TOO_MANY),
]
BY_NAME = {row.name: row for row in ROWS}
QUICK = ("select-50", "select-500", "simple")
