//! Prepared statements through the pooler, compared with what each client would be told by a server of its own.
//!
//! A model of PostgreSQL's rules for statements answers twice: as the client's own server, at once, and as one of the
//! pool's, when it comes to that. `HEADPOND_SEED=n` runs one case.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headpond_core::{PoolSettings, Tick};

use crate::action::{Action, Actions, ClientId, Link};
use crate::config::{DataSource, NodeAddress, OpaqueFunctions, PoolMode, PoolerConfig};
use crate::pooler::Pooler;
use crate::sim::dice::Dice;
use crate::sim::marked::{message, packet};
use crate::statements::client::Named;
use crate::statements::server::Change;

/// What PostgreSQL keeps of statements in one session, and of its transaction.
#[derive(Default)]
struct Session {
    names: HashMap<Vec<u8>, Vec<u8>>,
    portal: Option<Vec<u8>>,
    skipping: bool,
    in_transaction: bool,
    failed: bool,
    /// An error had it pass over something that replaces the unnamed statement. Headpond may then have forgotten that.
    unnamed_in_doubt: bool,
}

type Message = (u8, Vec<u8>);

fn word(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().expect("a first part")
}

impl Session {
    fn error(&mut self, code: &str) -> Vec<Message> {
        self.skipping = true;
        self.failed = self.in_transaction;
        vec![(b'E', format!("SERROR\0VERROR\0C{code}\0Mno\0\0").into_bytes())]
    }

    fn ready(&self) -> Message {
        let status = if self.failed {
            b'E'
        } else if self.in_transaction {
            b'T'
        } else {
            b'I'
        };
        (b'Z', vec![status])
    }

    fn take(&mut self, tag: u8, body: &[u8]) -> Vec<Message> {
        let unnames = tag == b'Q' || tag == b'P' && body[0] == 0 || tag == b'C' && body == b"S\0";
        if self.skipping && tag != b'S' {
            self.unnamed_in_doubt |= unnames;
            return Vec::new();
        }
        if unnames {
            self.names.remove(&b""[..]);
            self.unnamed_in_doubt = false;
        }
        match tag {
            b'S' => {
                self.skipping = false;
                vec![self.ready()]
            }
            b'H' => Vec::new(),
            b'Q' => self.query(word(body)),
            b'P' => {
                let name = word(body);
                let text = word(&body[name.len() + 1..]);
                match () {
                    () if self.failed && !text.is_empty() => self.error("25P02"),
                    // PostgreSQL looks at the text first; which of two errors it is is all that differs.
                    () if self.names.contains_key(name) => self.error("42P05"),
                    () if text.starts_with(b"BAD") => self.error("42601"),
                    () => {
                        self.names.insert(name.to_vec(), text.to_vec());
                        vec![(b'1', Vec::new())]
                    }
                }
            }
            b'B' => {
                let portal = word(body);
                match self.names.get(word(&body[portal.len() + 1..])).cloned() {
                    None => self.error("26000"),
                    Some(_) if self.failed => self.error("25P02"),
                    Some(text) => {
                        self.portal = Some(text);
                        vec![(b'2', Vec::new())]
                    }
                }
            }
            b'D' if body[0] == b'P' => self.error("34000"),
            b'D' => match self.names.get(word(&body[1..])).cloned() {
                None => self.error("26000"),
                Some(_) if self.failed => self.error("25P02"),
                Some(text) => {
                    let rows = [&[0, 1][..], &text, &[0; 19]].concat();
                    vec![(b't', vec![0, 0]), (b'T', rows)]
                }
            },
            b'E' => match self.portal.clone() {
                Some(text) if text.starts_with(b"FAIL") => self.error("22012"),
                Some(text) => match self.deallocates(&text) {
                    Some(false) => self.error("26000"),
                    Some(true) => vec![(b'C', b"DEALLOCATE\0".to_vec())],
                    None => vec![(b'D', text), (b'C', b"SELECT 1\0".to_vec())],
                },
                None => self.error("34000"),
            },
            b'C' => {
                self.names.remove(word(&body[1..]));
                vec![(b'3', Vec::new())]
            }
            _ => panic!("{:?}", char::from(tag)),
        }
    }

