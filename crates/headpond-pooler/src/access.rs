//! Who may try to log in from where, and how: rules as in PostgreSQL's `pg_hba.conf`
//! (<https://www.postgresql.org/docs/current/auth-pg-hba-conf.html>), of which the first that fits decides.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{AuthMethod, PoolerConfig, Replication};

/// Where a client comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// Its address; `None`: a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether what it sends is encrypted.
    pub tls: bool,
    /// The user whose process it is, as the system says.
    pub system_user: Option<&'a str>,
    /// The common name in its certificate, which was verified.
    pub common_name: Option<&'a str>,
}

/// What a client asks for before it is asked who it is.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The name of the data source.
    pub database: &'a str,
    /// Who it says to be.
    pub user: &'a str,
    /// What it wants to replicate.
    pub replication: Replication,
}

/// The rules, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Over what a client comes.
    pub over: Over,
    /// What it asks for: any of these.
    pub databases: Vec<Database>,
    /// Who it says to be: any of these; empty: anybody.
    pub users: Vec<String>,
    /// Where it is: in any of these; empty: anywhere.
    pub networks: Vec<Network>,
    /// How it proves who it is.
    pub method: Method,
}

/// Over what a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A Unix socket.
    Local,
    /// TCP.
    Host,
    /// TCP with TLS.
    HostSsl,
    /// TCP without it.
    HostNoSsl,
}

/// What a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// Any, but for physical replication.
    All,
    /// The one with the name of the user.
    SameUser,
    /// Physical replication.
    Replication,
    /// The one of this name.
    Named(String),
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first of them.
    pub address: IpAddr,
    /// The bits that they share.
    pub mask: IpAddr,
}

/// How a client proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all: it is turned away.
    Reject,
    /// As `auth_type` could say.
    Ask(AuthMethod),
    /// The system tells whose process it is; that is the user, or one that the map allows it to be.
    Peer(Option<Arc<NameMap>>),
    /// A certificate that was verified: its common name is the user, or one that the map allows it to be.
    Cert(Option<Arc<NameMap>>),
}

/// Which users of the system, or names in certificates, may be which users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameMap(pub Vec<(String, MappedUser)>);

/// Whom a user of the system may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappedUser {
    /// Anybody.
    All,
    /// This one.
    Named(String),
}

/// What follows for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is asked.
    Ask(AuthMethod),
    /// It is who it says: the system vouches for that.
    Vouched,
    /// It is turned away with these words (28000).
    Refuse(String),
}

impl PoolerConfig {
    /// How a client from `origin` that makes this request proves who it is.
    #[must_use]
    pub fn admit(&self, origin: Origin<'_>, request: Request<'_>) -> Decision {
        match &self.rules {
            None => Decision::Ask(self.auth),
            Some(rules) => rules.decide(origin, request),
        }
    }
}

impl Rules {
    fn decide(&self, origin: Origin<'_>, request: Request<'_>) -> Decision {
        let Some(rule) = self.0.iter().find(|rule| rule.fits(origin, request)) else {
            return Decision::Refuse(format!("no pg_hba.conf entry for {}", describe(origin, request)));
        };
        match &rule.method {
            Method::Reject => {
                Decision::Refuse(format!("pg_hba.conf rejects connection for {}", describe(origin, request)))
            }
            Method::Ask(method) => Decision::Ask(*method),
            Method::Peer(map) if vouches(origin.system_user, map.as_deref(), request.user) => {
                Decision::Vouched
            }
            Method::Cert(map) if vouches(origin.common_name, map.as_deref(), request.user) => {
                Decision::Vouched
            }
            Method::Cert(_) => {
                Decision::Refuse(format!("certificate authentication failed for user \"{}\"", request.user))
            }
            Method::Peer(_) => {
                Decision::Refuse(format!("peer authentication failed for user \"{}\"", request.user))
            }
        }
    }

    /// Whether any of them asks by this method.
    #[must_use]
    pub fn ask_by(&self, method: AuthMethod) -> bool {
        self.0.iter().any(|rule| rule.method == Method::Ask(method))
    }

    /// Whether any of them needs certificates of clients.
    #[must_use]
    pub fn ask_for_certificates(&self) -> bool {
        self.0.iter().any(|rule| matches!(rule.method, Method::Cert(_)))
    }

    /// Whether any of them needs to know whose process a client is.
    #[must_use]
    pub fn ask_the_system(&self) -> bool {
        self.0.iter().any(|rule| matches!(rule.method, Method::Peer(_)))
    }
}

impl Rule {
    fn fits(&self, origin: Origin<'_>, request: Request<'_>) -> bool {
        let over = match (self.over, origin.address) {
            (Over::Local, address) => address.is_none(),
            (_, None) => false,
            (Over::Host, _) => true,
            (Over::HostSsl, _) => origin.tls,
            (Over::HostNoSsl, _) => !origin.tls,
        };
        let within = |address: IpAddr| self.networks.iter().any(|network| network.contains(address));
        over && (self.networks.is_empty() || origin.address.is_some_and(within))
            && self.databases.iter().any(|database| database.is(request))
            && (self.users.is_empty() || self.users.iter().any(|user| user == request.user))
    }
}

impl Database {
    fn is(&self, Request { database, user, replication }: Request<'_>) -> bool {
        let physical = replication == Replication::Physical;
        match self {
            Self::Replication => physical,
            _ if physical => false,
            Self::All => true,
            Self::SameUser => database == user,
            Self::Named(name) => name == database,
        }
    }
}

impl Network {
    /// Whether an address is one of them. IPv4 inside IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, self.mask, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(mask), IpAddr::V4(other)) => own & mask == other & mask,
            (IpAddr::V6(own), IpAddr::V6(mask), IpAddr::V6(other)) => own & mask == other & mask,
            _ => false,
        }
    }
}

fn vouches(own: Option<&str>, map: Option<&NameMap>, user: &str) -> bool {
    let Some(own) = own else { return false };
    let Some(NameMap(lines)) = map else { return own == user };
    lines.iter().any(|(system, mapped)| {
        system == own
            && match mapped {
                MappedUser::All => true,
                MappedUser::Named(name) => name == user,
            }
    })
}

/// In PostgreSQL's words.
fn describe(origin: Origin<'_>, request: Request<'_>) -> String {
    let host = origin.address.map_or("[local]".to_owned(), |address| address.to_string());
    let encryption = if origin.tls { "SSL encryption" } else { "no encryption" };
    let Request { database, user, replication } = request;
    if replication == Replication::Physical {
        return format!("replication connection from host \"{host}\", user \"{user}\", {encryption}");
    }
    format!("host \"{host}\", user \"{user}\", database \"{database}\", {encryption}")
}
