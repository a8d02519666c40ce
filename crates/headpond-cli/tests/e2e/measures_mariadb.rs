//! `headpond size --url mysql://`: the same as on PostgreSQL.

use std::process::Command;

use headpond_embedded::Mariadb;
use headpond_sizing::measured::Measured;

#[test]
fn a_mariadb_is_measured_within_its_guards_and_is_only_read_unless_writing_is_meant() {
    let server = Mariadb::start(20).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, script) = (folder.path().join("measured.toml"), folder.path().join("statements.sql"));
    std::fs::write(&script, "CREATE TABLE test.y (n INT); DROP TABLE test.y").unwrap();
    let socket = server.socket().to_str().unwrap().replace('/', "%2F");
    let url = format!("mysql://root@localhost/mysql?socket={socket}");
    let size = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headpond"));
        command.args([
            "size",
            "--url",
            &url,
            "--rate",
            "10",
            "--seconds",
            "0.1",
            "--rounds",
            "2",
            "--no-trials",
        ]);
        command.args(more).output().unwrap()
    };
    let output = size(&["--save", file.to_str().unwrap(), "--levels", "1,2,4,8,12,16"]);
    assert!(output.status.code() != Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let found = Measured::from_toml(&std::fs::read_to_string(&file).unwrap()).unwrap();
    // Half of 20.
    let levels: Vec<u32> = found.levels.iter().map(|level| level.in_use).collect();
    assert!(levels.iter().eq([1, 2, 4, 8].iter().take(levels.len())) && levels.len() >= 3, "{levels:?}");
    assert_eq!(found.facts.max_connections, Some(20));
    assert!(found.facts.about.unwrap().contains("MariaDB") && found.facts.login.unwrap() > 0.0);
    let writes = ["--statements", script.to_str().unwrap(), "--levels", "1"];
    let refused = size(&writes);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("READ ONLY"), "{:?}", refused);
    let meant = size(&[&writes[..], &["--writes"]].concat());
    assert!(meant.status.code() != Some(1), "{}", String::from_utf8_lossy(&meant.stderr));
}
