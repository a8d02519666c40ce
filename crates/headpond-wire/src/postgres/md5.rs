//! MD5 passwords: what a server stores, and how both sides prove to know it.
//!
//! PostgreSQL stores `md5` and the hash of password and user name in hexadecimal; the answer to a salt is `md5` and
//! the hash of those digits and the salt (<https://www.postgresql.org/docs/current/protocol-flow.html>,
//! `AuthenticationMD5Password`). The stored form is as good as the password here, and of no use for SCRAM.

use std::fmt;
use std::str::FromStr;

use md5::{Digest, Md5};
use subtle::{Choice, ConstantTimeEq};

/// A stored MD5 password (`pg_authid.rolpassword`). Never shown: its `Debug` hides it. Compared in constant time.
#[derive(Clone)]
pub struct Md5Secret([u8; 32]);

impl Md5Secret {
    /// What PostgreSQL would store for the password of `user`.
    #[must_use]
    pub fn derive(password: &[u8], user: &str) -> Self {
        Self(digits(Md5::new().chain_update(password).chain_update(user)))
    }

    /// For a user who does not exist: no password is known that leads here. `noise` is the same for the same user.
    #[must_use]
    pub fn mock(noise: [u8; 16]) -> Self {
        Self(digits(Md5::new().chain_update(noise)))
    }

    /// The answer to a server's salt.
    #[must_use]
    pub fn answer(&self, salt: [u8; 4]) -> String {
        let answer = digits(Md5::new().chain_update(self.0).chain_update(salt));
        format!("md5{}", String::from_utf8_lossy(&answer))
    }

    /// Whether a client's answer to our salt shows that it knows the secret.
    #[must_use]
    pub fn is_answered_by(&self, salt: [u8; 4], answer: &[u8]) -> Choice {
        self.answer(salt).as_bytes().ct_eq(answer)
    }

    /// Whether this is the secret of the same password and user.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for Md5Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other).into()
    }
}

impl Eq for Md5Secret {}

impl fmt::Debug for Md5Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Secret(hidden)")
    }
}

/// The text is not a stored MD5 password. It is not repeated: it may be a password in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMd5;

impl FromStr for Md5Secret {
    type Err = NotMd5;

    /// PostgreSQL's rule: `md5` and 32 digits, letters in lower case; anything else is a password.
    fn from_str(text: &str) -> Result<Self, NotMd5> {
        let digits = text.strip_prefix("md5").and_then(|digits| digits.as_bytes().try_into().ok());
        let digits: [u8; 32] = digits.ok_or(NotMd5)?;
        let hexadecimal = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if hexadecimal { Ok(Self(digits)) } else { Err(NotMd5) }
    }
}

fn digits(hash: Md5) -> [u8; 32] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(hash.finalize()) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL stores for the password `secret` of `ann`, `'md5' || md5('secret' || 'ann')`, and what libpq
    /// answers to the salt; both computed by another program.
    const STORED: &str = "md59d792a3a8853c2411afb9163d088c036";
    const ANSWER: &str = "md59009ce60b9ca97f1e752376843d1309e";
    const SALT: [u8; 4] = [1, 2, 3, 4];

    #[test]
    fn a_secret_is_what_postgresql_stores_and_answers_as_libpq_does() {
        let secret = Md5Secret::derive(b"secret", "ann");
        assert_eq!(secret, STORED.parse().unwrap());
        assert_eq!(secret.answer(SALT), ANSWER);
        assert!(bool::from(secret.is_answered_by(SALT, ANSWER.as_bytes())));
    }

    #[test]
    fn nothing_but_the_right_answer_to_the_salt_is_taken() {
        let secret: Md5Secret = STORED.parse().unwrap();
        let others = [
            (SALT, &ANSWER[..34]),
            (SALT, ""),
            (SALT, STORED),
            ([1, 2, 3, 5], ANSWER),
            (SALT, &ANSWER.to_ascii_uppercase()),
        ];
        assert!(!others.iter().any(|(salt, answer)| secret.is_answered_by(*salt, answer.as_bytes()).into()));
        assert_ne!(secret, Md5Secret::derive(b"secret", "bob"));
        assert_ne!(secret, Md5Secret::mock([0; 16]));
    }

    #[test]
    fn whatever_is_not_of_the_stored_form_is_a_password() {
        let long = format!("{STORED}0");
        for text in ["", "md5", "md5secret", &STORED[3..], &STORED[..34], &long, &STORED.to_uppercase()] {
            assert_eq!(text.parse::<Md5Secret>(), Err(NotMd5), "{text}");
        }
        assert_eq!("md5é123456789abcdef0123456789abcdef".parse::<Md5Secret>(), Err(NotMd5));
        assert!(!format!("{:?}", Md5Secret::derive(b"secret", "ann")).contains(&STORED[3..6]));
    }
}
