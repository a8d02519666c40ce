"""What is measured: a row is a workload."""

from dataclasses import dataclass, field

ONE = "select 1;\n"
POOL = 20
"""Server connections of a pool."""
LARGE = "select repeat('x', 10000) from generate_series(1, 1000);\n"


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    clients: int = 0
    script: str = ""
    """A transaction; empty: what the arguments of pgbench say."""
    arguments: tuple = ()
    processes: int = 1
    """The clients are spread over so many pgbench processes, each with settings of its own."""
    environment: object = field(default=lambda number: {})
    """Of the pgbench process of that number."""
    pools: int = 1
    """The processes are spread over so many databases, each with a pool of its own."""
    pool: int = POOL
    mode: str = "transaction"
    auth: str = "trust"
    stored: bool = False
    """The pooler knows a SCRAM secret rather than the password."""
    unix: bool = False
    tls: str = ""
    """Which leg is in TLS: "client", or "both"."""
    sampling: float = 0.05
    """The share of transactions whose latency is noted."""
    without: tuple = ()
    """Contenders that cannot do it."""
    also: tuple = ()
    """Contenders that only this row has."""
    kind: str = "queries"
    """How it is measured (`sample.KINDS`)."""
    crowd: int = 0
    """Clients that log in at once."""
    copy: str = ""
    """Whither: "out" or "in"."""
    megabytes: float = 0
    """Of a transaction's result, if that is what counts."""
    added: bool = False
    """Whether latency is compared less that of the server alone."""
    note: str = ""


def own_settings(number):
    return {"PGTZ": f"Etc/GMT-{number % 13}", "PGOPTIONS": f"-c search_path=own_{number},public"}


DIRECT_TOO_MANY = ("direct",)

FLOORS = ("floor", "floor-plain")
"""Which know one pool, and neither settings, nor passwords, nor TLS."""

ROWS = [
    Row("select-1", "SELECT 1, 1 client", 1, ONE, added=True),
    Row("select-50", "SELECT 1, 50 clients", 50, ONE),
    Row("select-500", "SELECT 1, 500 clients", 500, ONE, without=DIRECT_TOO_MANY),
    Row("select-2000", "SELECT 1, 2,000 clients", 2000, ONE, without=DIRECT_TOO_MANY),
    Row("select-5000", "SELECT 1, 5,000 clients", 5000, ONE, without=DIRECT_TOO_MANY),
    Row("simple", "pgbench -S, simple, 20 clients", 20, arguments=("-S",)),
    Row("extended", "pgbench -S, extended, 20 clients", 20, arguments=("-S", "-M", "extended")),
    Row("prepared", "pgbench -S, prepared, 20 clients", 20, arguments=("-S", "-M", "prepared"),
        without=(*FLOORS, "headpond-untracked")),
    Row("function", "SELECT of a function in PL/pgSQL, 20 clients", 20, "select user_function(1);\n"),
    Row("trigger", "INSERT into a table with a trigger, 20 clients", 20, "insert into with_trigger values (1);\n",
        sampling=1),
    Row("paced", "SELECT 1, 50 clients, 16,000 a second", 50, ONE, arguments=("-R", "16000")),
    Row("settings", "SELECT 1, 50 clients, each its own search_path and time zone", 50, ONE, processes=50,
        environment=own_settings, sampling=0.05, without=FLOORS,
        note="PgBouncer keeps the time zone only: search_path is in its ignore_startup_parameters."),
    Row("pools-50", "SELECT 1, 200 clients of 50 databases, 50 pools of 2", 200, ONE, processes=50, pools=50, pool=2,
        without=(*DIRECT_TOO_MANY, *FLOORS)),
    Row("pools-2", "SELECT 1, 50 clients of 2 databases, 2 pools; headpond-2: on two workers", 50, ONE, processes=2, pools=2,
        without=FLOORS, also=("headpond-2",)),
    Row("connect", "SELECT 1, 20 clients, a connection for each, trust", 20, ONE, arguments=("-C",)),
    Row("connect-scram", "SELECT 1, 20 clients, a connection for each, SCRAM, plain passwords in the file", 20, ONE,
        arguments=("-C",), auth="scram-sha-256", sampling=1, without=(*FLOORS, "direct")),
    Row("connect-scram-stored", "SELECT 1, 20 clients, a connection for each, SCRAM, stored secrets in the file", 20, ONE,
        arguments=("-C",), auth="scram-sha-256", stored=True, sampling=1, without=(*FLOORS, "direct")),
    Row("large", "10 MB results, 2 clients", 2, LARGE, sampling=1, megabytes=10),
    Row("copy-out", "COPY of a table of 100 MB to 2 clients", 2, kind="copy", copy="out"),
    Row("copy-in", "COPY of 100 MB from 2 clients", 2, kind="copy", copy="in",
        note="The server reads the lines and keeps none."),
    Row("tpcb", "TPC-B, 20 clients", 20, arguments=("-b", "tpcb-like"), sampling=1),
    Row("tls-50", "SELECT 1, 50 clients in TLS", 50, ONE, tls="client", without=FLOORS),
    Row("tls-both-50", "SELECT 1, 50 clients, TLS on both legs", 50, ONE, tls="both", without=FLOORS),
    Row("tls-large", "10 MB results, 2 clients in TLS", 2, LARGE, sampling=1, megabytes=10, tls="client", without=FLOORS),
    Row("tls-both-large", "10 MB results, 2 clients, TLS on both legs", 2, LARGE, sampling=1, megabytes=10, tls="both", without=FLOORS),
    Row("connect-tls", "SELECT 1, 20 clients, a connection in TLS for each, trust", 20, ONE, arguments=("-C",), sampling=1,
        tls="client", without=FLOORS),
    Row("unix-50", "SELECT 1, 50 clients, Unix socket to the server", 50, ONE, unix=True, without=FLOORS),
    Row("unix-500", "SELECT 1, 500 clients, Unix socket to the server", 500, ONE, unix=True,
        without=(*DIRECT_TOO_MANY, *FLOORS)),
    Row("idle", "10,000 idle clients", 10000, kind="idle", without=DIRECT_TOO_MANY),
    Row("burst", "20,000 clients connect at once", kind="burst", crowd=20000, without=DIRECT_TOO_MANY,
        note="As many clients as the limit of open files allows, if that is fewer."),
    Row("login-storm", "2,000 logins at once by SCRAM in TLS, while 20 clients in TLS run SELECT 1", 20, ONE, kind="storm", crowd=2000,
        auth="scram-sha-256", stored=True, tls="client", sampling=0.25, without=(*DIRECT_TOO_MANY, *FLOORS),
        note="The client that logs in is one process of low priority: on few CPUs it bounds logins/s."),
]
BY_NAME = {row.name: row for row in ROWS}
QUICK = ("select-50", "select-500", "simple")
