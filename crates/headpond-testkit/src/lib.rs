//! Inputs that make no sense, and what must hold of whatever reads them.
//!
//! A [`Body`] takes any bytes and panics if what reads them breaks a promise. The fuzz targets (`fuzz/`) call the same
//! bodies as `./test`, which runs them on a few thousand inputs drawn from one seed ([`Generator`]).

mod backend;
mod framing;
mod generator;
mod machine;
pub mod messages;
mod parsers;
mod scene;
mod stage;
mod texts;

pub use generator::Generator;
pub use scene::{config, hello};
pub use stage::Stage;

/// Something that reads bytes of strangers, and what must hold of it.
#[derive(Clone, Copy)]
pub struct Body {
    /// As its fuzz target is called.
    pub name: &'static str,
    /// Panics if the reader does, or breaks a promise.
    pub run: fn(&[u8]),
    /// Inputs that make sense, to be changed a little.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Where messages begin and end.
pub const FRAME: Body = Body { name: "frame", run: parsers::frame, seeds: parsers::frame_seeds };
/// First packets.
pub const STARTUP: Body = Body { name: "startup", run: parsers::startup, seeds: parsers::startup_seeds };
/// What servers say at a login and in errors.
pub const BACKEND: Body = Body { name: "backend", run: parsers::backend, seeds: parsers::backend_seeds };
/// SCRAM messages of either side.
pub const SCRAM: Body = Body { name: "scram", run: parsers::scram, seeds: parsers::scram_seeds };
/// Stored secrets.
pub const SECRETS: Body = Body { name: "secrets", run: parsers::secrets, seeds: parsers::secret_seeds };
/// Clients' proofs of who they are.
pub const PROOF: Body = Body { name: "proof", run: parsers::proof, seeds: parsers::proof_seeds };
/// Answers to the question who a user is.
pub const LOOKUPS: Body =
    Body { name: "lookups", run: headpond_pooler::fuzzing::lookup_row, seeds: parsers::lookup_seeds };
/// Certificates, for what is read of them.
pub const CERTIFICATE: Body =
    Body { name: "certificate", run: parsers::certificate, seeds: parsers::certificate_seeds };
/// The users file.
pub const USERS: Body = Body { name: "users", run: texts::users, seeds: texts::users_seeds };
/// Rules of who may log in, and name maps.
pub const HBA: Body = Body { name: "hba", run: texts::hba, seeds: texts::hba_seeds };
/// Headpond's configuration.
pub const TOML: Body = Body { name: "toml", run: texts::toml, seeds: texts::toml_seeds };
/// PgBouncer's configuration.
pub const INI: Body = Body { name: "ini", run: texts::ini, seeds: texts::ini_seeds };
/// A connection string of PgBouncer's.
pub const CONNECTION_STRING: Body =
    Body { name: "connection_string", run: texts::connection_string, seeds: texts::connection_string_seeds };
/// Statements of the console.
pub const CONSOLE: Body = Body { name: "console", run: texts::console, seeds: texts::console_seeds };
/// Requests and replies in any order.
pub const EXCHANGES: Body =
    Body { name: "exchanges", run: headpond_pooler::fuzzing::exchanges, seeds: parsers::exchange_seeds };
/// Texts of statements, for what they leave behind.
pub const TEXTS: Body =
    Body { name: "texts", run: headpond_pooler::fuzzing::texts, seeds: texts::statement_seeds };
/// The whole pooler, with bytes on both legs and events in any order.
pub const POOLER: Body = Body { name: "pooler", run: machine::pooler, seeds: machine::seeds };

/// All of them.
pub const BODIES: &[Body] = &[
    FRAME,
    STARTUP,
    BACKEND,
    SCRAM,
    SECRETS,
    PROOF,
    LOOKUPS,
    CERTIFICATE,
    USERS,
    HBA,
    TOML,
    INI,
    CONNECTION_STRING,
    CONSOLE,
    EXCHANGES,
    TEXTS,
    POOLER,
];

/// The body of this name.
#[must_use]
pub fn body(name: &str) -> Option<Body> {
    BODIES.iter().find(|body| body.name == name).copied()
}
