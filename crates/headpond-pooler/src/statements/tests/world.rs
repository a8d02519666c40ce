//! Clients, the pooler, and processes of the server.

use std::collections::{BTreeMap, HashMap};
use std::iter;
use std::time::Duration;

use headpond_core::PoolSettings;

use crate::action::{ClientId, Link};
use crate::config::{DataSource, NodeAddress, OpaqueFunctions, PoolMode, PoolerConfig};
use crate::sim::dice::Dice;
use crate::sim::direct::{Direct, Key, key, next_message};
use crate::sim::marked::{message, packet};
use crate::statements::client::Named;
use crate::statements::server::Change;
use crate::statements::tests::script::batch;
use crate::statements::tests::session::{Message, Session};

pub(super) struct Customer {
    id: ClientId,
    /// What it is going to send.
    pub(super) script: Vec<u8>,
    /// What a server of its own says to it.
    pub(super) expected: Vec<Message>,
    /// What it sends, and what each message is answered.
    pub(super) story: Vec<(Vec<String>, Vec<String>)>,
}

pub(super) struct World {
    pub(super) direct: Direct,
    pub(super) dice: Dice,
    pub(super) customers: Vec<Customer>,
    /// Those of the server's processes.
    sessions: BTreeMap<Key, Session>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
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
        let direct = Direct::new(PoolerConfig::new(vec![source]));
        Self { direct, dice, customers: Vec::new(), sessions: BTreeMap::new() }
    }

    /// A client comes, with so many batches to send.
    pub(super) fn come(&mut self, batches: u64) {
        let id = self.direct.come();
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
        self.customers.push(Customer { id, script, expected, story });
    }

    /// A client is gone.
    pub(super) fn leaves(&mut self, place: usize) {
        let customer = self.customers.swap_remove(place);
        self.direct.close(Link::Client(customer.id));
    }

    /// The youngest process of the server is gone.
    pub(super) fn loses(&mut self) {
        let mut links = self.direct.ends.values().rev().map(|end| end.link);
        if let Some(link) = links.find(|link| !matches!(link, Link::Client(_))) {
            self.direct.close(link);
        }
    }

    /// What a client has been told since it was last asked, but for what belongs to its login.
    pub(super) fn told(&mut self, place: usize) -> Vec<Message> {
        let link = Link::Client(self.customers[place].id);
        let Some(end) = self.direct.ends.get_mut(&key(link)) else { return Vec::new() };
        let messages = iter::from_fn(|| next_message(&mut end.heard));
        messages.filter(|(tag, _)| !matches!(tag, b'R' | b'S' | b'K' | b'N')).collect()
    }

    /// Somebody does something. Whether there was anything to do.
    pub(super) fn step(&mut self) -> bool {
        let speaks = |place: &usize| !self.customers[*place].script.is_empty();
        let speakers: Vec<_> = (0..self.customers.len()).filter(speaks).collect();
        let hearers = self.direct.hearers();
        let all = (speakers.len() + hearers.len()) as u64;
        if all == 0 {
            return false;
        }
        let drawn = self.dice.below(all) as usize;
        if let Some(place) = speakers.get(drawn) {
            let customer = &mut self.customers[*place];
            let most = customer.script.len() as u64;
            let piece = self.dice.between(1, most.min(200)) as usize;
            let bytes: Vec<u8> = customer.script.drain(..piece).collect();
            self.direct.say(Link::Client(customer.id), &bytes);
        } else {
            self.works(hearers[drawn - speakers.len()]);
        }
        true
    }

    /// A process of the server takes one message.
    fn works(&mut self, link: Link) {
        let Some((tag, body)) = self.direct.take(link) else { return };
        let says = self.sessions.entry(key(link)).or_default().take(tag, &body);
        let says: Vec<_> = says.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
        self.direct.say(link, &says);
    }

    pub(super) fn run(&mut self) {
        while self.step() {}
    }

    /// Statements are held by those who have them, and by nobody else.
    pub(super) fn check_holders(&self) {
        let pooler = &self.direct.pooler;
        for (number, entry) in pooler.pools.iter().enumerate() {
            let mut holders = HashMap::<_, u32>::new();
            let mut hold = |id| *holders.entry(id).or_default() += 1;
            for (_, client) in pooler.clients.iter().filter(|(_, it)| it.pool as usize == number) {
                let own = client.statements.iter().flat_map(|own| own.names.values());
                own.for_each(|named| hold(named.id));
            }
            for (_, server) in pooler.servers.iter().filter(|(_, it)| it.pool as usize == number) {
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
    pub(super) fn end(&mut self) {
        for customer in std::mem::take(&mut self.customers) {
            self.direct.close(Link::Client(customer.id));
        }
        self.run();
        self.check_holders();
        self.direct.tell(|pooler, now, out| pooler.suspend(now, None, out));
        self.run();
        assert!(self.direct.pooler.pools[0].statements.holders().is_empty());
    }
}

pub(super) fn readable(messages: &[Message]) -> Vec<String> {
    let one = |(tag, body): &Message| match tag {
        b'E' => {
            let code = body.split(|byte| *byte == 0).find(|field| field.starts_with(b"C"));
            format!("E {}", String::from_utf8_lossy(code.unwrap_or_default()))
        }
        _ => format!("{} {}", char::from(*tag), String::from_utf8_lossy(body)),
    };
    messages.iter().map(one).collect()
}