    /// Whether it did, if that is what the text wants.
    fn deallocates(&mut self, text: &[u8]) -> Option<bool> {
        let name = text.strip_prefix(b"DEALLOCATE ")?;
        if name == b"ALL" {
            self.names.retain(|name, _| name.is_empty());
            return Some(true);
        }
        Some(self.names.remove(name).is_some())
    }

    fn query(&mut self, text: &[u8]) -> Vec<Message> {
        let mut said = match text {
            b"BEGIN" => {
                self.in_transaction = true;
                vec![(b'C', b"BEGIN\0".to_vec())]
            }
            b"ROLLBACK" => {
                (self.in_transaction, self.failed) = (false, false);
                vec![(b'C', b"ROLLBACK\0".to_vec())]
            }
            _ if self.failed => self.error("25P02"),
            _ => match self.deallocates(text) {
                Some(true) => vec![(b'C', b"DEALLOCATE\0".to_vec())],
                Some(false) => self.error("26000"),
                // Whatever the pooler wants to know.
                None => self.error("42601"),
            },
        };
        self.skipping = false;
        said.push(self.ready());
        said
    }
}

struct Customer {
    id: ClientId,
    /// What it is going to send, and what the pooler has yet to take of what it sent.
    script: Vec<u8>,
    sent: Vec<u8>,
    heard: Vec<u8>,
    /// What a server of its own says to it, and what it was told.
    expected: Vec<Message>,
    told: Vec<Message>,
    /// What it sends, and what each message is answered.
    story: Vec<(Vec<String>, Vec<String>)>,
}

/// A process of the database server.
#[derive(Default)]
struct Process {
    session: Session,
    logged_in: bool,
    heard: Vec<u8>,
    says: Vec<u8>,
}

enum Event {
    Connected(Link),
    Read(Link),
    Closed(Link),
}

struct World {
    pooler: Pooler,
    dice: Dice,
    customers: Vec<Customer>,
    processes: BTreeMap<(u8, u64), (Link, Process)>,
    events: VecDeque<Event>,
    now: u64,
}

