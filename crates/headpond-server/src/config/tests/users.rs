use headpond_pooler::config::{AuthMethod, User};
use headpond_wire::postgres::md5::Md5Secret;

use super::lines;
use crate::config::users::UsersFile;

const SCRAM: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const MD5: &str = "md50123456789abcdef0123456789abcdef";

#[test]
fn users_come_with_any_secret_and_show_none() {
    let text = format!(
        "; comment\n\n\"ann\" \"se\"\"cret\" \"ignored\"\n\"b\"\"ob\" \"{SCRAM}\"\n\"cy\" \"{MD5}\"\n\
         \"dan\" \"\"\n\"ann\" \"se\"\"cret\"\n"
    );
    let read = UsersFile::read("users.txt", &text, AuthMethod::Md5);
    assert_eq!(lines(&read.errors), "");
    assert_eq!(lines(&read.warnings), "users.txt:7: ann: stated twice: the last line counts");
    let user = |name| read.users.get(name).unwrap();
    assert_eq!(user("ann").password.as_ref().unwrap().0, "se\"cret");
    assert_eq!(user("ann").md5, Some(Md5Secret::derive(b"se\"cret", "ann")));
    assert_eq!(user("b\"ob"), &User { scram: SCRAM.parse().ok(), ..User::default() });
    assert_eq!(user("cy"), &User { md5: MD5.parse().ok(), ..User::default() });
    assert_eq!(user("dan"), &User::default());
    assert!(read.users.get("eve").is_none());
    let shown = format!("{:?}", read.users);
    assert!(!shown.contains("\"cret") && !shown.contains("AAEC") && !shown.contains("cdef"), "{shown}");
}

#[test]
fn scram_secrets_are_derived_where_they_are_asked_for_and_stay_the_same() {
    let text = format!("\"ann\" \"secret\"\n\"cy\" \"{MD5}\"\n\"upper\" \"{}\"", MD5.to_uppercase());
    for auth in [AuthMethod::Trust, AuthMethod::Password, AuthMethod::Md5] {
        let read = UsersFile::read("f", &text, auth);
        assert!(read.users.get("ann").unwrap().scram.is_none() && read.warnings.is_empty());
    }
    let [one, two] = [0, 1].map(|_| UsersFile::read("f", &text, AuthMethod::ScramSha256));
    assert_eq!(
        lines(&one.warnings),
        "f:2: cy: cannot log in: scram-sha-256 is asked for, and this is an md5 secret"
    );
    assert_eq!(one.users.get("ann").unwrap().scram.as_ref().map(|secret| secret.iterations), Some(4096));
    // Not of PostgreSQL's form, so it is a password.
    assert!(one.users.get("upper").unwrap().scram.is_some());
    assert_eq!(one.users, two.users);
}

#[test]
fn what_is_not_a_user_is_refused_and_not_repeated() {
    let text = "ann secret\n\"ann\"\n\"ann\" \"SCRAM-SHA-256$secret\"\n\"\" \"secret\"";
    let broken = UsersFile::read("u", text, AuthMethod::ScramSha256);
    let user = "not a user; \"name\" \"secret\", quotes inside doubled";
    let scram =
        "broken SCRAM secret; a value of pg_authid.rolpassword, SCRAM-SHA-256$4096:salt$StoredKey:ServerKey";
    assert_eq!(lines(&broken.errors), format!("u:1: {user}\nu:2: {user}\nu:3: ann: {scram}\nu:4: {user}"));
}
