//! How Headpond proves to a server who it is, and what it has to do so with.

use headpond_core::{FailureClass, Tick};
use headpond_wire::postgres::backend::Authentication;
use headpond_wire::postgres::frontend;
use headpond_wire::postgres::md5::Md5Secret;
use headpond_wire::postgres::scram::{Binding, Challenge, ClientKeys, ClientRole, MECHANISM, MECHANISM_PLUS};

use crate::action::{Action, Actions, Link, Report, ServerId};
use crate::config::{ChannelBinding, DataSource, NodeAddress, Secret};
use crate::kind::PoolKind;
use crate::pooler::{PoolEntry, Pooler, pool_index};
use crate::proof::{Learned, LearnedKeys};
use crate::server::{ServerLogin, ServerState};
use crate::server_login::Failed;

/// Derived keys that are kept at most: a server chooses the salts, and could choose new ones for ever.
const DERIVED_MAX: usize = 1000;

/// What is known to log in to a server with. A password serves every method, an md5 secret md5, keys SCRAM.
enum Known {
    Nothing,
    Password(Secret),
    Md5(Md5Secret),
    Keys(LearnedKeys),
}

impl Pooler {
    /// What a client's login taught. If it is new, servers that did not know us may know us now.
    pub(crate) fn learn(
        &mut self,
        now: Tick,
        who: (Option<String>, String),
        learned: Learned,
        out: &mut Actions,
    ) {
        match (&learned, self.learned.get(&who)) {
            (Learned::Nothing, _) | (Learned::Keys(_), Some(Learned::Password(_))) => return,
            (Learned::Password(new), Some(Learned::Password(old))) if new == old => return,
            (Learned::Keys(new), Some(Learned::Keys(old))) if new.are(old) => return,
            (Learned::Md5(new), Some(Learned::Md5(old))) if new == old => return,
            _ => {}
        }
        let concerned = |entry: &PoolEntry| {
            let source = self.config.data_sources.get(entry.data_source);
            self.who_of(entry) == who && source.is_some_and(|source| source.password.is_none())
        };
        let places = 0..pool_index(self.pools.len());
        let pools: Vec<_> = places.filter(|pool| concerned(&self.pools[*pool as usize])).collect();
        self.learned.insert(who, learned);
        for pool in pools {
            self.with_pool(now, pool, out, |policy, actions| policy.credentials_changed(now, actions));
        }
    }

    /// Under which name logins of clients taught what opens a pool's connections: users of one name need not be the same
    /// where they are looked up.
    fn who_of(&self, entry: &PoolEntry) -> (Option<String>, String) {
        let place = self.config.lookup_of(&entry.name, &entry.user).map(|(_, place)| place.to_owned());
        (place, entry.user.clone())
    }

    /// The server wants to know who we are, or is content.
    pub(crate) fn authenticate(
        &mut self,
        id: ServerId,
        body: &[u8],
        out: &mut Actions,
    ) -> Result<(), Failed> {
        let bad = || Failed::protocol("the server's authentication request makes no sense");
        let request = Authentication::read(body).ok_or_else(bad)?;
        let Some(server) = self.servers.get_mut(id) else { return Ok(()) };
        let pool = server.pool;
        let tls = server.tls.clone();
        let entry = &self.pools[pool as usize];
        if (server.identity, server.node) != (entry.identity, entry.node) {
            // The server has been told the name that was, or is another one, and would get the password that is.
            let message = "the user, its password or the server changed during the login";
            return Err(Failed::new(FailureClass::Other, "08006", message));
        }
        let ServerState::Login(login) = &mut server.state else { return Ok(()) };
        let stage = std::mem::replace(&mut **login, ServerLogin::Proven);
        let binding = self.server_tls_of(pool).binding;
        let other = stage.is_started() && !matches!(request, Authentication::Sasl(_));
        if other && binding == ChannelBinding::Require {
            return Err(unbound("the server lets us in by another method"));
        }
        match (stage, request) {
            (ServerLogin::Started | ServerLogin::Proven, Authentication::Ok) => Ok(()),
            (ServerLogin::Started, Authentication::CleartextPassword) => self.send_password(id, pool, out),
            (ServerLogin::Started, Authentication::Md5Password(salt)) => {
                let entry = &self.pools[pool as usize];
                let secret = match self.known_to(entry) {
                    Known::Password(password) => Md5Secret::derive(password.0.as_bytes(), &entry.user),
                    Known::Md5(secret) => secret,
                    known => return Err(unknown(entry, "an md5 password", &known)),
                };
                out.send(Link::Server(id), |bytes| frontend::password(bytes, &secret.answer(salt)));
                Ok(())
            }
            (ServerLogin::Started, Authentication::Sasl(mechanisms)) => {
                let end_point = tls.as_ref().and_then(|tls| tls.end_point.as_deref());
                let (mechanism, binding) = choose(mechanisms, binding, tls.is_some(), end_point)?;
                let (role, first) = ClientRole::bound(&self.nonce(), binding);
                self.set_login(id, ServerLogin::ScramFirst(role));
                out.send(Link::Server(id), |bytes| frontend::sasl_initial_response(bytes, mechanism, &first));
                Ok(())
            }
            (ServerLogin::ScramFirst(role), Authentication::SaslContinue(data)) => {
                let challenge = role.challenge(data).map_err(|error| Failed::protocol(&error.to_string()))?;
                self.answer_challenge(id, pool, challenge, out)
            }
            (ServerLogin::ScramFinal(verifier), Authentication::SaslFinal(data)) => verifier
                .verify(data)
                .map_err(|error| Failed::new(FailureClass::Authentication, "28000", error.to_string())),
            (ServerLogin::Started, Authentication::Other(_)) => Err(unsupported("an unsupported method")),
            _ => Err(bad()),
        }
    }