fn next_message(bytes: &mut Vec<u8>) -> Option<Message> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?) as usize;
    if bytes.len() <= length {
        return None;
    }
    let message: Vec<u8> = bytes.drain(..=length).collect();
    Some((message[0], message[5..].to_vec()))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let pool = PoolSettings {
            max_size: dice.between(1, 4) as u32,
            acquire_timeout: Duration::ZERO,
            check: false,
            statement_cache_size: dice.pick(&[1, 2, 3, 200]),
            ..PoolSettings::on_demand()
        };
        let node = NodeAddress::Tcp { host: "server".to_owned(), port: 5432 };
        let source = DataSource {
            user: Some("service".to_owned()),
            opaque_functions: OpaqueFunctions::Trust,
            ..DataSource::new("app", node, PoolMode::Transaction, pool)
        };
        let pooler = Pooler::new(Arc::new(PoolerConfig::new(vec![source])), 0, 1, [7; 32]);
        let (customers, processes, events) = Default::default();
        Self { pooler, dice, customers, processes, events, now: 0 }
    }

    /// A client comes, with so many batches to send.
    fn come(&mut self, batches: u64) {
        let id = self.pooler.accepted(Tick(self.now), None, false);
        let mut script = packet(0x0003_0000, b"user\0someone\0database\0app\0\0");
        let mut expected = Vec::new();
        let mut story = Vec::new();
        let mut session = Session::default();
        for number in 0..=batches {
            let messages = match number < batches {
                true => batch(&mut session, &mut self.dice),
                // Others wait for its connection.
                false => vec![(b'Q', b"ROLLBACK\0".to_vec())],
            };
            for (tag, body) in messages {
                script.extend(message(tag, &body));
                let answer = session.take(tag, &body);
                story.push((readable(&[(tag, body)]), readable(&answer)));
                expected.extend(answer);
            }
        }
        let (sent, heard, told) = Default::default();
        let customer = Customer { id, script, sent, heard, expected, told, story };
        self.customers.push(customer);
    }

    fn tell(&mut self, event: impl FnOnce(&mut Pooler, Tick, &mut Actions)) {
        self.now += 1000;
        let mut out = Actions::default();
        event(&mut self.pooler, Tick(self.now), &mut out);
        self.carry_out(&out, &[]);
        while let Some(event) = self.events.pop_front() {
            self.happens(event);
        }
    }

    fn happens(&mut self, event: Event) {
        let mut out = Actions::default();
        let now = Tick(self.now);
        let mut bytes = Vec::new();
        match event {
            Event::Connected(link) => self.pooler.connected(now, link, &mut out),
            Event::Closed(link) => {
                if self.processes.remove(&key(link)).is_some() {
                    self.pooler.closed(now, link, "gone", &mut out);
                }
            }
            Event::Read(link) => {
                let Some(place) = self.bytes_of(link) else { return };
                bytes = std::mem::take(place);
                if bytes.is_empty() {
                    return;
                }
                let consumed = self.pooler.received(now, link, &bytes, &mut out);
                if let Some(place) = self.bytes_of(link) {
                    *place = bytes[consumed..].to_vec();
                }
            }
        }
        self.carry_out(&out, &bytes);
    }

    fn bytes_of(&mut self, link: Link) -> Option<&mut Vec<u8>> {
        match link {
            Link::Client(id) => self.customers.iter_mut().find(|one| one.id == id).map(|one| &mut one.sent),
            _ => self.processes.get_mut(&key(link)).map(|(_, process)| &mut process.says),
        }
    }

    fn carry_out(&mut self, out: &Actions, bytes: &[u8]) {
        for action in &out.list {
            match *action {
                Action::Forward { to, from, len } => {
                    self.send(to, &bytes[from as usize..(from + len) as usize]);
                }
                Action::Send { to, from, len } => {
                    self.send(to, &out.injected[from as usize..(from + len) as usize]);
                }
                Action::Connect { link, .. } => {
                    self.processes.insert(key(link), (link, Process::default()));
                    self.events.push_back(Event::Connected(link));
                }
                Action::Read(link) => self.events.push_back(Event::Read(link)),
                Action::Finish(link) => self.events.push_back(Event::Closed(link)),
                Action::Close(link) => drop(self.processes.remove(&key(link))),
                _ => {}
            }
        }
    }

    fn send(&mut self, to: Link, bytes: &[u8]) {
        if let Link::Client(id) = to {
            let Some(customer) = self.customers.iter_mut().find(|one| one.id == id) else { return };
            customer.heard.extend_from_slice(bytes);
            while let Some((tag, body)) = next_message(&mut customer.heard) {
                if !matches!(tag, b'R' | b'S' | b'K' | b'N') {
                    customer.told.push((tag, body));
                }
            }
        } else if let Some((_, process)) = self.processes.get_mut(&key(to)) {
            process.heard.extend_from_slice(bytes);
        }
    }

    /// Somebody does something. Whether there was anything to do.
    fn step(&mut self) -> bool {
        let speaks = |customer: &Customer| !customer.script.is_empty();
        let hears = |process: &Process| !process.heard.is_empty();
        let speakers: Vec<_> = (0..self.customers.len()).filter(|at| speaks(&self.customers[*at])).collect();
        let hearers: Vec<_> =
            self.processes.iter().filter(|(_, (_, it))| hears(it)).map(|(key, _)| *key).collect();
        let all = (speakers.len() + hearers.len()) as u64;
        if all == 0 {
            return false;
        }
        let drawn = self.dice.below(all) as usize;
        if let Some(at) = speakers.get(drawn) {
            let most = self.customers[*at].script.len() as u64;
            let piece = self.dice.between(1, most.min(200)) as usize;
            let customer = &mut self.customers[*at];
            customer.sent.extend(customer.script.drain(..piece));
            let link = Link::Client(customer.id);
            self.tell(|pooler, now, out| pooler.readable(now, link, out));
        } else {
            let key = hearers[drawn - speakers.len()];
            let Some((link, process)) = self.processes.get_mut(&key) else { return true };
            let link = *link;
            if matches!(link, Link::Cancel(_)) {
                self.tell(|pooler, now, out| pooler.closed(now, link, "", out));
                return true;
            }
            process.works();
            self.tell(|pooler, now, out| pooler.readable(now, link, out));
        }
        true
    }

    fn run(&mut self) {
        while self.step() {}
    }

    /// Statements are held by those who have them, and by nobody else.
    fn check_holders(&self) {
        for (number, entry) in self.pooler.pools.iter().enumerate() {
            let mut holders = HashMap::<_, u32>::new();
            let mut hold = |id| *holders.entry(id).or_default() += 1;
            for (_, client) in self.pooler.clients.iter().filter(|(_, it)| it.pool as usize == number) {
                let own = client.statements.iter().flat_map(|own| own.names.values());
                own.for_each(|named| hold(named.id));
            }
            for (_, server) in self.pooler.servers.iter().filter(|(_, it)| it.pool as usize == number) {
                assert!(!server.exchanges.at_rest() || server.statements.log.is_empty());
                server.statements.ids().into_iter().for_each(&mut hold);
                for record in &server.statements.log {
                    match &record.change {
                        Change::Unnamed(_, Named { id, .. }) | Change::Closed(id, _) => hold(*id),
                        Change::All(names) => names.values().for_each(|named| hold(named.id)),
                        _ => {}
                    }
                }
            }
            assert_eq!(entry.statements.holders(), holders);
        }
    }

    /// All leave, and all connections are closed.
    fn end(&mut self) {
        for customer in std::mem::take(&mut self.customers) {
            self.tell(|pooler, now, out| pooler.closed(now, Link::Client(customer.id), "", out));
        }
        self.run();
        self.check_holders();
        self.tell(|pooler, now, out| pooler.suspend(now, None, out));
        self.run();
        assert!(self.pooler.pools[0].statements.holders().is_empty());
    }
}

