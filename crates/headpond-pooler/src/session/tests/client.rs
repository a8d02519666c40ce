//! Clients: they come, send what was drawn for them, are told what became of it, and leave.

use std::collections::VecDeque;

use crate::action::{ClientId, Link};
use crate::session::tests::model::Session;
use crate::session::tests::script::{Said, Script};
use crate::session::tests::server::readable;
use crate::session::tests::world::World;
use crate::sim::direct::{Key, key, next_message};
use crate::sim::marked::packet;

pub(super) struct Customer {
    pub(super) id: ClientId,
    pub(super) script: Script,
    /// The session of its own, and what that was when it last heard that it is in no transaction.
    pub(super) oracle: Session,
    pub(super) heard_of: Session,
    pub(super) left: u64,
    pub(super) unsent: Vec<u8>,
    pub(super) requests: VecDeque<Request>,
    pub(super) told: Vec<String>,
    pub(super) story: Vec<String>,
    pub(super) logged_in: bool,
    pub(super) gone: bool,
    /// A connection of its was lost: it does not know what became of what it sent.
    pub(super) shaken: bool,
    pub(super) was_shaken: bool,
}

/// What was sent up to a point where the client waits for ready for query.
#[derive(Default)]
pub(super) struct Request {
    pub(super) number: u64,
    /// Its first statement, if it is of the extended protocol.
    pub(super) first: String,
    pub(super) ran_on: Option<Key>,
    pub(super) expected: Vec<String>,
    pub(super) over: bool,
    /// It came to a failed transaction that is not the client's.
    pub(super) refused: bool,
    pub(super) after: Option<Session>,
}

impl World {
    pub(super) fn come(&mut self) {
        self.to_come -= 1;
        let number = self.customers.len();
        let mut startup = b"user\0someone\0database\0app\0".to_vec();
        let mut oracle = Session::default();
        for (name, value) in
            [("search_path", "stock"), ("TimeZone", "UTC"), ("app.user", "first"), ("work_mem", "1MB")]
        {
            if self.dice.chance(25) {
                startup.extend(format!("{name}\0{value}{}\0", number % 3).bytes());
                oracle.layer.insert(name.to_lowercase(), format!("{value}{}", number % 3));
            }
        }
        startup.push(0);
        let left = self.dice.between(4, 20);
        let customer = Customer {
            id: self.direct.come(),
            script: Script::new(number),
            heard_of: oracle.clone(),
            oracle,
            left,
            unsent: packet(0x0003_0000, &startup),
            requests: VecDeque::new(),
            told: Vec::new(),
            story: Vec::new(),
            logged_in: false,
            gone: false,
            shaken: false,
            was_shaken: false,
        };
        self.customers.push(customer);
    }

    pub(super) fn speaks(&mut self, place: usize) {
        let Self { customers, dice, style, .. } = self;
        let customer = &mut customers[place];
        if customer.unsent.is_empty() {
            if customer.left == 0 && !customer.shaken {
                self.leaves(place);
                return;
            }
            let flight = if dice.chance(30) { dice.between(2, 4) } else { 1 };
            for _ in 0..flight.min(customer.left.max(1)) {
                customer.left = customer.left.saturating_sub(1);
                let Said { number, bytes, text } = match customer.shaken {
                    true => customer.script.rolls_back(),
                    false => customer.script.request(dice, *style, &customer.oracle),
                };
                customer.story.push(format!("{number}: {text}"));
                customer.unsent.extend(bytes);
                let first = text.split(" | ").next().unwrap_or_default().to_owned();
                customer.requests.push_back(Request { number, first, ..Request::default() });
                if customer.shaken {
                    break;
                }
            }
        }
        let most = customer.unsent.len() as u64;
        let piece = if dice.chance(60) { most } else { dice.between(1, most) };
        let bytes: Vec<u8> = customer.unsent.drain(..piece as usize).collect();
        let link = Link::Client(customer.id);
        self.direct.say(link, &bytes);
    }

    pub(super) fn leaves(&mut self, place: usize) {
        let customer = &mut self.customers[place];
        customer.gone = true;
        let link = Link::Client(customer.id);
        self.direct.close(link);
    }

    /// What clients were told since.
    pub(super) fn hear(&mut self) {
        for place in 0..self.customers.len() {
            let customer = &mut self.customers[place];
            let link = Link::Client(customer.id);
            if customer.gone {
                continue;
            }
            let Some(end) = self.direct.ends.get_mut(&key(link)) else { continue };
            let is_closed = end.is_closed;
            let mut lines = Vec::new();
            while let Some((tag, body)) = next_message(&mut end.heard) {
                lines.extend(readable(tag, &body));
            }
            for line in lines {
                let ends = line.starts_with('Z');
                self.customers[place].told.push(line);
                if ends {
                    self.answered(place);
                }
            }
            if is_closed {
                self.closed(place);
            }
        }
    }

    /// A client was closed by the pooler.
    pub(super) fn closed(&mut self, place: usize) {
        self.direct.close(Link::Client(self.customers[place].id));
        let customer = &mut self.customers[place];
        customer.gone = true;
        let why = customer.told.last().cloned().unwrap_or_default();
        let good = match &*why {
            "E 57P01 FATAL" => customer.was_shaken,
            _ => false,
        };
        self.seen("a client is closed");
        assert!(good, "closed: {why}: {}", self.story(place));
    }

    /// The client is told the end of its first request that is outstanding.
    pub(super) fn answered(&mut self, place: usize) {
        let customer = &mut self.customers[place];
        let told = std::mem::take(&mut customer.told);
        customer.story.push(format!("    {}", told.join(", ")));
        if !std::mem::replace(&mut customer.logged_in, true) {
            return;
        }
        let Some(request) = customer.requests.pop_front() else {
            panic!("told too much: {}", self.story(place));
        };
        let idle = told.last().is_some_and(|line| line == "Z I");
        let ran = request.over && !request.refused;
        if ran {
            assert_eq!(told, request.expected, "request {}: {}", request.number, self.story(place));
        } else {
            let error = told.iter().find_map(|line| line.strip_prefix("E ")).unwrap_or("");
            // Of one that was begun on a connection that is lost it may have heard anything.
            let good = match error {
                "55000" => true,
                "22023" => !self.ever_impossible.is_empty() && (idle || customer.shaken),
                _ => customer.shaken,
            };
            assert!(good, "request {} was not carried out: {told:?}: {}", request.number, self.story(place));
            self.seen(match error {
                "22023" => "settings cannot be restored",
                "40001" => "a transaction is lost",
                "40003" => "an outcome is unknown",
                "55000" => "a sequence is not known",
                _ => "answered without a server",
            });
        }
        let customer = &mut self.customers[place];
        if ran && !told.iter().any(|line| line.starts_with('E')) {
            customer.script.heard(request.number);
        }
        if idle {
            if let Some(after) = request.after.filter(|_| ran) {
                customer.heard_of = after;
            }
            if customer.requests.is_empty() && customer.unsent.is_empty() {
                customer.shaken = false;
            }
        }
    }
}
