//! How a client proves who it is, whatever it wants after that: a data source, or the console.
//!
//! Whoever is not known goes through the same steps as whoever gives a wrong password, with the same work.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headpond_wire::postgres::encode;
use headpond_wire::postgres::frame::Fields;
use headpond_wire::postgres::md5::Md5Secret;
use headpond_wire::postgres::scram::{
    Binding, ClientKeys, Error, MECHANISM, MECHANISM_PLUS, ServerRole, StoredSecret,
};
use subtle::ConstantTimeEq;

use crate::config::{AuthMethod, Secret, Users};
use crate::users::{Found, Measure};

/// The largest message that a client may send while it proves who it is, header included: a SASL message has at most
/// 1,024 bytes, and PgBouncer bounds passwords at 2,048.
pub const ANSWER_MAX: usize = 2_100;

/// A proof under way.
#[derive(Debug)]
pub struct Proof {
    name: String,
    /// What the login may be bound to.
    end_point: Option<Box<[u8]>>,
    /// Something other than the password was wrong.
    wrong: Option<Error>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The mechanisms were offered; the challenge will have this nonce.
    Offered(StoredSecret, String),
    /// The challenge was sent.
    Challenged(Box<ServerRole>, Vec<u8>, u32),
    /// A salt was sent.
    Salted(Md5Secret, [u8; 4]),
    /// The password was asked for, and will be compared.
    Compares(Md5Secret, Option<Secret>),
    /// The password was asked for, and will be derived.
    Derives(StoredSecret),
    /// The derivation is under way elsewhere.
    Deriving(StoredSecret, Secret),
    Over,
}

/// What comes of a client's answer.
#[derive(Debug)]
pub enum Outcome {
    /// It was asked something more.
    Asked,
    /// Keys are to be derived, where nobody waits for it; they go to [`Proof::derived`].
    Derive {
        /// What the client sent.
        password: Secret,
        /// Of the secret it is measured by.
        salt: Vec<u8>,
        /// Of the secret it is measured by.
        iterations: u32,
    },
    /// It is who it says.
    Proven(Learned),
    /// It is not, or makes no sense.
    Failed,
}

/// What a good login teaches: with it Headpond can log in to a server as this client.
#[derive(Clone, Debug)]
pub enum Learned {
    /// Nothing new.
    Nothing,
    /// The md5 secret of a user that was looked up.
    Md5(Md5Secret),
    /// Keys that open servers with the same stored secret.
    Keys(LearnedKeys),
    /// The password in clear.
    Password(Secret),
}

/// What a good login by SCRAM teaches.
#[derive(Clone, Debug)]
pub struct LearnedKeys {
    pub(crate) keys: ClientKeys,
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
}

impl LearnedKeys {
    /// Whether they open servers that store this salt and iterations.
    pub(crate) fn fit(&self, salt: &[u8], iterations: u32) -> bool {
        self.salt == salt && self.iterations == iterations
    }

    /// Whether they are the same keys.
    pub(crate) fn are(&self, other: &Self) -> bool {
        self.fit(&other.salt, other.iterations) && self.keys.client_key.ct_eq(&other.keys.client_key).into()
    }
}

