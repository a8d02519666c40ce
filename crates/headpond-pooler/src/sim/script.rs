//! What a client is going to do, drawn before the run.

use std::collections::VecDeque;

use crate::sim::client::{Ask, CopyEnding, Flight, Kind, Statement};
use crate::sim::dice::Dice;
use crate::sim::marked::{message, text_message};
use crate::sim::peer::{Faults, MS};

/// Draws the flights of one client.
pub(crate) fn flights(
    exchanges: u64,
    faults: &Faults,
    (dirty, escapes): (bool, bool),
    dice: &mut Dice,
) -> VecDeque<Flight> {
    let mut script = Script { faults, dirty, dice, flights: VecDeque::new(), flight: Flight::default() };
    if escapes {
        // Out of the failed transaction that keeps others from running under settings that are not true.
        script.one(Kind::Rollback);
    }
    for _ in 0..exchanges {
        script.exchange();
    }
    script.cut();
    script.flights
}

struct Script<'a> {
    faults: &'a Faults,
    /// Sessions are reset, so they may be left dirty.
    dirty: bool,
    dice: &'a mut Dice,
    flights: VecDeque<Flight>,
    flight: Flight,
}

impl Script<'_> {
    /// A transaction, or requests outside of one.
    fn exchange(&mut self) {
        if self.dice.chance(self.faults.transactions) {
            self.one(Kind::Begin);
            for _ in 0..self.dice.below(5) {
                self.request();
            }
            let ending = if self.dice.chance(70) { Kind::Commit } else { Kind::Rollback };
            self.one(ending);
        } else {
            self.request();
        }
    }

    fn request(&mut self) {
        match self.dice.below(20) {
            _ if self.dice.chance(self.faults.copies) => self.copy(),
            0..=8 => {
                let statements = self.statements();
                self.query(statements);
            }
            9..=15 => self.pipeline(),
            16 => self.call(),
            _ => self.copy(),
        }
        if self.dice.chance(80) {
            self.cut();
        }
    }

    fn one(&mut self, kind: Kind) {
        let mut statement = self.statement(kind);
        if statement.kind != Kind::Begin && self.dice.chance(50) {
            // Without a token it is exactly the command.
            statement.token.clear();
        }
        if self.dice.chance(50) {
            self.query(vec![statement]);
        } else {
            self.run(&statement);
            self.sync();
        }
        if self.dice.chance(60) {
            self.cut();
        }
    }

    /// What was put together so far goes out as one.
    fn cut(&mut self) {
        let mut flight = std::mem::take(&mut self.flight);
        if !flight.asks.is_empty() {
            if self.dice.chance(self.faults.large / 2) {
                // Data that no COPY asked for: a server reads over it.
                let data = message(b'd', &vec![0; self.size()]);
                flight.bytes.splice(0..0, data);
            }
            flight.think = if self.dice.chance(30) { 0 } else { self.dice.skewed(50 * MS) };
            self.flights.push_back(flight);
        }
    }

    fn statement(&mut self, kind: Kind) -> Statement {
        Statement { token: format!("k{:016x}", self.dice.number()), kind }
    }

    fn statements(&mut self) -> Vec<Statement> {
        (0..self.dice.pick(&[0, 1, 1, 1, 2, 4])).map(|_| self.any()).collect()
    }

    fn any(&mut self) -> Statement {
        let wait = self.dice.skewed(20 * MS);
        let kind = match self.dice.below(12) {
            0 | 1 => Kind::Fail { wait },
            2 => Kind::CopyOut { rows: self.dice.below(5), size: self.size() },
            3 if self.dirty => Kind::Dirty,
            _ => Kind::Echo { rows: self.dice.below(4), size: self.size(), wait },
        };
        self.statement(kind)
    }

    fn size(&mut self) -> usize {
        let large = self.dice.chance(self.faults.large);
        if large { self.dice.between(66_000, 120_000) as usize } else { self.dice.skewed(200) as usize }
    }

    fn query(&mut self, statements: Vec<Statement>) {
        let padding = if self.dice.chance(self.faults.large) { self.size() } else { 0 };
        let texts: Vec<_> = statements.iter().map(|statement| statement.text(padding)).collect();
        self.ask(Ask::Query(statements), &text_message(b'Q', &texts.join(";")));
    }

    /// Requests of the extended protocol, up to a Sync or several.
    fn pipeline(&mut self) {
        for _ in 0..self.dice.pick(&[1, 1, 1, 2, 3]) {
            for _ in 0..self.dice.pick(&[0, 1, 1, 1, 2, 5]) {
                let statement = self.any();
                self.run(&statement);
            }
            self.sync();
        }
    }

    fn run(&mut self, statement: &Statement) {
        let padding = if self.dice.chance(self.faults.large) { self.size() } else { 0 };
        let text = statement.text(padding);
        let name = self.dice.pick(&["", "", "a", "b", "c"]);
        let about = message(b'C', format!("S{name}\0").as_bytes());
        if !name.is_empty() {
            self.ask(Ask::Close, &about);
        }
        let parse = message(b'P', format!("{name}\0{text}\0\0\0").as_bytes());
        self.ask(Ask::Parse(statement.clone()), &parse);
        if self.dice.chance(20) {
            let describe = message(b'D', format!("S{name}\0").as_bytes());
            self.ask(Ask::DescribeStatement(statement.clone()), &describe);
        }
        let bind = message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
        self.ask(Ask::Bind(statement.clone()), &bind);
        if self.dice.chance(60) {
            self.ask(Ask::DescribePortal(statement.clone()), &message(b'D', b"P\0"));
        }
        self.ask(Ask::Execute(statement.clone()), &message(b'E', &[0; 5]));
        if self.dice.chance(20) {
            self.ask(Ask::Close, &about);
        }
        if self.dice.chance(20) {
            self.flight.bytes.extend(message(b'H', b""));
            if self.dice.chance(40) {
                // The rest of the pipeline comes once this much is answered.
                self.cut();
            }
        }
    }

    fn sync(&mut self) {
        self.ask(Ask::Sync, &message(b'S', b""));
    }

    fn call(&mut self) {
        let fails = self.dice.chance(30);
        let token = self.statement(Kind::Begin).token;
        let argument = format!("{} {token}", if fails { "FAIL" } else { "ECHO" });
        let length = u32::try_from(argument.len()).expect("short").to_be_bytes();
        // The number is that of a function of large objects, which leaves nothing in the session.
        let body = [&[0, 0, 3, 0xbb, 0, 0, 0, 1][..], &length, argument.as_bytes(), &[0, 0]].concat();
        self.ask(Ask::Call(token, fails), &message(b'F', &body));
    }

    fn copy(&mut self) {
        let large = self.faults.copies > 0 && self.dice.chance(self.faults.large);
        let size = if large { self.dice.between(66_000, 100_000) as usize } else { self.size() };
        let messages = if large { 2 } else { self.dice.below(6) };
        let ending = match self.dice.below(5) {
            // What comes after the error is the tail of which nobody wants to know.
            1.. if large => CopyEnding::FailsAfter(0),
            0 => CopyEnding::GivenUp,
            1 | 2 if messages > 0 => CopyEnding::FailsAfter(self.dice.below(messages)),
            _ => CopyEnding::Done,
        };
        let (eager, early_sync) = (self.dice.chance(30), self.dice.chance(50));
        let statement = self.statement(Kind::CopyIn { messages, size, ending, eager, early_sync });
        let simple = self.dice.chance(60);
        if simple {
            self.query(vec![statement.clone()]);
        } else {
            let parse = [b"\0", statement.text(0).as_bytes(), b"\0\0\0"].concat();
            self.ask(Ask::Parse(statement.clone()), &message(b'P', &parse));
            self.ask(Ask::Bind(statement.clone()), &message(b'B', &[0; 8]));
            self.ask(Ask::Execute(statement.clone()), &message(b'E', &[0; 5]));
        }
        if eager {
            self.flight.bytes.extend(statement.copy_data());
        }
        if !simple {
            if eager || early_sync {
                self.sync();
            } else {
                // Sent behind the data, or behind the error that comes instead of the wish for them.
                self.flight.asks.push(Ask::Sync);
            }
        }
        if !eager {
            self.cut();
        }
    }

    fn ask(&mut self, ask: Ask, bytes: &[u8]) {
        self.flight.asks.push(ask);
        self.flight.bytes.extend_from_slice(bytes);
    }
}
