//! What is measured, and where.

use headpond_measure::{Script, Target};

/// Rows of the table that everything is about.
const ROWS: u32 = 100_000;

/// A server with both ways to it: directly, and by a pool.
pub(crate) struct Bench<T, C> {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) target: T,
    pub(crate) connector: C,
    /// The process that is the server, or the parent of all that are.
    pub(crate) parent: u32,
}

/// A kind of load.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) script: Script,
    /// Stalls and a spike are tried with it too.
    pub(crate) troubled: bool,
}

impl Workload {
    pub(crate) fn all() -> Vec<Self> {
        let sum = |rows: u32| {
            format!(
                "SELECT sum(v) FROM (SELECT v FROM numbers WHERE id >= {{1..60000}} ORDER BY id LIMIT {rows}) x"
            )
        };
        let workload = |name, script: String| Self {
            name,
            script: Script::parse(&script).unwrap(),
            troubled: ["read", "think"].contains(&name),
        };
        vec![
            workload("read", sum(8000)),
            // One in ten takes ten times as long.
            workload("mix", [vec![sum(4000); 9], vec![sum(40_000)]].concat().join("\n")),
            // The connection is held while the application thinks.
            workload("think", format!("{}; \\sleep 3ms; {}", sum(2000), sum(2000))),
            workload(
                "write",
                format!(
                    "BEGIN; UPDATE numbers SET v = v + 1 WHERE id = {{1..{ROWS}}}; {}; COMMIT",
                    sum(2000)
                ),
            ),
        ]
    }
}

/// Makes the table, its rows in order: what is read by chance depends on what other machines of the host do to the caches.
pub(crate) async fn fill<T: Target>(connection: &mut T::Connection) {
    let digits = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
        UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let insert = format!(
        "INSERT INTO numbers SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d, a.d
         FROM {digits} a, {digits} b, {digits} c, {digits} e, {digits} f ORDER BY 1"
    );
    for sql in ["CREATE TABLE numbers (id INT PRIMARY KEY, v INT)", &insert, "ANALYZE TABLE numbers"] {
        let done = T::send(connection, sql).await;
        let done = if done.is_err() && sql.starts_with("ANALYZE") {
            T::send(connection, "VACUUM ANALYZE numbers").await
        } else {
            done
        };
        done.unwrap_or_else(|failure| panic!("{sql}: {}", failure.error));
    }
}