impl Proof {
    /// Asks a client who says to be `name`; `None` if it is believed. `seed` is the secret of this process, `fresh`
    /// drawn for this login. Over TLS, the login may be bound to `end_point`, the hash of our certificate.
    pub fn begin(
        method: AuthMethod,
        users: &Users,
        name: &str,
        seed: &[u8],
        fresh: [u8; 18],
        end_point: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Option<Self> {
        Self::of(method, users.find(name), name, seed, fresh, end_point, out)
    }

    /// As [`Proof::begin`], for a user that was found somewhere, or not.
    pub(crate) fn of(
        method: AuthMethod,
        found: Found<'_>,
        name: &str,
        seed: &[u8],
        fresh: [u8; 18],
        end_point: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Option<Self> {
        if method == AuthMethod::Trust {
            return None;
        }
        let stage = match (method, found.measure(method, name, seed)) {
            (AuthMethod::Password, measure) => {
                encode::authentication_cleartext_password(out);
                match measure {
                    Measure::Scram(secret) => Stage::Derives(secret),
                    Measure::Md5(hash, password) => Stage::Compares(hash, password),
                }
            }
            (_, Measure::Scram(secret)) => {
                let offer = if end_point.is_some() { &[MECHANISM_PLUS, MECHANISM][..] } else { &[MECHANISM] };
                encode::authentication_sasl(out, offer);
                Stage::Offered(secret, STANDARD.encode(fresh))
            }
            (_, Measure::Md5(secret, _)) => {
                let [a, b, c, d, ..] = fresh;
                encode::authentication_md5_password(out, [a, b, c, d]);
                Stage::Salted(secret, [a, b, c, d])
            }
        };
        Some(Self { name: name.to_owned(), end_point: end_point.map(Into::into), wrong: None, stage })
    }

    /// Whether an answer is awaited; otherwise the client has nothing to say for now.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        !matches!(self.stage, Stage::Deriving(..) | Stage::Over)
    }

    /// The body of a client's password message.
    pub fn answered(&mut self, body: &[u8], out: &mut Vec<u8>) -> Outcome {
        self.step(body, out).unwrap_or(Outcome::Failed)
    }

    fn step(&mut self, body: &[u8], out: &mut Vec<u8>) -> Option<Outcome> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Offered(secret, nonce) => {
                let (bound, first) = initial_response(body)?;
                let binding = match (&self.end_point, bound) {
                    (Some(hash), true) => Binding::EndPoint(hash),
                    (Some(_), false) => Binding::Declined,
                    (None, false) => Binding::None,
                    (None, true) => return None,
                };
                let begun = ServerRole::first_bound(first, &nonce, &secret, binding);
                let (role, challenge) = begun.map_err(|error| self.note(error)).ok()?;
                encode::authentication_sasl_continue(out, &challenge);
                self.stage = Stage::Challenged(Box::new(role), secret.salt, secret.iterations);
                Some(Outcome::Asked)
            }
            Stage::Challenged(role, salt, iterations) => {
                let finished = role.finish(body).map_err(|error| self.note(error)).ok()?;
                encode::authentication_sasl_final(out, &finished.message);
                let keys = LearnedKeys { keys: finished.keys, salt, iterations };
                Some(Outcome::Proven(Learned::Keys(keys)))
            }
            Stage::Salted(secret, salt) => {
                let right = secret.is_answered_by(salt, only_string(body)?);
                bool::from(right).then_some(Outcome::Proven(Learned::Nothing))
            }
            Stage::Compares(hash, password) => {
                let given = std::str::from_utf8(only_string(body)?).ok()?;
                let same_hash = hash.is_same(&Md5Secret::derive(given.as_bytes(), &self.name));
                let same = password.as_ref().unwrap_or(&Secret(String::new())).is(given.as_bytes());
                let right = if password.is_some() { same } else { same_hash.into() };
                right.then(|| Outcome::Proven(Learned::Password(Secret(given.to_owned()))))
            }
            Stage::Derives(secret) => {
                let given = std::str::from_utf8(only_string(body)?).ok()?;
                let password = Secret(given.to_owned());
                let (salt, iterations) = (secret.salt.clone(), secret.iterations);
                self.stage = Stage::Deriving(secret, password.clone());
                Some(Outcome::Derive { password, salt, iterations })
            }
            Stage::Deriving(..) | Stage::Over => None,
        }
    }

    /// The keys that [`Outcome::Derive`] asked for.
    pub fn derived(&mut self, keys: &ClientKeys) -> Outcome {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Deriving(secret, password) if secret.is_opened_by(keys) => {
                Outcome::Proven(Learned::Password(password))
            }
            _ => Outcome::Failed,
        }
    }

    /// What is wrong with the binding is told: it says nothing of passwords or users.
    fn note(&mut self, error: Error) {
        let told = matches!(
            error,
            Error::ChannelBindingRequested
                | Error::ChannelBindingMissing
                | Error::ChannelBindingDowngraded
                | Error::ChannelBindingType
                | Error::ChannelBindingMismatch
        );
        self.wrong = Some(error).filter(|_| told);
    }

    /// What whoever fails is told: the same words for all.
    #[must_use]
    pub fn refusal(&self) -> String {
        if let Some(error) = &self.wrong {
            return error.to_string();
        }
        format!("password authentication failed for user \"{}\"", self.name)
    }
}

/// Whether a `SASLInitialResponse` chose the mechanism that is bound, and its data.
fn initial_response(body: &[u8]) -> Option<(bool, &[u8])> {
    let mut body = Fields(body);
    let chosen = body.string()?;
    let bound = chosen == MECHANISM_PLUS.as_bytes();
    let length = usize::try_from(body.int32()?).ok()?;
    let data = body.bytes(length)?;
    (body.0.is_empty() && (bound || chosen == MECHANISM.as_bytes())).then_some((bound, data))
}

