//! The library beside other pools, in the same process, turn by turn: each round measures all of them, so that what
//! else the machine does falls on all.
//!
//! usage: headpond-pool-bench [ROUNDS] [only=NAME,...] [rows=alone,workers,queue,crowd,broken,sizes]

mod blocking;
mod contenders;
mod rows;
mod sqlx;

use std::collections::BTreeMap;
use std::time::Duration;

use contenders::{Contender, Maker};
use rows::Crowd;

type Samples = BTreeMap<(&'static str, &'static str), Vec<f64>>;

const WORKERS: usize = 2;

struct Choice {
    rounds: usize,
    only: Option<String>,
    rows: Option<String>,
}

impl Choice {
    fn parse() -> Self {
        let mut choice = Self { rounds: 5, only: None, rows: None };
        for argument in std::env::args().skip(1) {
            match argument.split_once('=') {
                Some(("only", names)) => choice.only = Some(names.to_owned()),
                Some(("rows", names)) => choice.rows = Some(names.to_owned()),
                _ => {
                    choice.rounds = argument.parse().expect("usage: [ROUNDS] [only=NAME,...] [rows=ROW,...]")
                }
            }
        }
        choice
    }

    fn has(list: &Option<String>, name: &str) -> bool {
        list.as_ref().is_none_or(|list| list.split(',').any(|one| one == name))
    }

    fn row(&self, name: &str) -> bool {
        Self::has(&self.rows, name)
    }

    fn pool(&self, name: &str) -> bool {
        Self::has(&self.only, name)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap()
}

fn measure<C: Contender>(choice: &Choice, samples: &mut Samples) {
    if !choice.pool(C::NAME) {
        return;
    }
    let mut note = |row, value| samples.entry((row, C::NAME)).or_default().push(value);
    if choice.row("alone") {
        note("alone, ns", runtime().block_on(async { rows::alone(C::make(16).await, 300_000).await }));
    }
    if choice.row("workers") {
        let ns = runtime().block_on(async { rows::together(C::make(16).await, 8, 60_000, 0).await });
        note("8 tasks on 16, ns", ns);
    }
    if choice.row("queue") {
        let ns = runtime().block_on(async { rows::together(C::make(8).await, 64, 8_000, 1).await });
        note("64 tasks on 8, a yield, ns", ns);
    }
    if choice.row("crowd") {
        let Crowd { throughput, p50_ms, p99_ms, max_ms, jain } = runtime()
            .block_on(async { rows::crowd(C::make(64).await, 10_000, Duration::from_millis(1500)).await });
        note("crowd, M/s", throughput / 1e6);
        note("crowd p50, ms", p50_ms);
        note("crowd p99, ms", p99_ms);
        note("crowd max, ms", max_ms);
        note("crowd Jain", jain);
    }
    if choice.row("broken") {
        let (opened, failed) = runtime().block_on(rows::broken_test::<C>());
        note("broken test: opened each", opened);
        note("broken test: failed each", failed);
    }
    if choice.row("sizes") {
        note("future, bytes", runtime().block_on(async { C::make(1).await.future_size() as f64 }));
        note("guard, bytes", size_of::<C::Guard>() as f64);
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let choice = Choice::parse();
    let mut samples = Samples::new();
    for round in 0..choice.rounds {
        eprintln!("round {} of {}", round + 1, choice.rounds);
        measure::<headpond::Pool<Maker>>(&choice, &mut samples);
        measure::<deadpool::managed::Pool<Maker>>(&choice, &mut samples);
        measure::<bb8::Pool<Maker>>(&choice, &mut samples);
        measure::<mobc::Pool<Maker>>(&choice, &mut samples);
        measure::<fast_pool::Pool<Maker>>(&choice, &mut samples);
        measure::<sqlx_core::pool::Pool<sqlx::Mock>>(&choice, &mut samples);
        if choice.pool("r2d2") {
            blocking::measure(
                |row| choice.row(row),
                |row, value| {
                    samples.entry((row, "r2d2")).or_default().push(value);
                },
            );
        }
    }
    println!("{:28}{:10}{:>10}  {:>10}  samples", "row", "pool", "median", "/deadpool");
    for ((row, pool), values) in &samples {
        // Round by round, for the machine is not the same in each.
        let ratio = samples.get(&(*row, "deadpool")).map(|theirs| {
            let ratios: Vec<_> = values.iter().zip(theirs).map(|(our, their)| our / their).collect();
            format!("{:.3}", median(&ratios))
        });
        let all: Vec<_> = values.iter().map(|value| format!("{value:.4}")).collect();
        println!(
            "{row:28}{pool:10}{:10.4}  {:>10}  {}",
            median(values),
            ratio.unwrap_or_default(),
            all.join(" ")
        );
    }
}
