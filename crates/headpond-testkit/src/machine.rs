//! The whole pooler fed with bytes on both legs and events in any order.
//!
//! The input is a list of steps, a few bytes each. After each the stage looks at what must hold; at the end everybody
//! leaves, and somebody new must be served.

use std::time::Duration;

use headpond_pooler::Link;
use headpond_pooler::config::{AuthMethod, PoolMode, TlsMode, Users};

use crate::messages::{self, Named, Spoiled, is_tagged};
use crate::scene::config;
use crate::stage::Stage;

/// Clients that are there at once.
const CLIENTS_MAX: usize = 5;

/// Reads steps.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = usize::from(self.byte()?).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        Some(bytes)
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let choice = usize::from(self.byte()?);
        choices.get(choice % choices.len().max(1)).copied()
    }
}

pub(crate) fn pooler(input: &[u8]) {
    let mut script = Script(input);
    let Some(flavour) = script.byte() else { return };
    let modes = [PoolMode::Transaction, PoolMode::Session];
    let methods = [AuthMethod::Trust, AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256];
    let (mode, method) = (modes[usize::from(flavour & 1)], methods[usize::from(flavour >> 1 & 3)]);
    let mut config = config(mode, method, u32::from(flavour >> 3 & 1) + 1);
    config.data_sources[0].pool.check = flavour & 16 != 0;
    config.data_sources[0].pool.leak_reclaim = flavour & 32 != 0;
    if flavour & 32 != 0 {
        config.data_sources[0].pool.leak_after = Duration::from_secs(20);
    }
    if flavour & 64 != 0 {
        config.client_tls = TlsMode::Allow;
    }
    if flavour & 128 != 0 {
        config.data_sources[0].tls.mode = TlsMode::Prefer;
    }
    if flavour & 48 == 48 {
        // Whoever is not Ann is looked up by her, and what the server says of him makes little sense.
        let mut listed = Users::default();
        listed.insert("ann".to_owned(), config.users.get("ann").cloned().unwrap_or_default());
        config.users = listed;
        config.data_sources[0].lookup.user = Some("ann".to_owned());
    }
    let mut stage = Stage::new(config.clone());
    let mut drains = false;
    while let Some(step) = script.byte() {
        let links = stage.links();
        let done = match step % 16 {
            0 => comes(&mut stage),
            1..=3 => says(&mut stage, &mut script, &messages::FRONTEND, true),
            4..=6 => says(&mut stage, &mut script, &messages::BACKEND, false),
            7 => comes_in(&mut stage, &mut script),
            8 => script.one_of(&links).map(|link| stage.breaks(link)),
            9 => script.one_of(&links).map(|link| stage.leaves(link)),
            10 => script.one_of(&links).map(|link| stage.blocks(link)),
            11 => script.byte().map(|time| stage.passes(Duration::from_millis(1 << (time % 17)))),
            12 => {
                let raw = script.one_of(&links).zip(script.bytes());
                raw.map(|(link, bytes)| stage.says(link, bytes))
            }
            13 => operates(&mut stage, &mut script, &mut drains),
            14 => script.one_of(&links).map(|link| {
                stage.shakes(link);
                stage.connects(link);
            }),
            _ => {
                stage.serve(&[]);
                Some(())
            }
        };
        if done.is_none() && script.0.is_empty() {
            break;
        }
    }
    if drains {
        stage.ends();
    } else {
        stage.is_well_at_last();
    }
}

fn clients(stage: &Stage) -> Vec<Link> {
    stage.links().into_iter().filter(|link| matches!(link, Link::Client(_))).collect()
}

fn comes(stage: &mut Stage) -> Option<()> {
    if clients(stage).len() < CLIENTS_MAX {
        stage.comes();
    }
    Some(())
}

