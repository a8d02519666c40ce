import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;

/** What a Java application does with JDBC, through Headpond. */
public class Claims {
    interface Claim {
        void hold(String mode) throws Exception;
    }

    static Connection connect(String mode) throws SQLException {
        String port = System.getenv(mode.equals("session") ? "SESSION_PORT" : "TRANSACTION_PORT");
        // In transaction mode the driver must not prepare: the statement would stay behind.
        String prepare = mode.equals("session") ? "" : "?prepareThreshold=0";
        String url = "jdbc:postgresql://127.0.0.1:" + port + "/postgres" + prepare;
        return DriverManager.getConnection(url, "postgres", "");
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static int number(Connection connection, String query) throws SQLException {
        try (var statement = connection.createStatement(); var rows = statement.executeQuery(query)) {
            rows.next();
            return rows.getInt(1);
        }
    }

    static void run(Connection connection, String... statements) throws SQLException {
        try (var statement = connection.createStatement()) {
            for (String text : statements) statement.execute(text);
        }
    }

    static void expect(String state, Callable<?> work) throws Exception {
        try {
            work.call();
        } catch (SQLException error) {
            check(state.equals(error.getSQLState()), error.toString());
            return;
        }
        throw new AssertionError("no error " + state);
    }

    static void aQueryTakesParameters(String mode) throws Exception {
        try (var connection = connect(mode); var query = connection.prepareStatement("SELECT ? + 1, ?, ?")) {
            query.setInt(1, 41);
            query.setString(2, "ö");
            query.setBytes(3, new byte[] {0, -1});
            try (var rows = query.executeQuery()) {
                rows.next();
                boolean same = rows.getInt(1) == 42 && rows.getString(2).equals("ö");
                check(same && Arrays.equals(rows.getBytes(3), new byte[] {0, -1}), "values");
            }
        }
    }

    static void aTransactionCommitsOrNotAtAll(String mode) throws Exception {
        try (var connection = connect(mode)) {
            run(connection, "CREATE TABLE IF NOT EXISTS java (n int)", "TRUNCATE java");
            connection.setAutoCommit(false);
            run(connection, "INSERT INTO java VALUES (1)");
            connection.commit();
            run(connection, "INSERT INTO java VALUES (2)");
            connection.rollback();
            check(number(connection, "SELECT sum(n) FROM java") == 1, "one row");
        }
    }

    static void anErrorIsNotTheEnd(String mode) throws Exception {
        try (var connection = connect(mode)) {
            expect("42601", () -> number(connection, "SELEC"));
            expect("22012", () -> number(connection, "SELECT 1 / 0"));
            check(number(connection, "SELECT 1") == 1, "goes on");
        }
    }

    /** The driver prepares on the server from the fifth execution on. */
    static void aPreparedStatementIsUsedAgain(String mode) throws Exception {
        try (var connection = connect(mode); var query = connection.prepareStatement("SELECT ? * 2")) {
            for (int n = 0; n < 20; n++) {
                query.setInt(1, n);
                try (var rows = query.executeQuery()) {
                    rows.next();
                    check(rows.getInt(1) == n * 2, "double");
                }
            }
        }
    }

    static void aBatchIsOneFlight(String mode) throws Exception {
        try (var connection = connect(mode)) {
            run(connection, "CREATE TABLE IF NOT EXISTS java_batch (n int)", "TRUNCATE java_batch");
            try (var insert = connection.prepareStatement("INSERT INTO java_batch VALUES (?)")) {
                for (int n = 0; n < 1000; n++) {
                    insert.setInt(1, n);
                    insert.addBatch();
                }
                check(insert.executeBatch().length == 1000, "counts");
            }
            check(number(connection, "SELECT count(*) FROM java_batch") == 1000, "rows");
        }
    }

    static void copyGoesBothWays(String mode) throws Exception {
        byte[] data = "1\tone\n2\ttwo\n".repeat(50_000).getBytes();
        try (var connection = connect(mode)) {
            connection.setAutoCommit(false);
            run(connection, "CREATE TEMP TABLE copied (n int, t text) ON COMMIT DROP");
            var copies = connection.unwrap(PGConnection.class).getCopyAPI();
            check(copies.copyIn("COPY copied FROM STDIN", new ByteArrayInputStream(data)) == 100_000, "in");
            var out = new ByteArrayOutputStream();
            check(copies.copyOut("COPY copied TO STDOUT", out) == 100_000, "out");
            check(Arrays.equals(out.toByteArray(), data), "the same");
            connection.commit();
        }
    }

    static void aCancelEndsTheQuery(String mode) throws Exception {
        var executor = Executors.newSingleThreadExecutor();
        try (var connection = connect(mode); var other = connect(mode); var sleep = connection.createStatement()) {
            Future<?> outcome = executor.submit(() -> {
                expect("57014", () -> sleep.execute("SELECT pg_sleep(100000)"));
                return null;
            });
            String asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            while (number(other, asleep) == 0) {}
            sleep.cancel();
            outcome.get();
            check(number(connection, "SELECT 1") == 1, "goes on");
        } finally {
            executor.shutdown();
        }
    }

    static void fiftyClientsShareFewConnections(String mode) throws Exception {
        var executor = Executors.newFixedThreadPool(50);
        try {
            List<Future<?>> clients = new ArrayList<>();
            for (int client = 0; client < 50; client++) {
                int own = client;
                clients.add(executor.submit(() -> {
                    try (var connection = connect(mode)) {
                        for (int n = 0; n < 20; n++) check(number(connection, "SELECT " + own) == own, "own value");
                    }
                    return null;
                }));
            }
            for (var client : clients) client.get();
        } finally {
            executor.shutdown();
        }
    }

    public static void main(String[] arguments) {
        Map<String, Claim> claims = new LinkedHashMap<>();
        claims.put("a query takes parameters", Claims::aQueryTakesParameters);
        claims.put("a transaction commits or not at all", Claims::aTransactionCommitsOrNotAtAll);
        claims.put("an error is not the end", Claims::anErrorIsNotTheEnd);
        claims.put("a prepared statement is used again", Claims::aPreparedStatementIsUsedAgain);
        claims.put("a batch is one flight", Claims::aBatchIsOneFlight);
        claims.put("copy goes both ways", Claims::copyGoesBothWays);
        claims.put("a cancel ends the query", Claims::aCancelEndsTheQuery);
        claims.put("fifty clients share few connections", Claims::fiftyClientsShareFewConnections);
        int passed = 0;
        int failed = 0;
        for (var claim : claims.entrySet()) {
            for (String mode : List.of("session", "transaction")) {
                try {
                    claim.getValue().hold(mode);
                    passed++;
                } catch (Exception | AssertionError error) {
                    failed++;
                    System.out.println("FAILED " + claim.getKey() + ", " + mode + ": " + error);
                }
            }
        }
        System.out.println("java: " + passed + " passed, " + failed + " failed");
        System.exit(failed > 0 ? 1 : 0);
    }
}
