//! Clients that are not in yet cost little: where there are too many, who takes long over saying who he is makes room.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use headpond_core::Tick;

use crate::action::{Actions, ClientId};
use crate::client::{Client, ClientState};
use crate::pooler::Pooler;
use crate::refuse::Cause;

/// Who has not proved who he is by then has to go when others want in. A login takes a few milliseconds.
const SLOW: Duration = Duration::from_secs(1);

impl Pooler {
    /// Whether one more client, which is about to be [`Pooler::accepted`], may come in. `full`: the process has as many as it
    /// may have. Somebody who is slow to say who he is may have to leave for it.
    #[must_use]
    pub fn has_room(&mut self, now: Tick, peer: Option<IpAddr>, full: bool, out: &mut Actions) -> bool {
        let most = self.config.max_startups;
        // Unix sockets have no addresses.
        let most_of_one = if peer.is_some() { self.config.max_startups_per_address } else { 0 };
        let counts = most > 0 || most_of_one > 0;
        let place = peer.map(place_of);
        let (mut all, mut of_one) = (0, 0);
        let (mut slowest, mut slowest_of_one) = (None, None);
        if full || counts {
            // In the order they came.
            for id in self.timers.logins() {
                let Some(client) = self.clients.get(id).filter(|client| !client.is_logged_in()) else {
                    continue;
                };
                let late = now.since(client.connected) >= SLOW;
                if !counts && (slowest.is_some() || !late) {
                    // Who came later is no slower.
                    break;
                }
                let slow = late && is_awaited(client);
                all += 1;
                slowest = slowest.or(slow.then_some(id));
                if client.peer.map(|(address, _)| place_of(address)) == place {
                    of_one += 1;
                    slowest_of_one = slowest_of_one.or(slow.then_some(id));
                }
            }
        }
        if most_of_one > 0 && of_one >= most_of_one {
            return self.makes_room(slowest_of_one, out);
        }
        if full || most > 0 && all >= most {
            return self.makes_room(slowest, out);
        }
        true
    }

    fn makes_room(&mut self, slowest: Option<ClientId>, out: &mut Actions) -> bool {
        if let Some(id) = slowest {
            let message = "too many clients are logging in, and this one takes longest";
            self.refuse_login(id, &Cause::TooManyClients, message, out);
        }
        slowest.is_some()
    }
}

