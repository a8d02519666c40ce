//! What clients send: statements drawn at random, alone, in transactions, several in one request or in one flight.

use crate::session::tests::model::Session;
use crate::sim::dice::Dice;
use crate::sim::marked::{message, text_message};

/// What is drawn for one client.
#[derive(Default)]
pub(super) struct Script {
    /// Its place.
    pub(super) number: usize,
    requests: u64,
    in_block: bool,
    /// Statements of the protocol that it has prepared: names and texts. Those of which it has not heard yet, with the
    /// number of their request.
    named: Vec<(String, String)>,
    unheard: Vec<(u64, (String, String))>,
    names: u64,
    /// It may have prepared a statement in SQL.
    prepares: bool,
    values: u64,
}

/// How a schedule is.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Transactions are allowed.
    pub(super) blocks: bool,
    /// The catalogue is asked.
    pub(super) functions: bool,
    /// How many percent of what can be are prepared by the protocol, with a name.
    pub(super) names: u64,
    /// What is drawn most, from 0 to 5.
    pub(super) taste: u64,
}

/// One request.
pub(super) struct Said {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) text: String,
}

const SETTINGS: [&str; 6] =
    ["app.tenant", "app.user", "application_name", "search_path", "timezone", "work_mem"];

impl Script {
    pub(super) fn new(number: usize) -> Self {
        Self { number, ..Self::default() }
    }

    /// Whatever was begun is over, on either side.
    pub(super) fn rolls_back(&mut self) -> Said {
        self.in_block = false;
        self.query("ROLLBACK")
    }

    /// One request.
    pub(super) fn request(&mut self, dice: &mut Dice, style: Style, oracle: &Session) -> Said {
        if dice.chance(4) {
            self.forgets();
            return self.query("DISCARD ALL");
        }
        if dice.chance(25) && !self.named.is_empty() {
            return self.runs_again(dice);
        }
        // What is reset is at the client's own defaults when its request is over, and not before.
        let has_layer = !oracle.layer.is_empty();
        let count = if dice.chance(25) { dice.between(2, 4) } else { 1 };
        let mut texts = Vec::new();
        for _ in 0..count {
            let text = self.statement(dice, style, count == 1);
            let resets = text.contains("RESET") || text.contains("DEFAULT");
            texts.push(text);
            if resets && has_layer {
                break;
            }
        }
        match dice.chance(50) {
            true => self.batch(dice, style, &texts),
            false => self.query(&texts.join("; ")),
        }
    }

    /// A request was carried out.
    pub(super) fn heard(&mut self, number: u64) {
        let named = self.unheard.extract_if(.., |(request, _)| *request == number);
        self.named.extend(named.map(|(_, named)| named));
    }

    fn forgets(&mut self) {
        self.named.clear();
        self.unheard.clear();
    }

    fn query(&mut self, text: &str) -> Said {
        self.requests += 1;
        let text = format!("{text} /*{}.{}*/", self.number, self.requests);
        Said { number: self.requests, bytes: text_message(b'Q', &text), text }
    }

    /// Of the extended protocol, up to a Sync.
    fn batch(&mut self, dice: &mut Dice, style: Style, texts: &[String]) -> Said {
        self.requests += 1;
        let mut bytes = Vec::new();
        let deallocates = texts.iter().any(|text| text == "DEALLOCATE ALL");
        for text in texts {
            // What deallocates is prepared to run at once, by those who do that at all.
            let plain = !["BEGIN", "COMMIT", "ROLLBACK", "DEALLOCATE"].iter().any(|word| text.contains(word));
            let name = match dice.chance(style.names) && plain && !deallocates {
                true => {
                    self.names += 1;
                    let name = format!("n{}", self.names);
                    self.unheard.push((self.requests, (name.clone(), text.clone())));
                    name
                }
                false => String::new(),
            };
            bytes.extend(message(b'P', format!("{name}\0{text}\0\0\0").as_bytes()));
            bytes.extend(self.bind(&name));
            bytes.extend(message(b'E', &[0; 5]));
        }
        bytes.extend(message(b'S', b""));
        Said { number: self.requests, bytes, text: texts.join(" | ") }
    }

    /// What was prepared is executed.
    fn runs_again(&mut self, dice: &mut Dice) -> Said {
        let (name, text) = self.named[dice.below(self.named.len() as u64) as usize].clone();
        self.requests += 1;
        let bytes = [self.bind(&name), message(b'E', &[0; 5]), message(b'S', b"")].concat();
        Said { number: self.requests, bytes, text }
    }

    /// Its one parameter says whose it is.
    fn bind(&self, name: &str) -> Vec<u8> {
        let who = format!("{}.{}", self.number, self.requests);
        let length = who.len() as u32;
        let parts: [&[u8]; 6] =
            [b"\0", name.as_bytes(), b"\0\0\0\0\x01", &length.to_be_bytes(), who.as_bytes(), &[0, 0]];
        message(b'B', &parts.concat())
    }

    fn value(&mut self, dice: &mut Dice) -> String {
        if dice.chance(50) {
            return dice.pick(&["common", "shared"]).to_owned();
        }
        self.values += 1;
        format!("v{}_{}", self.number, self.values)
    }