/// In an order that does not change.
fn key(link: Link) -> (u8, u64) {
    match link {
        Link::Client(id) => (0, id.packed()),
        Link::Server(id) => (1, id.packed()),
        Link::Cancel(id) => (2, id.packed()),
    }
}

impl Process {
    /// Takes one message.
    fn works(&mut self) {
        if !self.logged_in {
            self.heard.clear();
            self.logged_in = true;
            for (tag, body) in [(b'R', &[0; 4][..]), (b'K', &[1; 8]), (b'Z', b"I")] {
                self.says.extend(message(tag, body));
            }
        } else if let Some((tag, body)) = next_message(&mut self.heard)
            && tag != b'X'
        {
            for (tag, body) in self.session.take(tag, &body) {
                self.says.extend(message(tag, &body));
            }
        }
    }
}

/// What a client sends up to a Sync, or one query. Before anything of an error is known, it may send more.
fn batch(session: &mut Session, dice: &mut Dice) -> Vec<Message> {
    let name = |dice: &mut Dice| dice.pick(&["a", "b", "c", "d", "_headpond_1"]);
    if session.failed || dice.chance(20) {
        let text = match () {
            () if session.failed => "ROLLBACK".to_owned(),
            () if session.in_transaction && dice.chance(60) => "ROLLBACK".to_owned(),
            () if !session.in_transaction && dice.chance(50) => "BEGIN".to_owned(),
            () if dice.chance(20) => "DEALLOCATE ALL".to_owned(),
            () => format!("DEALLOCATE {}", name(dice)),
        };
        return vec![(b'Q', format!("{text}\0").into_bytes())];
    }
    let mut messages = Vec::new();
    // What deallocates is looked at when it is parsed, and runs then.
    let runs_again = |text: &[u8]| !text.windows(4).any(|word| word == b"DEAL");
    let unnamed = session.names.get(&b""[..]).is_none_or(|text| runs_again(text));
    let mut unnamed = unnamed && !session.unnamed_in_doubt;
    for _ in 0..dice.below(7) {
        let parse = |name: &str, dice: &mut Dice| {
            let text = match dice.below(14) {
                0 => "BAD".to_owned(),
                1 => "FAIL".to_owned(),
                2 => format!("DEALLOCATE {}", dice.pick(&["a", "b", "ALL"])),
                other => format!("TEXT {}", other % 5),
            };
            // A statement that deallocates is prepared to run at once, by those who do that at all.
            let text = if name.is_empty() { text } else { text.replace("DEALLOCATE", "TEXT") };
            (b'P', format!("{name}\0{text}\0\0\0").into_bytes())
        };
        match dice.below(10) {
            0 | 1 => {
                messages.push(parse("", dice));
                unnamed = messages.last().is_some_and(|(_, body)| runs_again(body));
                messages.push((b'B', vec![0; 8]));
                messages.push((b'E', vec![0; 5]));
            }
            2 if unnamed => {
                messages.push((b'B', vec![0; 8]));
                messages.push((b'E', vec![0; 5]));
            }
            3 | 4 => {
                let name = name(dice);
                messages.push(parse(name, dice));
            }
            5 => {
                let name = name(dice);
                messages.push((b'C', format!("S{name}\0").into_bytes()));
            }
            6 => {
                let name = name(dice);
                messages.push((b'D', format!("S{name}\0").into_bytes()));
            }
            7 if dice.chance(30) => messages.push((b'H', Vec::new())),
            _ => {
                let name = name(dice);
                messages.push((b'B', format!("\0{name}\0\0\0\0\0\0\0").into_bytes()));
                messages.push((b'E', vec![0; 5]));
            }
        }
    }
    messages.push((b'S', Vec::new()));
    messages
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let one = std::env::var("HEADPOND_SEED").ok().and_then(|seed| seed.parse().ok());
    one.map_or(0..count, |seed| seed..seed + 1)
}

