import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.logging.Level;
import java.util.logging.Logger;
import javax.persistence.Entity;
import javax.persistence.GeneratedValue;
import javax.persistence.GenerationType;
import javax.persistence.Id;
import org.hibernate.ScrollMode;
import org.hibernate.Session;
import org.hibernate.SessionFactory;
import org.hibernate.annotations.Proxy;
import org.hibernate.cfg.Configuration;
import org.postgresql.PGConnection;

/** What Hibernate, and JDBC below it, do to their sessions, through Headpond. */
public class Claims {
    static final List<String> MODES = List.of("direct", "session", "transaction");
    static final String PID = "SELECT pg_backend_pid()";

    /** Its key is that of a sequence, asked for beforehand. */
    @Entity(name = "Book")
    @Proxy(lazy = false)
    public static class Book {
        @Id
        @GeneratedValue(strategy = GenerationType.SEQUENCE)
        public long id;

        public String title;
    }

    /** Its key is that of the row, asked for afterwards by `currval`. */
    @Entity(name = "Shelf")
    @Proxy(lazy = false)
    public static class Shelf {
        @Id
        @GeneratedValue(strategy = GenerationType.IDENTITY)
        public long id;

        public String title;
    }

    interface Numbered {
        void work(int number) throws Exception;
    }

    /** Runs one statement in a transaction of its own; its one value. */
    interface Asks {
        String ask(String query) throws SQLException;
    }

    interface Claim {
        void hold(String mode) throws Exception;
    }

    /** Without `options` nothing is prepared. */
    static String url(String mode, String... options) {
        String port = System.getenv(mode.toUpperCase() + "_PORT");
        String all = options.length == 0 ? "prepareThreshold=0" : String.join("&", options);
        return "jdbc:postgresql://127.0.0.1:" + port + "/postgres?ApplicationName=hibernate&" + all;
    }