/// The string that is the whole body, and is not empty.
fn only_string(body: &[u8]) -> Option<&[u8]> {
    let mut body = Fields(body);
    let string = body.string()?;
    (body.0.is_empty() && !string.is_empty()).then_some(string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::User;

    const METHODS: [AuthMethod; 3] = [AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256];

    fn users(plain: usize, scram: usize) -> Users {
        let secret = StoredSecret::derive("secret", b"salt and pepper!", 7);
        let mut users = Users::default();
        for number in 0..plain + scram {
            let name = format!("user{number}");
            let md5 = Some(Md5Secret::derive(b"secret", &name));
            let only_scram = User { scram: Some(secret.clone()), ..User::default() };
            let plain_one =
                User { password: Some(Secret("secret".into())), md5, scram: Some(secret.clone()) };
            users.insert(name, if number < plain { plain_one } else { only_scram });
        }
        users
    }

    fn question(method: AuthMethod, users: &Users, name: &str) -> (Proof, Vec<u8>) {
        let mut out = Vec::new();
        let proof = Proof::begin(method, users, name, b"seed", [7; 18], None, &mut out).expect("a question");
        (proof, out)
    }

    #[test]
    fn strangers_are_asked_what_users_are_asked_as_often_and_the_same_each_time() {
        for (plain, scram, least, most) in [(4, 0, 0, 0), (0, 4, 400, 400), (3, 1, 60, 140)] {
            let users = users(plain, scram);
            let by_scram = |number| {
                let name = format!("stranger{number}");
                let (first, again) =
                    (question(AuthMethod::Md5, &users, &name).1, question(AuthMethod::Md5, &users, &name).1);
                assert_eq!(first, again);
                first.get(8) == Some(&10)
            };
            let count = (0..400).filter(|number| by_scram(*number)).count();
            assert!((least..=most).contains(&count), "{plain} {scram}: {count}");
        }
    }

    #[test]
    fn a_stranger_and_a_wrong_password_go_through_the_same_steps() {
        for method in METHODS {
            for users in [users(1, 0), users(0, 1)] {
                let steps = ["user0", "stranger"].map(|name| {
                    let (mut proof, mut out) = question(method, &users, name);
                    let mut steps = vec![(out.len(), out.get(8).copied())];
                    out.clear();
                    let first = match steps[0].1 {
                        Some(10) => b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=rOprNGfwEbeRWgbNEkqOabcd".to_vec(),
                        _ => b"wrong\0".to_vec(),
                    };
                    let outcome = proof.answered(&first, &mut out);
                    steps.push((out.len(), out.get(8).copied()));
                    let outcome = match outcome {
                        Outcome::Asked => proof.answered(b"c=biws,r=x,p=y", &mut Vec::new()),
                        Outcome::Derive { password, salt, iterations } => {
                            steps.push((salt.len(), u8::try_from(iterations).ok()));
                            proof.derived(&ClientKeys::derive(&password.0, &salt, iterations))
                        }
                        outcome => outcome,
                    };
                    assert!(matches!(outcome, Outcome::Failed), "{method:?} {name}: {outcome:?}");
                    (steps, proof.refusal().replace(name, "X"))
                });
                assert_eq!(steps[0], steps[1], "{method:?}");
            }
        }
    }

    #[test]
    fn a_password_in_clear_is_one_string_and_must_be_the_right_one() {
        for users in [users(1, 0), users(0, 1)] {
            for (body, right) in [
                (&b"secret\0"[..], true),
                (b"Secret\0", false),
                (b"secret", false),
                (b"secret\0\0", false),
                (b"\0", false),
                (b"", false),
                (b"\xff\0", false),
            ] {
                let (mut proof, _) = question(AuthMethod::Password, &users, "user0");
                let outcome = match proof.answered(body, &mut Vec::new()) {
                    Outcome::Derive { password, salt, iterations } => {
                        proof.derived(&ClientKeys::derive(&password.0, &salt, iterations))
                    }
                    outcome => outcome,
                };
                assert_eq!(matches!(outcome, Outcome::Proven(Learned::Password(_))), right, "{body:?}");
                assert!(matches!(proof.answered(b"secret\0", &mut Vec::new()), Outcome::Failed));
            }
        }
    }
}