/// A client that logs in as it should, as far as it can.
fn comes_in(stage: &mut Stage, script: &mut Script<'_>) -> Option<()> {
    let name = script.one_of(&["ann", "bob"])?;
    if clients(stage).len() < CLIENTS_MAX {
        let client = stage.comes();
        stage.logs_in(client, name);
    }
    Some(())
}

fn says(stage: &mut Stage, script: &mut Script<'_>, messages: &[Named], by_client: bool) -> Option<()> {
    let links = if by_client { clients(stage) } else { stage.servers() };
    let link = script.one_of(&links)?;
    let index = usize::from(script.byte()?) % messages.len();
    let (name, message) = &messages[index];
    // Mostly whole.
    let way = usize::from(script.byte()?).saturating_sub(200);
    let spoiled = Spoiled::ALL[way % Spoiled::ALL.len()];
    stage.says(link, &spoiled.spoil(message, is_tagged(name)));
    Some(())
}

fn operates(stage: &mut Stage, script: &mut Script<'_>, drains: &mut bool) -> Option<()> {
    let act = script.byte()?;
    stage.operates(|pooler, now, out| match act {
        0..=49 => pooler.suspend(now, None, out),
        50..=99 => pooler.resume(now, Some("shop"), out),
        100..=149 => pooler.renew(now, None, out),
        150..=199 => pooler.kill(now, None, out),
        200..=239 => pooler.reset_marks(),
        _ => {
            *drains = true;
            pooler.drain(now, out);
        }
    });
    Some(())
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let say = |client: u8, message: u8| [1, client, message, 0];
    let query = say(0, 0);
    let with = |flavour: u8, steps: &[&[u8]]| [&[flavour, 7, 0], &steps.concat()[..]].concat();
    let mut seeds = vec![
        // Queries, of two clients on one connection.
        with(0, &[&query, &[15], &[7, 1], &say(1, 1), &[15], &query, &[15], &say(1, 2), &[15]]),
        // The extended protocol, answered by hand.
        with(
            1,
            &[
                &say(0, 8),
                &say(0, 11),
                &say(0, 14),
                &say(0, 17),
                &[4, 0, 35, 0, 4, 0, 36, 0, 4, 0, 30, 0, 4, 0, 15, 0],
            ],
        ),
        // COPY both ways.
        with(0, &[&say(0, 4), &[15], &say(0, 21), &say(0, 22), &[15], &say(0, 5), &[15]]),
        // A transaction, lost; a client that leaves in the middle; a cancel request.
        with(8, &[&say(0, 1), &[15], &say(0, 0), &[8, 1], &say(0, 2), &[15], &query, &[9, 0], &[15]]),
        with(8, &[&query, &[0], &say(1, 32), &[15], &[11, 16], &[13, 0], &[13, 160], &[13, 60]]),
        with(0, &[&query, &[15], &[13, 250], &[15]]),
        // Somebody is looked up.
        with(48 | 4, &[&[7, 1], &[15], &[7, 0], &query, &[15], &[7, 1], &[8, 2], &[15]]),
    ];
    // TLS with a client that asks for it, and with servers that have it.
    let ask = [12, 0, 8, 0, 0, 0, 8, 4, 210, 22, 47];
    seeds.push([&[64, 0][..], &ask, &[14, 0], &say(0, 27), &[15], &query, &[15]].concat());
    seeds.push([&[64, 0, 12, 0, 1, 0x16, 14, 0][..], &say(0, 27), &[15], &query, &[15]].concat());
    seeds.push(with(128, &[&query, &[15], &[7, 1], &say(1, 1), &[15], &say(1, 32), &[15]]));
    seeds.push([&[128, 7, 0][..], &[8, 1], &[14, 1], &query, &[15]].concat());
    // Logins by hand, by every method.
    seeds.extend((0..4).map(|method| {
        let (hello, password) = (say(0, 27), say(0, 24 + u8::from(method == 3)));
        [&[method << 1, 0][..], &hello, &password, &[15], &query, &[15]].concat()
    }));
    seeds
}