fn readable(messages: &[Message]) -> Vec<String> {
    let one = |(tag, body): &Message| match tag {
        b'E' => {
            let code = body.split(|byte| *byte == 0).find(|field| field.starts_with(b"C"));
            format!("E {}", String::from_utf8_lossy(code.unwrap_or_default()))
        }
        _ => format!("{} {}", char::from(*tag), String::from_utf8_lossy(body)),
    };
    messages.iter().map(one).collect()
}

#[test]
fn every_client_is_told_what_a_server_of_its_own_would_tell_it() {
    for seed in seeds(4_000) {
        let mut world = World::new(seed);
        for _ in 0..4 {
            let batches = world.dice.between(1, 12);
            world.come(batches);
        }
        world.run();
        world.check_holders();
        for customer in &world.customers {
            // The first is the end of the login.
            let told = readable(customer.told.get(1..).unwrap_or_default());
            let expected = readable(&customer.expected);
            let same = told.iter().zip(&expected).take_while(|(told, expected)| told == expected).count();
            assert!(
                same == told.len() && same == expected.len(),
                "HEADPOND_SEED={seed}: {:?} instead of {:?} behind {same} good answers of {:#?}",
                told.get(same),
                expected.get(same),
                customer.story
            );
        }
        world.end();
    }
}

#[test]
fn nothing_is_left_of_statements_when_clients_and_connections_break() {
    for seed in seeds(1_000) {
        let mut world = World::new(seed);
        for _ in 0..300 {
            if world.customers.len() < 4 {
                world.come(8);
            }
            world.step();
            if world.dice.chance(2) {
                let gone = world.dice.below(world.customers.len() as u64) as usize;
                let customer = world.customers.swap_remove(gone);
                let link = Link::Client(customer.id);
                world.tell(|pooler, now, out| pooler.closed(now, link, "", out));
            }
            if world.dice.chance(2)
                && let Some((_, (link, _))) = world.processes.iter().next_back()
            {
                let link = *link;
                world.processes.remove(&key(link));
                world.tell(|pooler, now, out| pooler.closed(now, link, "gone", out));
            }
            world.check_holders();
        }
        world.end();
    }
}

#[test]
fn a_hundred_thousand_texts_leave_no_more_than_connections_may_keep() {
    let mut world = World::new(0);
    world.come(0);
    world.run();
    let size = world.pooler.pools[0].statements.size * 4;
    for number in 0..100_000 {
        let messages = [
            message(b'P', format!("s\0TEXT {number}\0\0\0").as_bytes()),
            message(b'C', b"Ss\0"),
            message(b'S', b""),
        ];
        world.customers[0].script = messages.concat();
        world.run();
        world.customers[0].told.clear();
        assert!(world.pooler.pools[0].statements.holders().len() <= size);
    }
}