/// Who counts as one: an IPv4 address, also where it stands in an IPv6 one, or an IPv6 network of 64 bits. That is the
/// least anybody gets, and all its addresses are his.
fn place_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// It is its turn to say something.
fn is_awaited(client: &Client) -> bool {
    match &client.state {
        ClientState::Startup | ClientState::Handshake { .. } => true,
        ClientState::Login(login) => login.proof.awaits_answer(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headpond_core::PoolSettings;

    use super::*;
    use crate::action::{Action, Link};
    use crate::config::{DataSource, NodeAddress, PoolMode, PoolerConfig, TlsMode};

    const SECOND: u64 = 1_000_000_000;

    fn pooler(most: u32, most_of_one: u32) -> Pooler {
        let node = NodeAddress::Tcp { host: "server".into(), port: 5432 };
        let source = DataSource::new("*", node, PoolMode::Transaction, PoolSettings::on_demand());
        let limits = PoolerConfig {
            max_startups: most,
            max_startups_per_address: most_of_one,
            ..PoolerConfig::new(vec![source])
        };
        Pooler::new(Arc::new(limits), 0, 1, [7; 32])
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// A client comes: whether it may, and who had to leave.
    fn comes(pooler: &mut Pooler, now: u64, last: u8, full: bool) -> (bool, Vec<Link>) {
        let mut out = Actions::default();
        let room = pooler.has_room(Tick(now), Some(address(last)), full, &mut out);
        let _ = pooler.accepted(Tick(now), Some((address(last), 1).into()), !room);
        let left = |action: &Action| if let Action::Close(link) = action { Some(*link) } else { None };
        (room, out.list.iter().filter_map(left).collect())
    }

    #[test]
    fn without_limits_nobody_makes_room_until_the_process_is_full() {
        let mut pooler = pooler(0, 0);
        let first = Link::Client(pooler.accepted(Tick(0), None, false));
        for number in 0..100 {
            assert_eq!(comes(&mut pooler, 5 * SECOND, number, false), (true, vec![]));
        }
        assert_eq!(comes(&mut pooler, 5 * SECOND, 1, true), (true, vec![first]));
        // All others have just come.
        assert_eq!(comes(&mut pooler, 5 * SECOND, 1, true), (false, vec![]));
    }

    #[test]
    fn the_slowest_makes_room_and_nobody_who_has_just_come() {
        let mut pooler = pooler(2, 0);
        let first = Link::Client(pooler.accepted(Tick(0), None, false));
        let second = Link::Client(pooler.accepted(Tick(SECOND), None, false));
        assert_eq!(comes(&mut pooler, SECOND - 1, 1, false), (false, vec![]));
        assert_eq!(comes(&mut pooler, SECOND, 1, false), (true, vec![first]));
        assert_eq!(comes(&mut pooler, 2 * SECOND, 1, false), (true, vec![second]));
    }

    #[test]
    fn one_address_makes_room_for_itself_alone() {
        let mut pooler = pooler(0, 2);
        let others = Link::Client(pooler.accepted(Tick(0), Some((address(9), 1).into()), false));
        for _ in 0..2 {
            assert_eq!(comes(&mut pooler, 0, 1, false), (true, vec![]));
        }
        assert_eq!(comes(&mut pooler, 0, 1, false), (false, vec![]));
        let (room, left) = comes(&mut pooler, 3 * SECOND, 1, false);
        assert!(room && left.len() == 1 && left[0] != others);
        assert_eq!(comes(&mut pooler, 3 * SECOND, 2, false), (true, vec![]));
    }

    #[test]
    fn an_ipv6_network_of_64_bits_counts_as_one_address_and_a_mapped_address_as_what_it_maps() {
        for (first, second, one) in [
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let mut pooler = pooler(0, 1);
            let [first, second]: [IpAddr; 2] = [first, second].map(|address| address.parse().unwrap());
            let _ = pooler.accepted(Tick(0), Some((first, 1).into()), false);
            let room = pooler.has_room(Tick(0), Some(second), false, &mut Actions::default());
            assert_eq!(room, !one, "{first} {second}");
        }
    }

    #[test]
    fn whoever_is_slow_over_its_handshake_makes_room_like_all_others() {
        let node = NodeAddress::Tcp { host: "server".into(), port: 5432 };
        let source = DataSource::new("*", node, PoolMode::Transaction, PoolSettings::on_demand());
        let config = PoolerConfig { client_tls: TlsMode::Require, ..PoolerConfig::new(vec![source]) };
        let mut pooler = Pooler::new(Arc::new(config), 0, 1, [7; 32]);
        let mut out = Actions::default();
        let id = pooler.accepted(Tick(0), Some((address(1), 1).into()), false);
        let mut packet = Vec::new();
        headpond_wire::postgres::startup::encode_ssl_request(&mut packet);
        let _ = pooler.received(Tick(0), Link::Client(id), &packet, &mut out);
        assert!(pooler.awaits_handshake(Link::Client(id)));
        assert_eq!(comes(&mut pooler, SECOND - 1, 2, true), (false, vec![]));
        assert_eq!(comes(&mut pooler, SECOND, 2, true), (true, vec![Link::Client(id)]));
        assert!(!pooler.awaits_handshake(Link::Client(id)));
    }

    #[test]
    fn clients_on_unix_sockets_are_not_counted_as_of_one_address() {
        let mut pooler = pooler(0, 1);
        let mut out = Actions::default();
        for _ in 0..3 {
            assert!(pooler.has_room(Tick(0), None, false, &mut out));
            let _ = pooler.accepted(Tick(0), None, false);
        }
    }

    #[test]
    fn who_takes_long_makes_room_though_logins_have_no_time_out() {
        let node = NodeAddress::Tcp { host: "server".into(), port: 5432 };
        let source = DataSource::new("*", node, PoolMode::Transaction, PoolSettings::on_demand());
        let endless = PoolerConfig {
            max_startups: 1,
            client_login_timeout: Duration::ZERO,
            ..PoolerConfig::new(vec![source])
        };
        let mut pooler = Pooler::new(Arc::new(endless.clone()), 0, 1, [7; 32]);
        let first = Link::Client(pooler.accepted(Tick(0), None, false));
        assert_eq!(pooler.next_deadline(), None);
        assert_eq!(comes(&mut pooler, 0, 1, false), (false, vec![]));
        assert_eq!(comes(&mut pooler, SECOND, 1, false), (true, vec![first]));
        // From a reload on they have one, those who are there too.
        let timeout = Duration::from_secs(60);
        let bounded = PoolerConfig { client_login_timeout: timeout, ..endless };
        pooler.reload(Tick(SECOND), Arc::new(bounded), &mut Actions::default());
        assert_eq!(pooler.next_deadline(), Some(Tick(SECOND).plus(timeout)));
    }

    #[test]
    fn one_who_takes_long_does_not_have_all_who_came_after_remembered() {
        let mut pooler = pooler(0, 0);
        let mut out = Actions::default();
        let _slow = pooler.accepted(Tick(0), None, false);
        for _ in 0..10_000 {
            let id = pooler.accepted(Tick(0), None, false);
            pooler.closed(Tick(0), Link::Client(id), "gone", &mut out);
        }
        assert!(pooler.timers.logins().count() < 1000);
    }

    #[test]
    fn a_client_that_is_in_is_never_asked_to_make_room() {
        let mut pooler = pooler(1, 1);
        let mut out = Actions::default();
        let id = pooler.accepted(Tick(0), None, false);
        let mut packet = Vec::new();
        headpond_wire::postgres::startup::encode(&mut packet, [("user", "ann")].into_iter());
        let _ = pooler.received(Tick(0), Link::Client(id), &packet, &mut out);
        // It waits for the server, not for itself to say something.
        assert_eq!(comes(&mut pooler, 9 * SECOND, 1, true), (false, vec![]));
    }
}
