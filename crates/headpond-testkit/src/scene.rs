//! A stage with a configuration, clients that log in properly, and the question whether all is well.

use std::time::Duration;

use headpond_core::PoolSettings;
use headpond_pooler::Link;
use headpond_pooler::config::{
    AuthMethod, DataSource, NodeAddress, PoolMode, PoolerConfig, Secret, User, Users,
};
use headpond_wire::postgres::md5::Md5Secret;
use headpond_wire::postgres::scram::{ClientKeys, ClientRole, StoredSecret};
use headpond_wire::postgres::{frontend, startup};

use crate::stage::Stage;

const PASSWORD: &str = "secret";
const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";

/// Longer than any pause or time-out of [`config`], one after the other.
const LONG: Duration = Duration::from_secs(100);

/// One data source `shop`, and `ann` and `bob` who may log in with `secret`.
#[must_use]
pub fn config(mode: PoolMode, auth: AuthMethod, max_size: u32) -> PoolerConfig {
    let pool = PoolSettings { max_size, ..PoolSettings::on_demand() };
    let node = NodeAddress::Tcp { host: "127.0.0.1".to_owned(), port: 5432 };
    let source = DataSource::new("shop", node, mode, pool);
    let mut users = Users::default();
    for name in ["ann", "bob"] {
        let secret = User {
            password: Some(Secret(PASSWORD.to_owned())),
            md5: Some(Md5Secret::derive(PASSWORD.as_bytes(), name)),
            scram: Some(StoredSecret::derive(PASSWORD, b"salt", 1)),
        };
        users.insert(name.to_owned(), secret);
    }
    PoolerConfig { auth, users, verify_reset: false, ..PoolerConfig::new(vec![source]) }
}

/// The first packet of a client who wants to use `shop`.
#[must_use]
pub fn hello(user: &str) -> Vec<u8> {
    let mut hello = Vec::new();
    startup::encode(&mut hello, [("user", user), ("database", "shop")].into_iter());
    hello
}

impl Stage {
    /// Brings a client in, whatever it is asked; servers do what they are asked meanwhile. What it was told after the
    /// last question is left to be taken.
    pub fn logs_in(&mut self, client: Link, user: &str) {
        self.says(client, &hello(user));
        let mut scram = None;
        for _ in 0..3 {
            self.derives();
            let told = self.peek(client);
            let at = told.iter().position(|byte| *byte == b'R');
            let Some(question) = at.and_then(|at| told.get(at + 5..)) else { break };
            let mut answer = Vec::new();
            match (question, scram.take()) {
                ([0, 0, 0, 3, ..], _) => frontend::password(&mut answer, PASSWORD),
                ([0, 0, 0, 5, a, b, c, d, ..], _) => {
                    let secret = Md5Secret::derive(PASSWORD.as_bytes(), user);
                    frontend::password(&mut answer, &secret.answer([*a, *b, *c, *d]));
                }
                ([0, 0, 0, 10, ..], _) => {
                    let (role, first) = ClientRole::new(NONCE);
                    scram = Some(role);
                    frontend::sasl_initial_response(&mut answer, "SCRAM-SHA-256", &first);
                }
                ([0, 0, 0, 11, data @ ..], Some(role)) => {
                    let Ok(challenge) = ClientRole::challenge(role, data) else { break };
                    let keys = ClientKeys::derive(PASSWORD, &challenge.salt, challenge.iterations);
                    frontend::sasl_response(&mut answer, &challenge.respond(&keys).0);
                }
                _ => break,
            }
            drop(self.takes(client));
            self.says(client, &answer);
        }
        self.serve(&[]);
    }

    /// A client asks `SELECT 1`, and is answered.
    ///
    /// # Errors
    /// What it was told instead.
    pub fn asks(&mut self, client: Link, silent: &[Link]) -> Result<(), String> {
        drop(self.takes(client));
        let mut query = Vec::new();
        frontend::query(&mut query, "SELECT 1");
        self.says(client, &query);
        self.serve(silent);
        let answer = self.takes(client);
        let right = answer.starts_with(b"T")
            && (answer.ends_with(b"Z\0\0\0\x05I") || answer.ends_with(b"Z\0\0\0\x05T"));
        if right { Ok(()) } else { Err(String::from_utf8_lossy(&answer).escape_debug().to_string()) }
    }

    /// After the end of everybody else, and of every pause, somebody new gets in and is answered; then all can end.
    ///
    /// # Panics
    /// If not.
    pub fn is_well_at_last(&mut self) {
        for link in self.links() {
            self.breaks(link);
        }
        self.operates(|pooler, now, out| pooler.resume(now, None, out));
        self.passes(LONG);
        self.serve(&[]);
        let client = self.comes();
        self.logs_in(client, "ann");
        if let Err(answer) = self.asks(client, &[]) {
            panic!("nobody is served any more: {answer}");
        }
        self.operates(|pooler, now, out| pooler.drain(now, out));
        self.ends();
    }

    /// While it drains, the end of everybody leaves nothing.
    ///
    /// # Panics
    /// If something is left.
    pub fn ends(&mut self) {
        for link in self.links() {
            self.breaks(link);
        }
        self.passes(LONG);
        assert!(self.is_empty(), "something is left: {self:?}");
    }
}