    /// What there is to log in with: the data source's own password, the user's secret, or what clients taught.
    fn known_to(&self, entry: &PoolEntry) -> Known {
        let source = self.config.data_sources.get(entry.data_source);
        // It is that of the data source's own user, or of each client's.
        let own = |source: &&DataSource| match entry.kind {
            PoolKind::Serves(_) => source.user.as_ref().is_none_or(|user| *user == entry.user),
            PoolKind::Lookup => source.user.as_deref() == Some(&entry.user),
        };
        if let Some(password) = source.filter(own).and_then(|source| source.password.clone()) {
            // As in PgBouncer, it may be an md5 secret.
            return password.0.parse().map_or(Known::Password(password), Known::Md5);
        }
        let user = self.config.users.get(&entry.user);
        if let Some(password) = user.and_then(|user| user.password.clone()) {
            return Known::Password(password);
        }
        match (self.learned.get(&self.who_of(entry)), user.and_then(|user| user.md5.clone())) {
            (Some(Learned::Password(password)), _) => Known::Password(password.clone()),
            (_, Some(secret)) => Known::Md5(secret),
            (Some(Learned::Md5(secret)), None) => Known::Md5(secret.clone()),
            (Some(Learned::Keys(keys)), None) => Known::Keys(keys.clone()),
            (Some(Learned::Nothing) | None, None) => Known::Nothing,
        }
    }

    fn send_password(&mut self, id: ServerId, pool: u32, out: &mut Actions) -> Result<(), Failed> {
        let entry = &self.pools[pool as usize];
        let password = match self.known_to(entry) {
            Known::Password(password) => password,
            known => return Err(unknown(entry, "the password in clear", &known)),
        };
        let source = self.config.data_sources.get(entry.data_source);
        let encrypted = self.servers.get(id).is_some_and(|server| server.tls.is_some());
        let safe = encrypted || source.is_some_and(|source| is_local(&source.node));
        if !safe && self.in_clear.insert(entry.node) {
            out.report(Report::PasswordInClear { pool: self.pool_title(pool) });
        }
        out.send(Link::Server(id), |bytes| frontend::password(bytes, &password.0));
        Ok(())
    }

    /// Finds the keys that answer a challenge: learned from a client's login, derived before, or to be derived.
    fn answer_challenge(
        &mut self,
        id: ServerId,
        pool: u32,
        challenge: Challenge,
        out: &mut Actions,
    ) -> Result<(), Failed> {
        let entry = &self.pools[pool as usize];
        let password = match self.known_to(entry) {
            Known::Password(password) => password,
            Known::Keys(known) if known.fit(&challenge.salt, challenge.iterations) => {
                self.send_proof(id, challenge, &known.keys, out);
                return Ok(());
            }
            known => return Err(unknown(entry, "SCRAM-SHA-256", &known)),
        };
        let known = (password.clone(), challenge.salt.clone(), challenge.iterations);
        if let Some(keys) = self.derived_keys.get(&known).cloned() {
            self.send_proof(id, challenge, &keys, out);
            return Ok(());
        }
        let (salt, iterations) = (challenge.salt.clone(), challenge.iterations);
        self.set_login(id, ServerLogin::ScramKeys(challenge));
        out.push(Action::DeriveKeys { link: Link::Server(id), password, salt, iterations });
        Ok(())
    }

