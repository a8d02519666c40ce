import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;

/** Who gets in by JDBC, in each mode of the driver and with each binding it knows. */
public class Claims {
    static final List<String> MODES = List.of("disable", "allow", "prefer", "require", "verify-ca", "verify-full");
    static final Set<String> DEMANDED = Set.of("require", "verify-ca", "verify-full");
    static final String FOLDER = System.getenv("FOLDER");
    static final Map<String, String> PORTS = new HashMap<>();

    static boolean expected(String ours, String theirs, boolean certificate) {
        boolean clear = !DEMANDED.contains(ours);
        boolean tls = !ours.equals("disable") && (certificate || !ours.startsWith("verify"));
        return switch (theirs) {
            case "disable" -> clear;
            case "allow", "prefer" -> clear || tls;
            default -> tls;
        };
    }

    static String got(String ours, String theirs, String binding, boolean certificate) {
        var options = new Properties();
        options.setProperty("user", "postgres");
        options.setProperty("password", "secret");
        options.setProperty("sslmode", theirs);
        options.setProperty("channelBinding", binding);
        options.setProperty("sslrootcert", FOLDER + "/ca.crt");
        options.setProperty("sslcert", FOLDER + (certificate ? "/client.crt" : "/none.crt"));
        options.setProperty("sslkey", FOLDER + (certificate ? "/client.pk8" : "/none.pk8"));
        String url = "jdbc:postgresql://localhost:" + PORTS.get(ours) + "/postgres";
        try (var connection = DriverManager.getConnection(url, options);
                var statement = connection.createStatement();
                var rows = statement.executeQuery("SELECT repeat('x', 100000)")) {
            rows.next();
            return rows.getString(1).length() == 100000 ? null : "wrong answer";
        } catch (SQLException error) {
            return error.toString();
        }
    }

    public static void main(String[] arguments) {
        for (String pair : System.getenv("PORTS").trim().split(" ")) {
            PORTS.put(pair.split("=")[0], pair.split("=")[1]);
        }
        int passed = 0, failed = 0;
        for (String ours : MODES) {
            for (String theirs : MODES) {
                for (String binding : List.of("disable", "prefer", "require")) {
                    for (boolean certificate : new boolean[] {false, true}) {
                        String why = got(ours, theirs, binding, certificate);
                        if ((why == null) == expected(ours, theirs, certificate)) {
                            passed++;
                        } else {
                            failed++;
                            System.out.printf("FAILED: %s %s %s %s: %s%n", ours, theirs, binding, certificate, why);
                        }
                    }
                }
            }
        }
        System.out.println(new org.postgresql.Driver().getMajorVersion() + "." + new org.postgresql.Driver().getMinorVersion());
        System.out.printf("java: %d passed, %d failed%n", passed, failed);
        System.exit(failed > 0 ? 1 : 0);
    }
}
