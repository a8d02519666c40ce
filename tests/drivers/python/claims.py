"""What a Python application does with psycopg, through Headpond."""

import os
import sys
import threading
import traceback

import psycopg

PORTS = {"session": os.environ["SESSION_PORT"], "transaction": os.environ["TRANSACTION_PORT"]}


def connect(mode, **options):
    # In transaction mode psycopg must not prepare: the statement would stay behind.
    prepare = {} if mode == "session" else {"prepare_threshold": None}
    return psycopg.connect(host="127.0.0.1", port=PORTS[mode], user="postgres", dbname="postgres", **prepare, **options)


def a_query_takes_parameters(mode):
    with connect(mode) as connection:
        row = connection.execute("SELECT %s + 1, %s::text, %b::bytea", (41, "ö", b"\0\xff")).fetchone()
        assert row == (42, "ö", b"\0\xff"), row


def a_transaction_commits_or_not_at_all(mode):
    with connect(mode, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS python (n int)")
        connection.execute("TRUNCATE python")
        with connection.transaction():
            connection.execute("INSERT INTO python VALUES (1)")
        try:
            with connection.transaction():
                connection.execute("INSERT INTO python VALUES (2)")
                connection.execute("SELECT 1 / 0")
        except psycopg.errors.DivisionByZero:
            pass
        assert connection.execute("SELECT array_agg(n) FROM python").fetchone() == ([1],)


def an_error_is_not_the_end(mode):
    with connect(mode, autocommit=True) as connection:
        for query in ("SELEC", "SELECT nothing", "SELECT 1 / 0"):
            try:
                connection.execute(query)
                raise AssertionError(query)
            except psycopg.Error:
                pass
        assert connection.execute("SELECT 1").fetchone() == (1,)


def a_prepared_statement_is_used_again(mode):
    with connect(mode) as connection:
        for number in range(20):
            assert connection.execute("SELECT %s * 2", (number,), prepare=True).fetchone() == (number * 2,)


def a_pipeline_is_answered_in_order(mode):
    with connect(mode, autocommit=True) as connection, connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT %s::int", (number,)) for number in range(500)]
        pipeline.sync()
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(500))
        broken = connection.execute("SELECT 1 / 0")
        try:
            pipeline.sync()
            broken.fetchone()
            raise AssertionError("no error")
        except psycopg.errors.DivisionByZero:
            pass
        assert connection.execute("SELECT 7").fetchone() == (7,)


def copy_goes_both_ways(mode):
    rows = [(number, "x" * (number % 100)) for number in range(50_000)]
    with connect(mode) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE copied (n int, t text) ON COMMIT DROP")
        with cursor.copy("COPY copied FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        with cursor.copy("COPY (SELECT * FROM copied ORDER BY n) TO STDOUT") as copy:
            copy.set_types(["int4", "text"])
            assert list(copy.rows()) == rows


def a_cancel_ends_the_query(mode):
    with connect(mode, autocommit=True) as connection, connect(mode, autocommit=True) as other:
        over = threading.Event()

        def cancel():
            asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            while not over.is_set() and other.execute(asleep).fetchone() is None:
                pass
            connection.cancel_safe()

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            connection.execute("SELECT pg_sleep(100000)")
            raise AssertionError("not cancelled")
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            over.set()
            thread.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def fifty_clients_share_few_connections(mode):
    wrong = []

    def work(number):
        try:
            with connect(mode, autocommit=True) as connection:
                for turn in range(20):
                    assert connection.execute("SELECT %s::int + %s", (number, turn)).fetchone() == (number + turn,)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong


CLAIMS = {
    a_query_takes_parameters: PORTS,
    a_transaction_commits_or_not_at_all: PORTS,
    an_error_is_not_the_end: PORTS,
    a_prepared_statement_is_used_again: ["session"],
    a_pipeline_is_answered_in_order: PORTS,
    copy_goes_both_ways: PORTS,
    a_cancel_ends_the_query: PORTS,
    fifty_clients_share_few_connections: PORTS,
}

passed = failed = 0
for claim, modes in CLAIMS.items():
    for mode in modes:
        try:
            claim(mode)
            passed += 1
        except Exception:
            failed += 1
            print(f"FAILED {claim.__name__}, {mode}")
            traceback.print_exc(file=sys.stdout)
print(f"python: {passed} passed, {failed} failed")
sys.exit(failed > 0)
