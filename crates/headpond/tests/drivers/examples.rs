//! The examples, run as their users run them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Cargo builds examples beside the tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.ancestors().nth(2).unwrap().join("examples").join(name)
}

fn request(host: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    write!(
        stream,
        "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_web_service_serves_and_stops_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Command::new(example("axum"))
        .arg("127.0.0.1:0")
        .arg(folder.path().join("fish.db"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(service.stdout.take().unwrap()).lines();
    let url = said.next().unwrap().unwrap();
    let host = url.trim_start_matches("http://").trim_end_matches("/fish");
    for name in ["trout", "eel"] {
        assert!(request(host, "POST /fish", name).starts_with("HTTP/1.1 201"));
    }
    assert!(request(host, "GET /fish", "").ends_with("trout\neel\n"));
    assert!(request(host, "GET /pool", "").contains("0 waiting"));
    Command::new("kill").arg(service.id().to_string()).status().unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "closed");
    assert!(service.wait().unwrap().success());
}
