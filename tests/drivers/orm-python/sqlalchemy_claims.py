"""SQLAlchemy's habits: isolation by engine, connect events, streamed results, resets on return, and asyncpg below."""

import asyncio
import contextlib

import psycopg
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, Table, Text, event, func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from watch import PID, PORTS, moves, stays, together

BOOK = Table("alchemy_book", MetaData(), Column("id", Integer, primary_key=True), Column("title", Text))


@contextlib.contextmanager
def engine(mode, on_connect=(), connect_args=None, **options):
    """An engine of at most 6 connections that prepares nothing, and what asks on one of its own for each question."""
    arguments = {"prepare_threshold": None, "application_name": "alchemy", **(connect_args or {})}
    url = f"postgresql+psycopg://postgres@127.0.0.1:{PORTS[mode]}/postgres"
    engine = sqlalchemy.create_engine(url, connect_args=arguments, pool_size=6, max_overflow=0, **options)

    @event.listens_for(engine, "connect")
    def connect(connection, _):
        connection.autocommit = True
        for statement in on_connect:
            connection.execute(statement)
        connection.autocommit = False

    yield engine
    engine.dispose()


@contextlib.contextmanager
def connection(engine):
    """A connection that each statement is committed on, and the function that asks it for one value."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection, lambda query, **parameters: connection.scalar(text(query), parameters)


def make_books(engine, count):
    BOOK.drop(engine, checkfirst=True)
    BOOK.create(engine)
    with engine.begin() as connection:
        connection.execute(insert(BOOK), [{"title": str(number)} for number in range(count)])


def settings_of_a_connect_event_follow_each_connection(mode):
    statements = ("SET search_path = 'stock'", "SET statement_timeout = '9s'")
    with engine(mode, on_connect=statements) as stock, engine(mode) as plain:

        def work(number):
            for _ in range(20):
                with (stock if number % 2 else plain).begin() as connection:
                    path = connection.scalar(text("SHOW search_path"))
                    assert path == ("stock" if number % 2 else '"$user", public'), path
                    timeout = connection.scalar(text("SHOW statement_timeout"))
                    assert timeout == ("9s" if number % 2 else "0"), timeout

        together(work)
        with connection(stock) as (_, ask):
            moves(mode, ask)


def isolation_of_an_engine_is_that_of_its_transactions(mode):
    with engine(mode, isolation_level="SERIALIZABLE") as strict, engine(mode) as plain:
        reading = strict.execution_options(postgresql_readonly=True, postgresql_deferrable=True)
        for _ in range(4):
            for each, isolation, read_only in [
                (strict, "serializable", "off"),
                (plain, "read committed", "off"),
                (reading, "serializable", "on"),
            ]:
                with each.begin() as connection_:
                    assert connection_.scalar(text("SHOW transaction_isolation")) == isolation
                    assert connection_.scalar(text("SHOW transaction_read_only")) == read_only
        with connection(plain) as (_, ask):
            moves(mode, ask)


def streamed_results_end_with_their_transaction(mode):
    with engine(mode) as here:
        make_books(here, 500)
        with here.connect() as own:
            rows = own.execution_options(yield_per=50).execute(select(BOOK.c.title).order_by(BOOK.c.id))
            assert [int(row.title) for row in rows] == list(range(500))
            own.commit()
            moves(mode, lambda query: (own.scalar(text(query)), own.commit())[0])


def a_held_cursor_pins_until_it_is_closed(mode):
    with engine(mode) as here, connection(here) as (own, ask):
        make_books(here, 50)
        cursor = own.connection.driver_connection.cursor("books", withhold=True)
        cursor.execute("SELECT title FROM alchemy_book ORDER BY id")
        assert cursor.fetchmany(2) == [("0",), ("1",)]
        stays(mode, ask, "held_cursors")
        assert len(cursor.fetchall()) == 48
        cursor.close()
        moves(mode, ask)


def a_temporary_table_pins_until_it_is_dropped(mode):
    basket = Table("basket", MetaData(), Column("n", Integer), prefixes=["TEMPORARY"])
    with engine(mode) as here, connection(here) as (own, ask):
        basket.create(own)
        own.execute(insert(basket), [{"n": 1}, {"n": 2}])
        stays(mode, ask, "temporary_objects")
        assert own.scalar(select(func.sum(basket.c.n))) == 3
        basket.drop(own)
        moves(mode, ask)


def an_advisory_lock_pins_until_it_is_given_back(mode):
    with engine(mode) as here, connection(here) as (_, one), connection(here) as (_, other):
        assert one("SELECT pg_try_advisory_lock(:key)", key=4711)
        assert not other("SELECT pg_try_advisory_lock(4711)")
        stays(mode, one, "advisory_locks")
        moves(mode, other)
        assert one("SELECT pg_advisory_unlock(:key)", key=4711)
        moves(mode, one)
        with here.begin() as migration:
            migration.execute(text("SELECT pg_advisory_xact_lock(4711)"))
            assert not other("SELECT pg_try_advisory_lock(4711)")
        assert other("SELECT pg_try_advisory_lock(4711)") and other("SELECT pg_advisory_unlock(4711)")
        moves(mode, other)


def a_listener_pins_until_it_no_longer_listens(mode):
    with engine(mode) as here, connection(here) as (own, ask), connection(here) as (_, other):
        own.execute(text("LISTEN news"))
        stays(mode, ask, "listen")
        other("SELECT pg_notify('news', 'hello')")
        heard = own.connection.driver_connection.notifies(timeout=10, stop_after=1)
        assert [notify.payload for notify in heard] == ["hello"]
        own.execute(text("UNLISTEN news"))
        moves(mode, ask)


def a_savepoint_takes_its_settings_back(mode):
    with engine(mode) as here, here.connect() as own:
        with own.begin():
            own.execute(text("SET LOCAL work_mem = '5MB'"))
            with contextlib.suppress(DBAPIError), own.begin_nested():
                own.execute(text("SET LOCAL work_mem = '6MB'"))
                own.execute(text("SET statement_timeout = '8s'"))
                own.execute(text("SELECT 1 / 0"))
            assert own.scalar(text("SHOW work_mem")) == "5MB"
            assert own.scalar(text("SHOW statement_timeout")) == "0"
        for _ in range(3):
            with own.begin():
                assert own.scalar(text("SHOW work_mem")) == "4MB"
                assert own.scalar(text("SHOW statement_timeout")) == "0"


def nobody_is_given_the_last_value_of_another(mode):
    """Asked in a later transaction, it is one's own, or an error that says so."""
    with engine(mode) as here:
        make_books(here, 1)

        def work(number):
            with connection(here) as (own, ask):
                for turn in range(10):
                    made = own.scalar(insert(BOOK).values(title=f"{number}/{turn}").returning(BOOK.c.id))
                    for query in ("SELECT lastval()", "SELECT currval('alchemy_book_id_seq')"):
                        try:
                            assert ask(query) == made, query
                        except DBAPIError as error:
                            assert mode == "transaction" and error.orig.sqlstate == "55000", error
                    # Neither draws a value nor asks for one: what pinned ends.
                    ask("SELECT 1")

        together(work)


