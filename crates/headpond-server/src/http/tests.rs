use std::net::SocketAddr;

use headpond_pooler::config::{AuthMethod, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, advance};

use super::bounded::{CONNECTION_TIME, CONNECTIONS_MAX, REQUEST_TIME};
use super::*;
use crate::console::tests::made_up;
use crate::control::Shutdown;
use crate::worker::handle::Workers;

const SECRET: &str = "sesame, open now";

fn control(secret: Option<&str>) -> Arc<Control> {
    let mut config = made_up::config(AuthMethod::Trust);
    config.http_secret = secret.map(|secret| Secret(secret.to_owned()));
    Control::new(Workers::new(Arc::default()), Arc::new(config), [7; 32]).0
}

/// The status of an answer, and all of it.
async fn ask(control: &Arc<Control>, local: bool, request: &str, headers: &str) -> (u16, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let router = router(Arc::clone(control), local);
    let server = tokio::spawn(async move { axum::serve(Bounded::new(listener), router).await });
    let request = format!("{request} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    server.abort();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn every_path_answers_and_nothing_can_be_written() {
    let control = control(None);
    for (request, status, part) in [
        ("GET /", 200, "<title>Headpond</title>"),
        ("GET /metrics", 200, "# EOF"),
        ("GET /healthz", 200, "ok"),
        ("GET /readyz", 503, "no worker answers"),
        ("GET /api/v1/snapshot?detail=1", 200, "\"server_connections\":[]"),
        ("GET /api/v1/snapshot?detail=x", 400, ""),
        ("GET /nothing", 404, ""),
        ("POST /", 405, ""),
        ("DELETE /api/v1/snapshot", 405, ""),
    ] {
        let answer = ask(&control, true, request, "host: localhost\r\n").await;
        assert!(answer.0 == status && answer.1.contains(part), "{answer:?}");
    }
    control.shut_down(Shutdown::WaitForClients);
    assert!(ask(&control, true, "GET /readyz", "host: [::1]:1\r\n").await.1.contains("shutting down"));
}

/// Who asks: from this machine or not, with a secret set or not, and what is sent along.
#[tokio::test]
async fn every_endpoint_is_seen_by_those_who_may_and_changed_by_nobody() {
    let basic = |pair: &str| format!("host: db\r\nauthorization: Basic {}\r\n", base64(pair));
    let bearer = |secret: &str| format!("host: db\r\nauthorization: bearer {secret}\r\n");
    let own = || "host: 127.0.0.1\r\n".to_owned();
    let others = || "host: evil.example\r\n".to_owned();
    let askers = [
        (true, None, own(), 200),
        (true, None, others(), 421),
        (true, None, String::new(), 400),
        (true, None, own() + &others(), 400),
        (false, None, own(), 403),
        (false, Some(SECRET), own(), 401),
        (true, Some(SECRET), own(), 401),
        (false, Some(SECRET), bearer(SECRET), 200),
        (false, Some(SECRET), bearer("sesame, open no"), 401),
        (false, Some(SECRET), bearer(""), 401),
        (false, Some(SECRET), basic(&format!("prometheus:{SECRET}")), 200),
        (false, Some(SECRET), basic(&format!("{SECRET}:")), 401),
        (false, Some(SECRET), basic(SECRET), 401),
        (false, Some(SECRET), "host: db\r\nauthorization: Basic !\r\n".to_owned(), 401),
    ];
    for (local, secret, headers, expected) in askers {
        let control = control(secret);
        for endpoint in &ENDPOINTS {
            let case = format!("{} {headers:?} local {local}, secret {}", endpoint.path, secret.is_some());
            let (status, answer) = ask(&control, local, &format!("GET {}", endpoint.path), &headers).await;
            match endpoint.rights {
                Rights::Viewer if expected == 400 => {
                    assert!([400, 421].contains(&status), "{case}: {status}")
                }
                Rights::Viewer => assert_eq!(status, expected, "{case}"),
                Rights::Anybody => {
                    assert!([200, 400, 503].contains(&status), "{case}: {status}");
                    let told = answer.contains("worker");
                    assert!(!told || secret.is_none() || expected == 200, "{case}: {answer}");
                }
            }
            for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PAUSE"] {
                let request = format!("{method} {}", endpoint.path);
                let (status, _) = ask(&control, local, &request, &headers).await;
                assert!([400, 405].contains(&status), "{method} {case}: {status}");
            }
        }
        let (status, _) = ask(&control, local, "GET /nothing", &headers).await;
        assert!(status == if expected == 200 { 404 } else { expected } || expected == 400, "{headers:?}");
    }
}

/// Serves on a port of its own, in virtual time.
async fn serving() -> (SocketAddr, JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(control(None), true);
    (address, tokio::spawn(async move { axum::serve(Bounded::new(listener), router).await }))
}

const ASKS: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Asks on an open connection.
async fn ask_again(stream: &mut TcpStream) {
    stream.write_all(ASKS).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed");
    }
}

/// How long a connection stays open on which nothing is done.
async fn until_closed(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    // An end and a reset are one.
    while stream.read(&mut [0; 512]).await.is_ok_and(|count| count > 0) {}
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn whoever_is_silent_makes_room_for_who_asks_over_http() {
    for begins in [&b""[..], b"GET / HTTP/1.1\r\nhost: ", ASKS] {
        let (address, server) = serving().await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX + 100 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begins).await.unwrap();
            silent.push(stream);
        }
        let began = Instant::now();
        ask_again(&mut TcpStream::connect(address).await.unwrap()).await;
        let waited = began.elapsed();
        assert!(waited < REQUEST_TIME, "{waited:?} {}", String::from_utf8_lossy(begins));
        server.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_request_has_little_time_however_it_trickles_in_and_an_idle_connection_more() {
    let (address, server) = serving().await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(until_closed(&mut silent).await.as_secs(), REQUEST_TIME.as_secs());
    let mut slow = TcpStream::connect(address).await.unwrap();
    for byte in ASKS.iter().take(4) {
        slow.write_all(&[*byte]).await.unwrap();
        advance(Duration::from_secs(1)).await;
    }
    assert!(until_closed(&mut slow).await < REQUEST_TIME);
    let mut idle = TcpStream::connect(address).await.unwrap();
    for _ in 0..4 {
        ask_again(&mut idle).await;
        advance(2 * REQUEST_TIME).await;
    }
    let stays = until_closed(&mut idle).await;
    assert!(stays > REQUEST_TIME && stays < CONNECTION_TIME, "{stays:?}");
    server.abort();
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}
