use super::lines;
use crate::config::users::Users;

#[test]
fn users_come_with_any_secret_and_show_none() {
    let stored = "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let text = format!(
        "; comment\n\n\"ann\" \"se\"\"cret\" \"ignored\"\n\"b\"\"ob\" \"{stored}\"\n\"cy\" \"md50123456789abcdef0123456789abcdef\"\n\
         \"dan\" \"\"\n\"ann\" \"se\"\"cret\"\n"
    );
    let read = Users::read("users.txt", &text, true);
    assert_eq!(lines(&read.errors), "");
    let md5 = "md5 secrets are not supported yet: give the password or a SCRAM secret";
    assert_eq!(
        lines(&read.warnings),
        format!("users.txt:5: cy: {md5}\nusers.txt:7: ann: stated twice: the last line counts")
    );
    let ann = &read.users["ann"];
    assert_eq!(ann.password.as_ref().unwrap().0, "se\"cret");
    assert!(ann.scram.as_ref().unwrap().starts_with("SCRAM-SHA-256$4096:"));
    assert_eq!((read.users["b\"ob"].scram.as_deref(), &read.users["b\"ob"].password), (Some(stored), &None));
    assert_eq!((&read.users["cy"].scram, &read.users["dan"].scram), (&None, &None));
    assert!(Users::read("f", &text, false).users["ann"].scram.is_none());

    let broken =
        Users::read("u", "ann secret\n\"ann\"\n\"ann\" \"SCRAM-SHA-256$secret\"\n\"\" \"secret\"", true);
    let user = "not a user; \"name\" \"secret\", quotes inside doubled";
    let scram =
        "broken SCRAM secret; a value of pg_authid.rolpassword, SCRAM-SHA-256$4096:salt$StoredKey:ServerKey";
    assert_eq!(lines(&broken.errors), format!("u:1: {user}\nu:2: {user}\nu:3: ann: {scram}\nu:4: {user}"));
}
