//! Clients who gave a password in clear that only a derivation can judge: one at a time, in the order they came.
//!
//! A derivation costs milliseconds of a processor, and whoever can connect can ask for one.

use std::collections::VecDeque;
use std::time::Duration;

use headpond_core::Tick;
use headpond_wire::postgres::scram::ClientKeys;

use crate::action::{Action, Actions, ClientId, Link};
use crate::client::ClientState;
use crate::config::Secret;
use crate::pooler::Pooler;

/// An answer that has not come by then will not come.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Who waits for keys.
#[derive(Debug, Default)]
pub(crate) struct Derivations {
    waiting: VecDeque<Wanted>,
    /// Until when the answer to the one under way is awaited.
    under_way: Option<Tick>,
}

#[derive(Debug)]
struct Wanted {
    client: ClientId,
    password: Secret,
    salt: Vec<u8>,
    iterations: u32,
}

impl Pooler {
    /// A client's keys are to be derived.
    pub(crate) fn derive_for(
        &mut self,
        now: Tick,
        client: ClientId,
        (password, salt, iterations): (Secret, Vec<u8>, u32),
        out: &mut Actions,
    ) {
        self.derivations.waiting.push_back(Wanted { client, password, salt, iterations });
        self.next_derivation(now, out);
    }

    fn next_derivation(&mut self, now: Tick, out: &mut Actions) {
        if self.derivations.under_way.is_some_and(|until| now < until) {
            return;
        }
        self.derivations.under_way = None;
        while let Some(wanted) = self.derivations.waiting.pop_front() {
            // Who has left in the meantime costs nothing.
            if self.clients.get(wanted.client).is_some() {
                let Wanted { client, password, salt, iterations } = wanted;
                out.push(Action::DeriveKeys { link: Link::Client(client), password, salt, iterations });
                self.derivations.under_way = Some(now.plus(LOST_AFTER));
                return;
            }
        }
    }

    /// The keys that [`Action::DeriveKeys`] asked for.
    pub fn keys_derived(
        &mut self,
        now: Tick,
        link: Link,
        password: &Secret,
        keys: &ClientKeys,
        out: &mut Actions,
    ) {
        match link {
            Link::Client(id) => {
                self.derivations.under_way = None;
                self.client_keys_derived(now, id, keys, out);
                self.next_derivation(now, out);
            }
            Link::Server(id) => self.server_keys_derived(id, password, keys, out),
            Link::Cancel(_) => {}
        }
    }

    fn client_keys_derived(&mut self, now: Tick, id: ClientId, keys: &ClientKeys, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let ClientState::Login(login) = &mut client.state else { return };
        let outcome = login.proof.derived(keys);
        self.login_goes_on(now, id, outcome, out);
    }
}