    fn statement(&mut self, dice: &mut Dice, style: Style, alone: bool) -> String {
        if style.blocks && alone && dice.chance(if self.in_block { 45 } else { 25 }) {
            return self.block(dice);
        }
        if self.prepares && dice.chance(30) {
            self.prepares = dice.chance(60);
            return if self.prepares { "EXECUTE p" } else { "DEALLOCATE p" }.to_owned();
        }
        if dice.chance(style.names / 10) {
            self.forgets();
            return "DEALLOCATE ALL".to_owned();
        }
        let kind = if dice.chance(40) { style.taste } else { dice.below(7) };
        match kind {
            0 => self.setting(dice),
            1 => identity(dice),
            2 => self.looks(dice),
            3 => self.holds(dice),
            4 => sequence(dice, self.values + 100 * self.number as u64),
            5 => self.opaque(dice, style),
            _ => dice.pick(&["SELECT 1", "SELECT 1", "SELECT 1/0"]).to_owned(),
        }
    }

    fn block(&mut self, dice: &mut Dice) -> String {
        if !self.in_block {
            self.in_block = true;
            return "BEGIN".to_owned();
        }
        let text = dice.pick(&[
            "COMMIT",
            "COMMIT",
            "ROLLBACK",
            "SAVEPOINT s",
            "SAVEPOINT t",
            "ROLLBACK TO s",
            "RELEASE s",
        ]);
        self.in_block = !matches!(text, "COMMIT" | "ROLLBACK");
        text.to_owned()
    }

    fn setting(&mut self, dice: &mut Dice) -> String {
        let (name, value) = (dice.pick(&SETTINGS), self.value(dice));
        match dice.below(12) {
            0..3 => format!("SET {name} TO '{value}'"),
            3 => format!("SET SESSION {name} = '{value}'"),
            4 => format!("SET LOCAL {name} TO '{value}'"),
            5 => format!("RESET {name}"),
            6 => format!("SET {name} TO DEFAULT"),
            7 => format!("SELECT set_config('{name}', '{value}', false)"),
            8 => format!("SELECT set_config('{name}', '{value}', true)"),
            9 => format!("SET TIME ZONE '{value}'"),
            10 => format!("SET search_path TO {value}, public"),
            _ => dice.pick(&["RESET ALL", "SET log_statement TO 'all'", "RESET log_statement"]).to_owned(),
        }
    }

    fn looks(&mut self, dice: &mut Dice) -> String {
        let name = dice.pick(&SETTINGS);
        match dice.below(3) {
            0 => format!("SHOW {name}"),
            1 => "SHOW role".to_owned(),
            _ => format!("SELECT current_setting('{name}', true)"),
        }
    }

    fn holds(&mut self, dice: &mut Dice) -> String {
        let key = format!("{}{}", self.number, dice.below(2));
        match dice.below(26) {
            0 | 1 => "CREATE TEMP TABLE mine (a int)".to_owned(),
            2 => "CREATE TEMP TABLE short (a int) ON COMMIT DROP".to_owned(),
            3..6 => dice.pick(&["DROP TABLE mine", "DISCARD TEMP"]).to_owned(),
            6 => "SELECT * FROM mine".to_owned(),
            7 | 8 => format!("SELECT pg_advisory_lock({key})"),
            9..11 => format!("SELECT pg_advisory_unlock({key})"),
            11 => "SELECT pg_advisory_unlock_all()".to_owned(),
            12 | 13 => dice.pick(&["LISTEN news", "LISTEN more"]).to_owned(),
            14..16 => dice.pick(&["UNLISTEN news", "UNLISTEN *"]).to_owned(),
            16 | 17 => "DECLARE held CURSOR WITH HOLD FOR SELECT 1".to_owned(),
            18 => "FETCH held".to_owned(),
            19 | 20 => "CLOSE held".to_owned(),
            21 | 22 => {
                let body = match dice.below(4) {
                    0 => "SELECT 1".to_owned(),
                    1 => format!("SELECT set_config('app.user', 'p{}', false)", self.number),
                    2 => format!("SELECT pg_advisory_lock({key})"),
                    _ => "SELECT nextval('s')".to_owned(),
                };
                self.prepares = true;
                format!("PREPARE p AS {body}")
            }
            23 | 24 => "EXECUTE p".to_owned(),
            _ => "DEALLOCATE p".to_owned(),
        }
    }

    fn opaque(&mut self, dice: &mut Dice, style: Style) -> String {
        let value = self.value(dice);
        match dice.below(6) {
            0 | 1 if style.functions => format!("SELECT set_tenant('{value}')"),
            2 if style.functions => format!("SELECT take_lock({}7)", self.number),
            3 => "SELECT set_config('ro' || 'le', 'clerk', false)".to_owned(),
            4 => "RESET ALL".to_owned(),
            _ => format!("SELECT set_config('app.' || 'tenant', '{value}', false)"),
        }
    }
}

fn identity(dice: &mut Dice) -> String {
    let texts = [
        "SET ROLE 'clerk'",
        "SET ROLE 'clerk'",
        "SET ROLE 'boss'",
        "SET LOCAL ROLE 'boss'",
        "RESET ROLE",
        "SET ROLE none",
        "SET SESSION AUTHORIZATION 'anna'",
        "RESET SESSION AUTHORIZATION",
        "SET log_statement TO 'all'",
        "SELECT set_config('role', 'boss', false)",
    ];
    dice.pick(&texts).to_owned()
}

fn sequence(dice: &mut Dice, value: u64) -> String {
    let name = dice.pick(&["s", "t"]);
    match dice.below(8) {
        0..3 => format!("SELECT nextval('{name}')"),
        3..5 => format!("SELECT currval('{name}')"),
        5 => "SELECT lastval()".to_owned(),
        6 => format!("SELECT setval('{name}', {value})"),
        _ => "DISCARD SEQUENCES".to_owned(),
    }
}
