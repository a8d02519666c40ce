//! Prepared statements through the pooler, compared with what each client would be told by a server of its own.
//!
//! A model of PostgreSQL's rules for statements answers twice: as the client's own server, at once, and as one of the
//! pool's, when it comes to that. `HEADPOND_SEED=n` runs one case.

mod script;
mod session;
mod world;

use self::world::{World, readable};
use crate::sim::marked::message;

fn seeds(count: u64) -> std::ops::Range<u64> {
    let one = std::env::var("HEADPOND_SEED").ok().and_then(|seed| seed.parse().ok());
    one.map_or(0..count, |seed| seed..seed + 1)
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
        for place in 0..world.customers.len() {
            // The first is the end of the login.
            let told = readable(world.told(place).get(1..).unwrap_or_default());
            let customer = &world.customers[place];
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
                let place = world.dice.below(world.customers.len() as u64) as usize;
                world.leaves(place);
            }
            if world.dice.chance(2) {
                world.loses();
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
    let size = world.direct.pooler.pools[0].statements.size * 4;
    for number in 0..100_000 {
        let messages = [
            message(b'P', format!("s\0TEXT {number}\0\0\0").as_bytes()),
            message(b'C', b"Ss\0"),
            message(b'S', b""),
        ];
        world.customers[0].script = messages.concat();
        world.run();
        world.told(0);
        assert!(world.direct.pooler.pools[0].statements.holders().len() <= size);
    }
}
