//! Rules in the syntax of PostgreSQL's `pg_hba.conf`, and name maps in that of `pg_ident.conf`
//! (<https://www.postgresql.org/docs/current/auth-pg-hba-conf.html>, `auth-username-maps.html`).
//!
//! What PostgreSQL has and PgBouncer has not (groups, regular expressions, host names) is an error: a rule that is
//! passed over would let the next one decide.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use headpond_pooler::config::{
    AuthMethod, MappedUser, NameMap, Network, Over, Rule, RuleDatabase, RuleMethod, Rules,
};

use super::diagnostic::{At, Diagnostic};
use super::entries;
use super::values::{echo, echo_path};

/// How deep files of names may name others.
const NESTED_MAX: usize = 1;

/// Name maps by name.
type Maps = BTreeMap<String, Arc<NameMap>>;

/// What is known of the machine that rules can speak of.
pub(crate) struct Surroundings<'a> {
    /// Where files of names are looked for.
    pub(crate) folder: &'a Path,
    /// The networks of this machine's interfaces.
    pub(crate) interfaces: &'a [Network],
}

/// Reads rules. `maps` are those of the other file.
pub(crate) fn rules(
    file: &str,
    text: &str,
    maps: &Maps,
    surroundings: &Surroundings<'_>,
    errors: &mut Vec<Diagnostic>,
) -> Rules {
    let mut rules = Rules::default();
    for (at, line) in lines(file, text, errors) {
        match (Reader { words: line.into_iter(), maps, surroundings }).rule() {
            // Its files of names are empty: it is for nobody.
            Ok(None) => {}
            Ok(Some(rule)) => rules.0.push(rule),
            Err(why) => errors.push(at.says("", why)),
        }
    }
    rules
}

/// Reads name maps.
pub(crate) fn maps(file: &str, text: &str, errors: &mut Vec<Diagnostic>) -> Maps {
    let mut maps: BTreeMap<String, NameMap> = BTreeMap::new();
    for (at, line) in lines(file, text, errors) {
        let words: Vec<_> = line.iter().map(Vec::as_slice).collect();
        let [[map], [system], [user]] = words.as_slice() else {
            errors.push(at.says("", "not a mapping; MAP SYSTEM-USER USER"));
            continue;
        };
        if [system, user].iter().any(|word| word.text.starts_with('/') && !word.quoted) {
            errors.push(at.says(&map.text, "regular expressions are not supported; one line for each name"));
            continue;
        }
        let mapped = if user.is("all") { MappedUser::All } else { MappedUser::Named(user.text.clone()) };
        maps.entry(map.text.clone()).or_default().0.push((system.text.clone(), mapped));
    }
    maps.into_iter().map(|(name, map)| (name, Arc::new(map))).collect()
}

/// A word of a line: keywords mean something only without quotes.
#[derive(Clone, Debug)]
struct Word {
    text: String,
    quoted: bool,
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }
}

/// Words between which there were commas.
type Field = Vec<Word>;

/// The fields of each line that has any. A backslash at its end goes on with the next.
fn lines(file: &str, text: &str, errors: &mut Vec<Diagnostic>) -> Vec<(At, Vec<Field>)> {
    let mut found = Vec::new();
    let mut numbered = text.trim_start_matches('\u{feff}').lines().enumerate();
    while let Some((number, first)) = numbered.next() {
        let at = At { file: file.into(), line: number + 1 };
        let mut line = first.to_owned();
        while let Some(begun) = line.strip_suffix('\\') {
            let (begun, next) = (begun.len(), numbered.next());
            line.truncate(begun);
            line.push_str(next.map_or("", |(_, next)| next));
        }
        match fields(&line) {
            Ok(fields) if fields.is_empty() => {}
            Ok(fields) => found.push((at, fields)),
            Err(why) => errors.push(at.says("", why)),
        }
    }
    found
}