    static Connection connect(String url) throws SQLException {
        return DriverManager.getConnection(url, "postgres", "");
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void same(Object found, Object expected) {
        check(Objects.equals(found, expected), found + " is " + expected);
    }

    static String ask(Connection connection, String query) throws SQLException {
        try (var statement = connection.createStatement(); var rows = statement.executeQuery(query)) {
            rows.next();
            return rows.getString(1);
        }
    }

    static void run(Connection connection, String... statements) throws SQLException {
        try (var statement = connection.createStatement()) {
            for (String text : statements) statement.execute(text);
        }
    }

    /** Nothing keeps a client's transactions together. */
    static void moves(String mode, Asks asks) throws SQLException {
        String first = asks.ask(PID);
        for (int turn = 0; turn < (mode.equals("transaction") ? 2000 : 4); turn++) {
            if (!asks.ask(PID).equals(first)) {
                same(mode, "transaction");
                return;
            }
        }
        check(!mode.equals("transaction"), "it moves");
    }

    static void moves(String mode, Connection connection) throws SQLException {
        moves(mode, query -> ask(connection, query));
    }

    /** All transactions of a client are on one connection, for this reason. */
    static void stays(String mode, Connection connection, String reason) throws SQLException {
        String pid = ask(connection, PID);
        for (int turn = 0; turn < 5; turn++) same(ask(connection, PID), pid);
        String name = ask(connection, "SELECT current_setting('application_name')");
        check(!mode.equals("transaction") || isShown(name, reason), "pinned by " + reason);
    }

    /** Whether the console comes to say that an application is pinned so. One without the command says yes. */
    static boolean isShown(String name, String reason) throws SQLException {
        String url = url("transaction", "preferQueryMode=simple", "assumeMinServerVersion=15").replace("/postgres?", "/headpond?");
        try (var console = connect(url); var statement = console.createStatement()) {
            for (int turn = 0; turn < 5000; turn++) {
                try (var rows = statement.executeQuery("SHOW PINS")) {
                    while (rows.next()) {
                        boolean own = rows.getString("application_name").equals(name);
                        if (own && rows.getString("reasons").contains(reason)) return true;
                    }
                }
            }
            return false;
        } catch (SQLException error) {
            return true;
        }
    }

    /** Runs it with 0, 1, … at the same time. */
    static void together(Numbered numbered) throws Exception {
        var executor = Executors.newFixedThreadPool(6);
        try {
            List<Future<?>> all = new ArrayList<>();
            for (int number = 0; number < 6; number++) {
                int own = number;
                all.add(executor.submit(() -> {
                    numbered.work(own);
                    return null;
                }));
            }
            for (Future<?> one : all) one.get();
        } finally {
            executor.shutdown();
        }
    }

    /** Six connections, tables made anew. */
    static SessionFactory factory(String url, String... properties) {
        var configuration = new Configuration()
                .addAnnotatedClass(Book.class)
                .addAnnotatedClass(Shelf.class)
                .setProperty("hibernate.dialect", "org.hibernate.dialect.PostgreSQLDialect")
                .setProperty("hibernate.connection.driver_class", "org.postgresql.Driver")
                .setProperty("hibernate.connection.url", url)
                .setProperty("hibernate.connection.username", "postgres")
                .setProperty("hibernate.connection.pool_size", "6")
                .setProperty("hibernate.jdbc.batch_size", "20")
                .setProperty("hibernate.jdbc.use_get_generated_keys", "false")
                .setProperty("hibernate.hbm2ddl.auto", "create");
        for (String property : properties) {
            configuration.setProperty(property.split("=")[0], property.split("=")[1]);
        }
        return configuration.buildSessionFactory();
    }

    static Book book(String title) {
        var book = new Book();
        book.title = title;
        return book;
    }

    static void commit(Session session, Runnable work) {
        session.beginTransaction();
        try {
            work.run();
            session.getTransaction().commit();
        } catch (Throwable error) {
            session.getTransaction().rollback();
            throw error;
        }
    }

    interface Sessioned {
        void with(Session session) throws Exception;
    }

    /** A factory that ends with its claim. */
    record Closing(SessionFactory factory) implements AutoCloseable {
        void session(Sessioned work) throws Exception {
            var session = factory.openSession();
            try {
                work.with(session);
                session.close();
            } catch (Throwable error) {
                // What it holds would keep the others waiting.
                session.doWork(Connection::close);
                throw error;
            }
        }

        public void close() {
            factory.close();
        }
    }

    /** In a transaction for each statement, as Hibernate runs them. */
    static Asks asks(Session session) {
        return query -> {
            session.beginTransaction();
            Object found = session.createSQLQuery(query).uniqueResult();
            session.getTransaction().commit();
            return found.toString();
        };
    }

    static void settingsOfALoginFollowIt(String mode) throws Exception {
        String[] options = {"currentSchema=shelf", "options=-c%20statement_timeout=9s", "readOnly=true", "readOnlyMode=always"};
        try (var own = connect(url(mode) + "&" + String.join("&", options)); var plain = connect(url(mode))) {
            own.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            plain.setSchema("public");
            for (int turn = 0; turn < 4; turn++) {
                String[][] settings = {
                    {"search_path", "shelf", "public"},
                    {"statement_timeout", "9s", "0"},
                    {"transaction_isolation", "serializable", "read committed"},
                    {"transaction_read_only", "on", "off"},
                    {"extra_float_digits", "3", "3"},
                    {"application_name", "hibernate", "hibernate"},
                };
                for (String[] setting : settings) {
                    same(ask(own, "SHOW " + setting[0]), setting[1]);
                    same(ask(plain, "SHOW " + setting[0]), setting[2]);
                }
            }
            moves(mode, own);
            own.setReadOnly(false);
            own.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            for (int turn = 0; turn < 4; turn++) {
                same(ask(own, "SHOW transaction_read_only"), "off");
                same(ask(own, "SHOW transaction_isolation"), "read committed");
            }
            moves(mode, own);
        }
    }

    static void isolationOfAFactoryIsThatOfItsTransactions(String mode) throws Exception {
        try (var plain = connect(url(mode)); var own = new Closing(factory(url(mode), "hibernate.connection.isolation=8"))) {
            together(number -> own.session(session -> {
                for (int turn = 0; turn < 10; turn++) {
                    same(asks(session).ask("SHOW transaction_isolation"), "serializable");
                }
            }));
            for (int turn = 0; turn < 4; turn++) same(ask(plain, "SHOW transaction_isolation"), "read committed");
        }
    }

    static void findsWhatItPrepared(String mode, String... options) throws Exception {
        try (var own = new Closing(factory(url(mode, options)))) {
            together(number -> own.session(session -> {
                for (int turn = 0; turn < 10; turn++) {
                    String title = number + "/" + turn;
                    var book = book(title);
                    commit(session, () -> session.save(book));
                    session.clear();
                    commit(session, () -> {
                        same(((Book) session.get(Book.class, book.id)).title, title);
                        var query = session.createQuery("FROM Book WHERE title = :title").setString("title", title);
                        ((Book) query.uniqueResult()).title = title + "!";
                    });
                    session.clear();
                    commit(session, () -> same(((Book) session.get(Book.class, book.id)).title, title + "!"));
                }
            }));
            own.session(session -> moves(mode, asks(session)));
        }
    }

    static void statementsPreparedAtOnceAreFound(String mode) throws Exception {
        findsWhatItPrepared(mode, "prepareThreshold=1");
    }

    static void statementsPreparedAndClosedInTurnAreFound(String mode) throws Exception {
        findsWhatItPrepared(mode, "prepareThreshold=1", "preparedStatementCacheQueries=2");
    }

    static void everythingPreparedWithSavepointsAroundItIsFound(String mode) throws Exception {
        findsWhatItPrepared(mode, "prepareThreshold=1", "preferQueryMode=extendedCacheEverything", "autosave=always");
    }

    static void keysOfNewRowsAreTheirOwn(String mode) throws Exception {
        try (var before = new Closing(factory(url(mode)))) {
            before.session(session -> {
                var first = new Shelf();
                first.title = "first";
                commit(session, () -> session.save(first));
            });
        } catch (org.hibernate.exception.GenericJDBCException refused) {
            // Nobody could know that somebody would ask.
            same(refused.getSQLException().getSQLState(), "55000");
        }
        try (var own = new Closing(factory(url(mode)))) {
            together(number -> own.session(session -> {
                for (int turn = 0; turn < 20; turn++) {
                    var book = book(number + "/" + turn);
                    var shelf = new Shelf();
                    shelf.title = book.title;
                    commit(session, () -> {
                        session.save(book);
                        session.save(shelf);
                    });
                    session.clear();
                    commit(session, () -> {
                        same(((Book) session.get(Book.class, book.id)).title, book.title);
                        same(((Shelf) session.get(Shelf.class, shelf.id)).title, book.title);
                    });
                }
            }));
        }
    }

    /** Outside a transaction the key is asked for in the next one: an error that says so will do. */
    static void nobodyIsGivenTheLastValueOfAnother(String mode) throws Exception {
        new Closing(factory(url(mode))).close();
        together(number -> {
            try (var own = connect(url(mode))) {
                for (int turn = 0; turn < 10; turn++) {
                    String title = number + "/" + turn;
                    run(own, "INSERT INTO Shelf (title) VALUES ('" + title + "')");
                    try {
                        String id = ask(own, "SELECT currval('Shelf_id_seq')");
                        same(ask(own, "SELECT title FROM Shelf WHERE id = " + id), title);
                    } catch (SQLException error) {
                        check(mode.equals("transaction") && error.getSQLState().equals("55000"), error.toString());
                    }
                    // Neither draws a value nor asks for one: what pinned ends.
                    ask(own, "SELECT 1");
                }
            }
        });
    }

    static void aScrolledResultEndsWithItsTransaction(String mode) throws Exception {
        try (var own = new Closing(factory(url(mode)))) {
            own.session(session -> {
                commit(session, () -> {
                    for (int n = 0; n < 200; n++) session.save(book(String.valueOf(n)));
                });
                session.clear();
                commit(session, () -> {
                    var rows = session.createQuery("FROM Book ORDER BY id").setFetchSize(10).scroll(ScrollMode.FORWARD_ONLY);
                    for (int n = 0; n < 200; n++) {
                        check(rows.next(), "a row");
                        same(((Book) rows.get(0)).title, String.valueOf(n));
                    }
                });
                moves(mode, asks(session));
            });
        }
    }

    static void aHeldCursorPinsUntilItIsClosed(String mode) throws Exception {
        try (var own = connect(url(mode))) {
            own.setAutoCommit(false);
            run(own, "DECLARE numbers CURSOR WITH HOLD FOR SELECT generate_series(1, 3)");
            own.commit();
            own.setAutoCommit(true);
            same(ask(own, "FETCH NEXT FROM numbers"), "1");
            stays(mode, own, "held_cursors");
            same(ask(own, "FETCH NEXT FROM numbers"), "2");
            run(own, "CLOSE numbers");
            moves(mode, own);
        }
    }

    static void aTemporaryTablePinsUntilItIsDropped(String mode) throws Exception {
        try (var own = connect(url(mode))) {
            run(own, "CREATE LOCAL TEMPORARY TABLE HT_book (id bigint NOT NULL)", "INSERT INTO HT_book VALUES (7)");
            stays(mode, own, "temporary_objects");
            same(ask(own, "SELECT id FROM HT_book"), "7");
            run(own, "DROP TABLE HT_book");
            moves(mode, own);
        }
    }

    /** As Flyway and Liquibase keep their migrations apart. */
    static void anAdvisoryLockPinsUntilItIsGivenBack(String mode) throws Exception {
        try (var own = connect(url(mode)); var other = connect(url(mode))) {
            same(ask(own, "SELECT pg_try_advisory_lock(4711)"), "t");
            same(ask(other, "SELECT pg_try_advisory_lock(4711)"), "f");
            own.setAutoCommit(false);
            run(own, "DROP TABLE IF EXISTS migrated", "CREATE TABLE migrated (n serial)");
            own.commit();
            own.setAutoCommit(true);
            stays(mode, own, "advisory_locks");
            moves(mode, other);
            same(ask(own, "SELECT pg_advisory_unlock(4711)"), "t");
            moves(mode, own);
        }
    }

    static void aListenerPinsUntilItNoLongerListens(String mode) throws Exception {
        try (var own = connect(url(mode)); var other = connect(url(mode))) {
            run(own, "LISTEN news");
            stays(mode, own, "listen");
            run(other, "NOTIFY news, 'hello'");
            var heard = own.unwrap(PGConnection.class).getNotifications(10_000);
            check(heard != null && heard.length == 1, "a notification");
            same(heard[0].getParameter(), "hello");
            run(own, "UNLISTEN *");
            moves(mode, own);
        }
    }

    static void aSavepointTakesItsSettingsBack(String mode) throws Exception {
        try (var own = connect(url(mode))) {
            own.setAutoCommit(false);
            run(own, "SET LOCAL work_mem = '5MB'");
            var savepoint = own.setSavepoint();
            run(own, "SET LOCAL work_mem = '6MB'", "SET statement_timeout = '8s'");
            own.rollback(savepoint);
            same(ask(own, "SHOW work_mem") + ask(own, "SHOW statement_timeout"), "5MB0");
            own.commit();
            own.setAutoCommit(true);
            for (int turn = 0; turn < 4; turn++) {
                same(ask(own, "SHOW work_mem") + ask(own, "SHOW statement_timeout"), "4MB0");
            }
            moves(mode, own);
        }
    }

    public static void main(String[] arguments) {
        // The driver has opinions on the console's version.
        Logger.getLogger("org.postgresql").setLevel(Level.OFF);
        var claims = new LinkedHashMap<String, Claim>();
        claims.put("settings of a login follow it", Claims::settingsOfALoginFollowIt);
        claims.put("isolation of a factory is that of its transactions", Claims::isolationOfAFactoryIsThatOfItsTransactions);
        claims.put("statements prepared at once are found", Claims::statementsPreparedAtOnceAreFound);
        claims.put("statements prepared and closed in turn are found", Claims::statementsPreparedAndClosedInTurnAreFound);
        claims.put("everything prepared with savepoints around it is found", Claims::everythingPreparedWithSavepointsAroundItIsFound);
        claims.put("keys of new rows are their own", Claims::keysOfNewRowsAreTheirOwn);
        claims.put("nobody is given the last value of another", Claims::nobodyIsGivenTheLastValueOfAnother);
        claims.put("a scrolled result ends with its transaction", Claims::aScrolledResultEndsWithItsTransaction);
        claims.put("a held cursor pins until it is closed", Claims::aHeldCursorPinsUntilItIsClosed);
        claims.put("a temporary table pins until it is dropped", Claims::aTemporaryTablePinsUntilItIsDropped);
        claims.put("an advisory lock pins until it is given back", Claims::anAdvisoryLockPinsUntilItIsGivenBack);
        claims.put("a listener pins until it no longer listens", Claims::aListenerPinsUntilItNoLongerListens);
        claims.put("a savepoint takes its settings back", Claims::aSavepointTakesItsSettingsBack);
        int passed = 0;
        int failed = 0;
        for (var claim : claims.entrySet()) {
            for (String mode : MODES) {
                try {
                    claim.getValue().hold(mode);
                    passed++;
                } catch (Throwable error) {
                    failed++;
                    System.out.println("FAILED " + claim.getKey() + ", " + mode);
                    error.printStackTrace(System.out);
                }
            }
        }
        System.out.println("orm-java: " + passed + " passed, " + failed + " failed");
        System.exit(failed > 0 ? 1 : 0);
    }
}