def the_last_value_outlives_its_transaction_once_it_was_asked_for(mode):
    with engine(mode) as here, connection(here) as (own, ask), connection(here) as (other, _):
        make_books(here, 1)
        new = insert(BOOK).values(title="").returning(BOOK.c.id)
        own.scalar(new)
        with contextlib.suppress(DBAPIError):
            ask("SELECT lastval()")
        for _ in range(10):
            made = own.scalar(new)
            assert other.scalar(new) == made + 1
            assert ask("SELECT lastval()") == made
        # Neither draws a value nor asks for one: what pins the other ends, so that there is somewhere to move to.
        other.scalar(text("SELECT 1"))
        other.commit()
        moves(mode, ask)


def the_last_value_is_known_in_its_transaction(mode):
    with engine(mode) as here:
        make_books(here, 1)

        def work(number):
            for _ in range(10):
                with here.begin() as own:
                    made = own.scalar(insert(BOOK).values(title="").returning(BOOK.c.id))
                    assert own.scalar(text("SELECT lastval()")) == made

        together(work)


def what_a_reset_on_return_discards_is_gone(mode):
    with engine(mode, on_connect=["SET search_path = 'stock'"], pool_reset_on_return=None) as here:

        @event.listens_for(here, "reset")
        def reset(connection, _record, _state):
            connection.rollback()
            connection.autocommit = True
            connection.execute("DISCARD ALL")
            connection.autocommit = False

        with connection(here) as (own, ask):
            own.execute(text("CREATE TEMP TABLE basket (n int)"))
            own.execute(text("LISTEN news"))
            ask("SELECT true FROM pg_advisory_lock(4712)")
            stays(mode, ask, "temporary_objects")
        with connection(here) as (_, ask):
            moves(mode, ask)
            assert ask("SHOW search_path") == '"$user", public' and ask("SHOW application_name") == "alchemy"
            assert ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
            assert ask("SELECT to_regclass('pg_temp.basket')") is None


def statements_that_psycopg_prepares_are_found(mode):
    with engine(mode, connect_args={"prepare_threshold": 0}) as here:
        make_books(here, 6)

        def work(number):
            for turn in range(10):
                with here.begin() as own:
                    found = own.scalar(select(BOOK.c.title).where(BOOK.c.id == (number + turn) % 6 + 1))
                    assert found == str((number + turn) % 6)

        together(work)
        with connection(here) as (_, ask):
            moves(mode, ask)


def statements_that_asyncpg_prepares_are_found(mode):
    async def work():
        url = f"postgresql+asyncpg://postgres@127.0.0.1:{PORTS[mode]}/postgres"
        settings = {"server_settings": {"application_name": "asyncpg", "search_path": "public"}}
        here = create_async_engine(url, connect_args=settings, isolation_level="REPEATABLE READ")
        pids = set()
        for turn in range(8):
            async with here.begin() as own:
                found = await own.scalar(select(BOOK.c.title).where(BOOK.c.id == turn % 6 + 1))
                assert found == str(turn % 6)
                assert await own.scalar(text("SHOW transaction_isolation")) == "repeatable read"
                assert await own.scalar(text("SHOW search_path")) == "public"
                assert (await own.execute(text("SELECT '{1,2}'::int[], '{}'::jsonb"))).one() == ([1, 2], {})
                pids.add(await own.scalar(text(PID)))
        await here.dispose()
        assert (len(pids) > 1) == (mode == "transaction"), pids

    with engine(mode) as here:
        make_books(here, 6)
    asyncio.run(work())


CLAIMS = [
    settings_of_a_connect_event_follow_each_connection,
    isolation_of_an_engine_is_that_of_its_transactions,
    streamed_results_end_with_their_transaction,
    a_held_cursor_pins_until_it_is_closed,
    a_temporary_table_pins_until_it_is_dropped,
    an_advisory_lock_pins_until_it_is_given_back,
    a_listener_pins_until_it_no_longer_listens,
    a_savepoint_takes_its_settings_back,
    nobody_is_given_the_last_value_of_another,
    the_last_value_outlives_its_transaction_once_it_was_asked_for,
    the_last_value_is_known_in_its_transaction,
    what_a_reset_on_return_discards_is_gone,
    statements_that_psycopg_prepares_are_found,
    statements_that_asyncpg_prepares_are_found,
]