    pub(crate) fn server_keys_derived(
        &mut self,
        id: ServerId,
        password: &Secret,
        keys: &ClientKeys,
        out: &mut Actions,
    ) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let ServerState::Login(login) = &mut server.state else { return };
        if let ServerLogin::ScramKeys(challenge) = std::mem::replace(&mut **login, ServerLogin::Proven) {
            let known = (password.clone(), challenge.salt.clone(), challenge.iterations);
            if self.derived_keys.len() >= DERIVED_MAX {
                self.derived_keys.clear();
            }
            self.derived_keys.insert(known, keys.clone());
            self.send_proof(id, challenge, keys, out);
        }
    }

    fn send_proof(&mut self, id: ServerId, challenge: Challenge, keys: &ClientKeys, out: &mut Actions) {
        let (proof, verifier) = challenge.respond(keys);
        self.set_login(id, ServerLogin::ScramFinal(verifier));
        out.send(Link::Server(id), |bytes| frontend::sasl_response(bytes, &proof));
    }

    fn set_login(&mut self, id: ServerId, stage: ServerLogin) {
        if let Some(server) = self.servers.get_mut(id) {
            server.state = ServerState::Login(Box::new(stage));
        }
    }
}

/// The mechanism to log in by, and what it is bound to, as libpq chooses them.
fn choose<'a>(
    mechanisms: &[u8],
    wanted: ChannelBinding,
    encrypted: bool,
    end_point: Option<&'a [u8]>,
) -> Result<(&'static str, Binding<'a>), Failed> {
    let plus = Authentication::offers(mechanisms, MECHANISM_PLUS);
    if plus && !encrypted {
        return Err(Failed::protocol(
            "the server offers to bind the login to a TLS connection that there is not",
        ));
    }
    let binding = match (wanted, end_point) {
        (ChannelBinding::Disable, _) => Binding::None,
        (_, Some(hash)) if plus => return Ok((MECHANISM_PLUS, Binding::EndPoint(hash))),
        (ChannelBinding::Require, _) if !encrypted => return Err(unbound("the connection is not encrypted")),
        (ChannelBinding::Require, None) => return Err(unbound("its certificate has no hash to bind to")),
        (ChannelBinding::Require, _) => return Err(unbound("the server does not offer SCRAM-SHA-256-PLUS")),
        (ChannelBinding::Prefer, Some(_)) => Binding::Declined,
        (ChannelBinding::Prefer, None) => Binding::None,
    };
    if !Authentication::offers(mechanisms, MECHANISM) {
        return Err(unsupported("a SASL mechanism other than SCRAM-SHA-256"));
    }
    Ok((MECHANISM, binding))
}

fn unbound(why: &str) -> Failed {
    let message =
        format!("the login must be bound to its TLS connection (server_channel_binding), and cannot: {why}");
    Failed::new(FailureClass::Authentication, "28000", message)
}

/// Whether what is sent to a server stays on this machine.
fn is_local(node: &NodeAddress) -> bool {
    match node {
        NodeAddress::Unix { .. } => true,
        NodeAddress::Tcp { host, .. } => {
            host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
    }
}

/// The server asks for what cannot be made of what is known.
fn unknown(entry: &PoolEntry, asked: &str, known: &Known) -> Failed {
    let user = &entry.user;
    let message = match known {
        Known::Md5(_) => {
            format!("the server asks for {asked}, but of user \"{user}\" only an md5 secret is known")
        }
        Known::Keys(_) => {
            format!("the server asks for {asked}, but of user \"{user}\" only another SCRAM secret is known")
        }
        Known::Password(_) | Known::Nothing => {
            format!("no password is known for user \"{user}\" on the server")
        }
    };
    Failed::new(FailureClass::Authentication, "28P01", message)
}

fn unsupported(what: &str) -> Failed {
    let message =
        format!("the server asks for {what}; Headpond has passwords in clear, md5 and SCRAM-SHA-256");
    Failed::new(FailureClass::Authentication, "28000", message)
}
