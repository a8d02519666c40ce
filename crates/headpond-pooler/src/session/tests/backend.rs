//! The server's side of the world: what its processes make of messages, and how that compares with a session of the
//! client's own.

use crate::action::Link;
use crate::session::tests::model::Outcome;
use crate::session::tests::server::{Process, Who, answer, question, readable};
use crate::session::tests::words::statements;
use crate::session::tests::world::World;
use crate::sim::direct::{Key, key, next_message};
use crate::sim::marked::message;

impl World {
    /// A process of the server takes one message.
    pub(super) fn works(&mut self, link: Link) {
        let Some((tag, body)) = self.direct.take(link) else { return };
        let at = key(link);
        let process = self.processes.entry(at).or_default();
        let says = match tag {
            b'Q' => self.query(link, std::str::from_utf8(&body[..body.len() - 1]).expect("text")),
            b'S' => self.sync(at),
            _ if process.skipping => Vec::new(),
            _ => self.extended(link, tag, &body),
        };
        self.direct.say(link, &says);
    }

    pub(super) fn query(&mut self, link: Link, text: &str) -> Vec<u8> {
        let at = key(link);
        let process = self.processes.get_mut(&at).expect("it is there");
        process.statements.remove(&b""[..]);
        let who = text.rsplit_once("/*").and_then(|(_, rest)| who(rest.strip_suffix("*/")?));
        let mut says = Vec::new();
        match who {
            Some(who) => {
                let texts = statements(text);
                for text in &texts {
                    let outcome = self.executes(at, who, text, texts.len() == 1);
                    says.extend(answer(&outcome));
                    if outcome.is_err() {
                        break;
                    }
                }
            }
            None if text.is_empty() => says = message(b'I', b""),
            None if text.starts_with("SELECT 'Headpond: a message was larger") => says = self.stands_in(link),
            None if text.starts_with("BEGIN; SELECT 'Headpond: this transaction") => {
                // Behind settings that could not be restored, it fails already.
                let began = process.session.run("BEGIN", "pooler", false, &self.impossible);
                process.session.fails();
                says = answer(&began.and(Err("22P02")));
            }
            None => match question(&process.session, text) {
                Some(answer) => says = answer,
                None => {
                    let texts = statements(text);
                    for text in &texts {
                        let outcome = process.session.run(text, "pooler", texts.len() == 1, &self.impossible);
                        let good = match outcome {
                            Ok(_) => true,
                            Err("22023") => texts[0] == "BEGIN",
                            // Behind settings that could not be restored.
                            Err(code) => code == "25P02" && *text == "DISCARD SEQUENCES",
                        };
                        assert!(good, "the pooler's {text:?} of {texts:?} fails: {outcome:?}");
                        says.extend(answer(&outcome));
                        if outcome.is_err() {
                            break;
                        }
                    }
                    if text.starts_with("DISCARD ALL") {
                        process.statements.retain(|name, _| name.is_empty());
                    }
                }
            },
        }
        says.extend(self.ready(at));
        says
    }

    pub(super) fn sync(&mut self, at: Key) -> Vec<u8> {
        let process = self.processes.get_mut(&at).expect("it is there");
        process.skipping = false;
        self.ready(at)
    }

    /// The end of a request.
    pub(super) fn ready(&mut self, at: Key) -> Vec<u8> {
        let process = self.processes.get_mut(&at).expect("it is there");
        process.session.request_over();
        process.batch = 0;
        let status = process.session.status();
        if let Some((place, number)) = process.current.take() {
            let customer = &mut self.customers[place];
            if let Some(request) = customer.requests.iter_mut().find(|request| request.number == number) {
                request.over = true;
                if !request.refused {
                    customer.oracle.request_over();
                    request.expected.push(format!("Z {}", char::from(customer.oracle.status())));
                    request.after = Some(customer.oracle.clone());
                }
            } else {
                customer.oracle.request_over();
            }
        }
        message(b'Z', &[status])
    }

    pub(super) fn extended(&mut self, link: Link, tag: u8, body: &[u8]) -> Vec<u8> {
        let at = key(link);
        let process = self.processes.get_mut(&at).expect("it is there");
        let word = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().expect("a part").to_vec();
        let first = word(body);
        let fails = |process: &mut Process, code| {
            process.skipping = true;
            process.session.fails();
            answer(&Err(code))
        };
        match tag {
            b'H' => Vec::new(),
            b'P' => {
                let text = String::from_utf8(word(&body[first.len() + 1..])).expect("text");
                if process.session.failed && !matches!(&*text, "ROLLBACK" | "COMMIT" | "ROLLBACK TO s") {
                    return self.fails_early(link, "25P02");
                }
                if !first.is_empty() && process.statements.contains_key(&first) {
                    return fails(process, "42P05");
                }
                process.statements.insert(first, text);
                message(b'1', b"")
            }
            b'B' => {
                let name = word(&body[first.len() + 1..]);
                let parameter = std::str::from_utf8(&body[first.len() + name.len() + 10..body.len() - 2]);
                let who = parameter.ok().and_then(who);
                let Some(text) = process.statements.get(&name).cloned() else {
                    return fails(process, "26000");
                };
                if process.session.failed && !matches!(&*text, "ROLLBACK" | "COMMIT" | "ROLLBACK TO s") {
                    return self.fails_early(link, "25P02");
                }
                process.portal = Some((text, who));
                message(b'2', b"")
            }
            b'D' if body.starts_with(b"PHeadpond: a message was larger") => {
                process.skipping = true;
                self.stands_in(link)
            }
            // In place of a Parse of what this process has already, for a client whose transaction has failed.
            b'D' if body.starts_with(b"PHeadpond: a prepared statement was refused") => {
                self.fails_early(link, "34000")
            }
            b'D' if body[0] == b'P' => fails(process, "34000"),
            b'D' => [message(b't', &[0, 0]), message(b'n', b"")].concat(),
            b'C' => {
                process.statements.remove(&first[1..]);
                message(b'3', b"")
            }
            b'E' => {
                let Some((text, Some(who))) = process.portal.take() else { panic!("nobody's") };
                let alone = process.batch == 0;
                process.batch += 1;
                let outcome = self.executes(at, who, &text, alone);
                self.processes.get_mut(&at).expect("it is there").skipping |= outcome.is_err();
                answer(&outcome)
            }
            _ => panic!("{:?}", char::from(tag)),
        }
    }