/// PostgreSQL's rules: white space between fields, commas between the words of one, double quotes around what is
/// special, a number sign before a comment.
fn fields(line: &str) -> Result<Vec<Field>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = line.trim_start();
    // A comma at a word's end joins the next, white space or not.
    let mut joins = false;
    while !rest.is_empty() && !rest.starts_with('#') {
        let mut word = Word { text: String::new(), quoted: false };
        while let Some(next) = rest.chars().next().filter(|c| !c.is_whitespace() && !",#".contains(*c)) {
            if next != '"' {
                word.text.push(next);
                rest = &rest[next.len_utf8()..];
                continue;
            }
            let (text, after) = entries::unquote(&rest[1..], '"').ok_or("a quote is not closed")?;
            word.text.push_str(&text);
            word.quoted = true;
            rest = after;
        }
        if word.text.contains('\0') {
            return Err("holds a zero byte; text only");
        }
        let empty = word.text.is_empty() && !word.quoted;
        if !empty {
            match fields.last_mut().filter(|_| joins) {
                Some(field) => Vec::push(field, word),
                None => fields.push(vec![word]),
            }
        }
        let comma = rest.strip_prefix(',');
        joins = comma.is_some() || empty && joins;
        rest = comma.unwrap_or(rest).trim_start();
        if comma.is_some() && fields.is_empty() {
            return Err("begins with a comma");
        }
    }
    Ok(fields)
}

struct Reader<'a> {
    words: std::vec::IntoIter<Field>,
    maps: &'a Maps,
    surroundings: &'a Surroundings<'a>,
}

impl Reader<'_> {
    /// `None`: it fits nobody.
    fn rule(mut self) -> Result<Option<Rule>, String> {
        let over = match self.one("a type")?.text.as_str() {
            "local" => Over::Local,
            "host" => Over::Host,
            "hostssl" => Over::HostSsl,
            "hostnossl" => Over::HostNoSsl,
            other => {
                let right = "local, host, hostssl or hostnossl";
                return Err(format!("{} is no type of connection; {right}", echo(other)));
            }
        };
        let databases = self.field("databases")?;
        let databases = self.names(databases, NESTED_MAX)?.iter().map(database).collect::<Result<_, _>>()?;
        let users = self.field("users")?;
        let users = self.names(users, NESTED_MAX)?;
        let everybody = users.iter().any(|user| user.is("all"));
        let users = users.iter().map(user).collect::<Result<Vec<_>, _>>()?;
        let nobody = users.is_empty();
        let users = if everybody { Vec::new() } else { users };
        let networks = if over == Over::Local { Vec::new() } else { self.networks()? };
        let method = self.one("a method")?;
        let method = self.method(&method, over)?;
        // Without names a rule would be for everybody.
        Ok((!nobody).then_some(Rule { over, databases, users, networks, method }))
    }

    fn field(&mut self, what: &str) -> Result<Field, String> {
        let right = "TYPE DATABASE USER [ADDRESS] METHOD";
        self.words.next().ok_or_else(|| format!("ends where {what} should stand; {right}"))
    }

    fn one(&mut self, what: &str) -> Result<Word, String> {
        let field = self.field(what)?;
        match <[Word; 1]>::try_from(field) {
            Ok([word]) => Ok(word),
            Err(_) => Err(format!("a list where {what} should stand")),
        }
    }

    /// Words, and those of the files that are named with an `@`.
    fn names(&self, words: Field, nested: usize) -> Result<Field, String> {
        let mut names = Vec::new();
        for word in words {
            let Some(file) = word.text.strip_prefix('@').filter(|_| !word.quoted) else {
                names.push(word);
                continue;
            };
            if nested == 0 {
                return Err("a file of names names another; all names in one".into());
            }
            let path = self.surroundings.folder.join(file);
            let name = echo_path(&path);
            let text = entries::read(&path).map_err(|why| format!("{name} {why}"))?;
            for line in text.lines() {
                let inner = fields(line).map_err(|why| format!("{name}: {why}"))?;
                names.extend(self.names(inner.into_iter().flatten().collect(), nested - 1)?);
            }
        }
        Ok(names)
    }

    fn networks(&mut self) -> Result<Vec<Network>, String> {
        let word = self.one("an address")?;
        let interfaces = self.surroundings.interfaces;
        let text = word.text.as_str();
        if word.is("all") {
            return Ok(Vec::new());
        }
        if word.is("samehost") || word.is("samenet") {
            if interfaces.is_empty() {
                return Err(format!("{text}: this machine's addresses are not known; write them down"));
            }
            let whole = |network: &Network| Network { mask: ones(network.address, u32::MAX), ..*network };
            let host = word.is("samehost");
            return Ok(interfaces.iter().map(|n| if host { whole(n) } else { *n }).collect());
        }
        let wrong = |what: &str| {
            format!(
                "{} is no {what}; an address like 10.0.0.0/8 or ::1/128, all, samehost or samenet",
                echo(text)
            )
        };
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| wrong("address"))?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
            let bits = bits.parse().ok().filter(|bits| digits && *bits <= most);
            return Ok(vec![Network { address, mask: ones(address, bits.ok_or_else(|| wrong("network"))?) }]);
        }
        let address: IpAddr = text.parse().map_err(|_| wrong("address (host names are not supported)"))?;
        let mask = self.one("a mask")?.text;
        let mask: IpAddr =
            mask.parse().map_err(|_| format!("{} is no mask; like 255.255.0.0", echo(&mask)))?;
        if address.is_ipv4() != mask.is_ipv4() {
            return Err("address and mask are of different families".into());
        }
        Ok(vec![Network { address, mask }])
    }

    fn method(&mut self, method: &Word, over: Over) -> Result<RuleMethod, String> {
        let mut map = None;
        for option in self.words.by_ref().flatten() {
            match option.text.split_once('=') {
                Some(("map", name)) => map = Some(name.to_owned()),
                _ => return Err(format!("{} is no option; map=NAME", echo(&option.text))),
            }
        }
        let method = match method.text.as_str() {
            "trust" => RuleMethod::Ask(AuthMethod::Trust),
            "reject" => RuleMethod::Reject,
            "password" | "plain" => RuleMethod::Ask(AuthMethod::Password),
            "md5" => RuleMethod::Ask(AuthMethod::Md5),
            "scram-sha-256" => RuleMethod::Ask(AuthMethod::ScramSha256),
            "peer" | "ident" if over == Over::Local => return Ok(RuleMethod::Peer(self.map(map)?)),
            "cert" if over == Over::HostSsl => return Ok(RuleMethod::Cert(self.map(map)?)),
            "cert" => return Err("cert is for hostssl only".into()),
            "peer" | "ident" => return Err("peer is for local connections only".into()),
            known @ ("ldap" | "pam") => return Err(format!("{known} is not supported yet")),
            other => {
                let right = "trust, reject, password, md5, scram-sha-256, cert or peer";
                return Err(format!("{} is no method; {right}", echo(other)));
            }
        };
        match map {
            Some(_) => Err("a map is for cert and peer only".into()),
            None => Ok(method),
        }
    }
}

