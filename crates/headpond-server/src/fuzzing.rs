//! Readers of text that are private to this crate, with what must hold of them. For `headpond-testkit`.

use std::path::Path;

use headpond_pooler::config::{
    AuthMethod, Decision, Network, Origin, Over, PoolerConfig, Replication, Request, Rules,
};

use crate::config::hba::{self, Surroundings};
use crate::config::users::UsersFile;
use crate::console::commands::{Argument, parse};
use crate::tls::certificate::Certificate;

/// A certificate in DER.
///
/// # Panics
/// If something is read that is not in it.
pub fn certificate(der: &[u8]) {
    let Some(read) = Certificate::read(der) else { return };
    let within = |part: &[u8]| der.windows(part.len().max(1)).any(|window| window == part);
    assert!(within(&read.public_key));
    assert!(read.common_name.as_ref().is_none_or(|name| name.is_empty() || within(name.as_bytes())));
    assert!(read.end_point(der).is_none_or(|hash| hash.len() >= 28));
}

/// A users file.
///
/// # Panics
/// If a user comes out who has no name or cannot be found, or a line is neither a user nor complained about.
pub fn users_file(text: &str) {
    // Of passwords in clear no SCRAM secrets are derived, which would take a millisecond each.
    let UsersFile { users, warnings, errors } = UsersFile::read("users", text, AuthMethod::Md5);
    assert!(users.names().all(|name| !name.is_empty() && users.get(name).is_some()));
    let content = |line: &&str| !line.trim_start().is_empty() && !line.trim_start().starts_with([';', '#']);
    let lines = text.trim_start_matches('\u{feff}').lines().filter(content).count();
    assert!(users.names().len() <= lines && lines <= users.names().len() + warnings.len() + errors.len());
    assert!(warnings.iter().chain(&errors).all(|complaint| complaint.to_string().starts_with("users:")));
}

/// Rules and name maps.
///
/// # Panics
/// If one file becomes two different things, a complaint does not name its place, or a rule lets somebody in whom it is not
/// for.
pub fn hba_rules(text: &str) {
    // No file of this machine is to be read.
    if text.contains('@') && text.contains('/') {
        return;
    }
    let interfaces = [Network { address: [10, 0, 0, 1].into(), mask: [255, 0, 0, 0].into() }];
    let around = Surroundings { folder: Path::new("/nonexistent"), interfaces: &interfaces };
    let read = || {
        let mut errors = Vec::new();
        let maps = hba::maps("ident", text, &mut errors);
        let broken = errors.len();
        (hba::rules("hba", text, &maps, &around, &mut errors), broken, errors)
    };
    let (rules, broken, errors) = read();
    assert!(errors.iter().take(broken).all(|error| error.to_string().starts_with("ident:")));
    assert!(errors.iter().skip(broken).all(|error| error.to_string().starts_with("hba:")));
    let again = read();
    assert_eq!((&rules, errors.len()), (&again.0, again.2.len()));
    let request = Request { database: "shop", user: "ann", replication: Replication::None };
    let outside = Origin { address: Some([203, 0, 113, 7].into()), ..Origin::default() };
    let mut config = PoolerConfig { rules: Some(rules.clone()), ..PoolerConfig::new(Vec::new()) };
    assert_ne!(config.admit(outside, request), Decision::Vouched, "the system knows nobody elsewhere");
    for rule in &rules.0 {
        assert!(!rule.databases.is_empty());
        config.rules = Some(Rules(vec![rule.clone()]));
        let closed = rule.over == Over::Local
            || !rule.networks.is_empty()
                && rule.networks.iter().all(|n| !n.contains([203, 0, 113, 7].into()));
        assert!(!closed || matches!(config.admit(outside, request), Decision::Refuse(_)));
        assert!(
            rule.over == Over::Local
                || matches!(config.admit(Origin::default(), request), Decision::Refuse(_))
        );
    }
}

/// A statement of the console.
///
/// # Panics
/// If a statement that was understood is not understood in its plain form.
pub fn console_statement(text: &str) {
    let request = match parse(text) {
        Err(message) => return assert!(!message.is_empty()),
        Ok(None) => return,
        Ok(Some(request)) => request,
    };
    let mut plain = request.command.name.to_owned();
    let named = request.command.argument == Argument::DataSource;
    if let Some(argument) = request.argument.as_ref().filter(|_| named) {
        plain.push_str(&format!(" \"{}\"", argument.replace('"', "\"\"")));
    }
    let again = parse(&plain).ok().flatten().expect("its own words are understood");
    assert_eq!(again.command.name, request.command.name);
    assert!(!named || again.argument == request.argument, "{:?}", request.argument);
}