    /// Something of a client's fails in a transaction that has, before it is known whose it is. `code`: how, for the
    /// pooler; its client is told what it would be told anywhere.
    pub(super) fn fails_early(&mut self, link: Link, code: &'static str) -> Vec<u8> {
        let client = self.client_on(link);
        let process = self.processes.get_mut(&key(link)).expect("it is there");
        process.skipping = true;
        process.session.fails();
        if let Some(place) = client
            && let customer = &mut self.customers[place]
            && customer.oracle.failed
            && !customer.gone
        {
            // The first that was not begun.
            if let Some(request) = customer.requests.iter_mut().find(|request| !request.over) {
                let own = customer.oracle.run(&request.first, "", false, &self.impossible);
                let own = own.expect_err("nothing runs in a failed transaction");
                request.ran_on = Some(key(link));
                request.expected.push(format!("E {own}"));
                process.current = Some((place, request.number));
            }
        }
        answer(&Err(code))
    }

    /// In place of a statement that asks for a value of a sequence.
    pub(super) fn stands_in(&mut self, link: Link) -> Vec<u8> {
        let client = self.client_on(link);
        let process = self.processes.get_mut(&key(link)).expect("it is there");
        let was_failed = process.session.failed;
        process.session.fails();
        if let Some(place) = client {
            let customer = &mut self.customers[place];
            if let Some(request) = customer.requests.iter_mut().find(|request| !request.over) {
                request.ran_on = Some(key(link));
                request.expected.push("E 55000".to_owned());
                request.refused = was_failed && !customer.oracle.failed;
                if !request.refused {
                    customer.oracle.fails();
                }
                process.current = Some((place, request.number));
            }
        }
        answer(&Err("22P02"))
    }

    /// A client's statement runs: as it would in a session of its own, or not at all.
    pub(super) fn executes(&mut self, at: Key, who: Who, text: &str, alone: bool) -> Outcome {
        let (place, number) = who;
        let process = self.processes.get_mut(&at).expect("it is there");
        let customer = &mut self.customers[place];
        process.current = Some(who);
        let mut request = customer.requests.iter_mut().find(|request| request.number == number);
        let name = format!("{place}.{number}");
        if let Some(request) = &mut request {
            let before = request.ran_on.replace(at);
            assert!(before.is_none_or(|before| before == at), "{name} runs twice: {}", self.story(place));
        }
        let customer = &mut self.customers[place];
        let mut request = customer.requests.iter_mut().find(|request| request.number == number);
        if process.session.failed && !customer.oracle.failed {
            // Settings that could not be restored, or a transaction that was lost.
            if let Some(request) = &mut request {
                request.refused = true;
            }
            return process.session.run(text, &name, alone, &self.impossible);
        }
        if customer.gone {
            return process.session.run(text, &name, alone, &self.impossible);
        }
        let (there, own) = (process.session.seen(), customer.oracle.seen());
        if there != own {
            let others: Vec<_> = there.iter().zip(&own).filter(|(there, own)| there != own).collect();
            let left: Vec<_> = there.iter().filter(|one| !own.contains(one)).collect();
            panic!("{name} {text:?} finds {others:?} {left:?}: {}", self.story(place));
        }
        if there.iter().any(|value| self.impossible.iter().any(|(n, v)| *value == format!("{n} = {v}"))) {
            *self.seen.entry("runs with what has become impossible").or_default() += 1;
        }
        let mut outcome = process.session.run(text, &name, alone, &self.impossible);
        let asks = text.contains("currval") || text.contains("lastval");
        // Nobody may know whose a value is, but it is never another one.
        let unknown = asks && outcome == Err("55000");
        let own = match unknown {
            true => {
                customer.oracle.fails();
                Err("55000")
            }
            false => customer.oracle.run(text, &name, alone, &self.impossible),
        };
        if own != outcome {
            panic!("{name} {text:?} answers {outcome:?} instead of {own:?}: {}", self.story(place));
        }
        if let Some(request) = request {
            let mut said = answer(&outcome);
            while let Some((tag, body)) = next_message(&mut said) {
                request.expected.extend(readable(tag, &body));
            }
        }
        let empties = |text: &str| text.starts_with("DISCARD ALL") || text.starts_with("DEALLOCATE ALL");
        if outcome.is_ok() && empties(text) {
            process.statements.retain(|name, _| name.is_empty());
        }
        if let Ok((_, tag)) = &mut outcome
            && tag.is_empty()
        {
            *tag = "SELECT 0";
        }
        outcome
    }
}

fn who(text: &str) -> Option<Who> {
    let (place, number) = text.split_once('.')?;
    Some((place.parse().ok()?, number.parse().ok()?))
}
