//! What HTTP answers while Headpond serves.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::pond::{Pond, SESSION, Way, run, until};

pub(crate) fn get(pond: &Pond, path: &str) -> String {
    let mut stream = TcpStream::connect(pond.running.http_address().unwrap()).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn page_metrics_health_and_snapshot_show_the_pool() {
    run(async {
        for workers in [1, 2] {
            let pond = Pond::new(Way { workers, ..SESSION }, "", "").await;
            let client = pond.client().await;
            client.batch_execute("SELECT 1").await.unwrap();
            for (path, part) in [
                ("/", &*pond.user),
                ("/metrics", "\nheadpond_"),
                ("/metrics", &pond.user),
                ("/healthz", "ok"),
                ("/readyz", "ready"),
                ("/api/v1/snapshot", &pond.user),
                ("/api/v1/snapshot?detail=1", "\"server_connections\":[{"),
            ] {
                // Figures are up to 100 ms old.
                let shown = async || {
                    let answer = get(&pond, path);
                    answer.starts_with("HTTP/1.1 200") && answer.contains(part)
                };
                until(&format!("{path} shows {part}"), shown).await;
            }
        }
    });
}