impl Reader<'_> {
    /// The name map that a rule names.
    fn map(&self, name: Option<String>) -> Result<Option<Arc<NameMap>>, String> {
        let known = |name: String| {
            let found = self.maps.get(&name).cloned();
            found.ok_or_else(|| format!("no map {} in the file of name maps", echo(&name)))
        };
        name.map(known).transpose()
    }
}

fn database(word: &Word) -> Result<RuleDatabase, String> {
    Ok(match word.text.as_str() {
        "all" if !word.quoted => RuleDatabase::All,
        "sameuser" if !word.quoted => RuleDatabase::SameUser,
        "replication" if !word.quoted => RuleDatabase::Replication,
        "samerole" | "samegroup" if !word.quoted => {
            return Err(format!("{} is not supported: Headpond does not know who is in a role", word.text));
        }
        _ => RuleDatabase::Named(user(word)?),
    })
}

fn user(word: &Word) -> Result<String, String> {
    match word.text.chars().next() {
        Some('+') if !word.quoted => {
            Err(format!("{} is not supported: Headpond does not know who is in a role", echo(&word.text)))
        }
        Some('/') if !word.quoted => Err("regular expressions are not supported; a list of names".into()),
        _ => Ok(word.text.clone()),
    }
}

/// A mask of so many bits, for an address of its family.
fn ones(of: IpAddr, bits: u32) -> IpAddr {
    match of {
        IpAddr::V4(_) => Ipv4Addr::from(u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0)).into(),
        IpAddr::V6(_) => Ipv6Addr::from(u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0)).into(),
    }
}
