"""Django's habits: settings at connect, held cursors outside transactions, savepoints, migrations."""

import contextlib
import sys

import django
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connections, models, transaction

from watch import PID, PORTS, moves, stays, together


def database(mode, **options):
    options = {"application_name": "django", **options}
    login = {"HOST": "127.0.0.1", "PORT": PORTS[mode], "USER": "postgres", "NAME": "postgres"}
    return {"ENGINE": "django.db.backends.postgresql", "TIME_ZONE": "Asia/Tokyo", "OPTIONS": options, **login}


DATABASES = {mode: database(mode) for mode in PORTS}
for mode in PORTS:
    DATABASES[f"{mode} binding"] = database(mode, server_side_binding=True, prepare_threshold=0)
    DATABASES[f"{mode} schema"] = database(mode, options="-c search_path=shelf", assume_role="librarian")
settings.configure(
    DATABASES={"default": {}, **DATABASES},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()


class Book(models.Model):
    title = models.TextField()

    class Meta:
        app_label = "books"
        db_table = "django_book"


def scalar(alias, query, *parameters):
    with connections[alias].cursor() as cursor:
        cursor.execute(query, parameters or None)
        return cursor.fetchone()[0]


def run(alias, *statements):
    with connections[alias].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextlib.contextmanager
def application(alias, books=0):
    """A fresh connection, and a table with so many books."""
    try:
        if books:
            run(alias, "DROP TABLE IF EXISTS django_book")
            with connections[alias].schema_editor() as editor:
                editor.create_model(Book)
            Book.objects.using(alias).bulk_create(Book(title=str(number)) for number in range(books))
        yield lambda query: scalar(alias, query)
    finally:
        connections[alias].close()


def settings_of_the_login_follow_it(mode):
    run(mode, "DROP SCHEMA IF EXISTS shelf", "DROP ROLE IF EXISTS librarian")
    run(mode, "CREATE ROLE librarian", "CREATE SCHEMA shelf AUTHORIZATION librarian")
    alias = f"{mode} schema"
    with application(mode) as plain, application(alias) as ask:
        for _ in range(4):
            for query, mine, others in [
                ("SHOW timezone", "Asia/Tokyo", "Asia/Tokyo"),
                ("SELECT current_user", "librarian", "postgres"),
                ("SHOW search_path", "shelf", '"$user", public'),
                ("SHOW client_encoding", "UTF8", "UTF8"),
            ]:
                assert ask(query) == mine, query
                assert plain(query) == others, query
        moves(mode, ask)
        moves(mode, plain)


def time_zones_of_threads_are_their_own(mode):
    zones = ["Asia/Tokyo", "Europe/Prague", "America/Lima"]

    def work(number):
        zone = zones[number % 3]
        with application(mode):
            scalar(mode, "SELECT set_config('TimeZone', %s, false)", zone)
            for _ in range(20):
                with transaction.atomic(using=mode):
                    assert scalar(mode, "SHOW timezone") == zone
                    run(mode, "SET LOCAL TimeZone = 'UTC'")
                    assert scalar(mode, "SHOW timezone") == "UTC"

    together(work)


def an_iterator_outside_a_transaction_pins_until_it_is_closed(mode):
    with application(mode, books=50) as ask:
        moves(mode, ask)
        books = Book.objects.using(mode).order_by("id").iterator(chunk_size=10)
        assert next(books).title == "0"
        stays(mode, ask, "held_cursors")
        assert [book.title for book in books] == [str(number) for number in range(1, 50)]
        moves(mode, ask)
        abandoned = Book.objects.using(mode).iterator(chunk_size=10)
        next(abandoned)
        stays(mode, ask, "held_cursors")
        abandoned.close()
        moves(mode, ask)


def an_iterator_inside_a_transaction_ends_with_it(mode):
    with application(mode, books=50) as ask:
        with transaction.atomic(using=mode):
            books = Book.objects.using(mode).order_by("id").iterator(chunk_size=10)
            assert [int(book.title) for book in books] == list(range(50))
        moves(mode, ask)


def a_savepoint_takes_its_settings_back(mode):
    with application(mode, books=1) as ask:
        with transaction.atomic(using=mode):
            run(mode, "SET LOCAL work_mem = '5MB'", "SET statement_timeout = '7s'")
            try:
                with transaction.atomic(using=mode):
                    run(mode, "SET LOCAL work_mem = '6MB'", "SET statement_timeout = '8s'")
                    Book.objects.using(mode).create(title="lost")
                    run(mode, "SELECT 1 / 0")
            except DatabaseError:
                pass
            assert ask("SHOW work_mem") == "5MB" and ask("SHOW statement_timeout") == "7s"
        for _ in range(3):
            assert ask("SHOW work_mem") == "4MB" and ask("SHOW statement_timeout") == "7s"
        assert Book.objects.using(mode).count() == 1
        moves(mode, ask)


def keys_of_new_rows_are_their_own(mode):
    with application(mode, books=1) as ask:
        made = []

        def work(number):
            with application(mode):
                for turn in range(20):
                    book = Book.objects.using(mode).create(title=f"{number}/{turn}")
                    assert Book.objects.using(mode).get(pk=book.pk).title == f"{number}/{turn}"
                    made.append(book.pk)

        together(work)
        assert len(set(made)) == 120
        moves(mode, ask)


def statements_bound_and_prepared_by_the_server_are_found(mode):
    alias = f"{mode} binding"
    with application(alias, books=3) as ask:
        for turn in range(12):
            book = Book.objects.using(alias).get(title=str(turn % 3))
            assert book.title == str(turn % 3)
            book.save(using=alias)
        moves(mode, ask)


def a_temporary_table_pins_until_it_is_dropped(mode):
    with application(mode) as ask:
        run(mode, "CREATE TEMP TABLE basket AS SELECT 1 AS n")
        stays(mode, ask, "temporary_objects")
        run(mode, "INSERT INTO basket VALUES (2)")
        assert ask("SELECT sum(n) FROM basket") == 3
        run(mode, "DROP TABLE basket")
        moves(mode, ask)
        with transaction.atomic(using=mode):
            run(mode, "CREATE TEMP TABLE basket (n int) ON COMMIT DROP", "INSERT INTO basket VALUES (1)")
        moves(mode, ask)


def migrations_leave_nothing_behind(mode):
    with application(mode) as ask:
        for app in ("auth", "contenttypes"):
            call_command("migrate", app, database=mode, verbosity=0)
        moves(mode, ask)
        for app in ("auth", "contenttypes"):
            call_command("migrate", app, "zero", database=mode, verbosity=0)
        moves(mode, ask)


CLAIMS = [
    settings_of_the_login_follow_it,
    time_zones_of_threads_are_their_own,
    an_iterator_outside_a_transaction_pins_until_it_is_closed,
    an_iterator_inside_a_transaction_ends_with_it,
    a_savepoint_takes_its_settings_back,
    keys_of_new_rows_are_their_own,
    statements_bound_and_prepared_by_the_server_are_found,
    a_temporary_table_pins_until_it_is_dropped,
    migrations_leave_nothing_behind,
]
