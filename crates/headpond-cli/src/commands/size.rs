//! `headpond size`: how large a pool should be, with a database to measure or without.

use std::process::ExitCode;

use clap::ValueEnum;
use headpond_sizing::advice::{Answer, Bounded, Question, advise};
use headpond_sizing::measured::Measured;
use headpond_sizing::scenario::Objective;
use headpond_sizing::time::seconds;

use super::measure::Source;
use super::page::page;
use super::score::score;

/// No size meets what was asked for.
const NO_SIZE: u8 = 3;

/// What is known of the load and of the database; the rest is assumed, and said.
#[derive(clap::Args)]
pub(crate) struct Load {
    /// Users at work at the same time, at the peak
    #[arg(long, required_unless_present_any = ["rate", "measured", "from"], conflicts_with = "rate", value_parser = amount)]
    users: Option<f64>,
    /// What a user does between two pages
    #[arg(long, default_value = "8s", value_parser = time)]
    think: f64,
    /// Times that one page takes a connection from the pool
    #[arg(long, default_value_t = 1.0, value_parser = amount)]
    requests_per_page: f64,
    /// Requests for a connection per second, instead of users
    #[arg(long, value_parser = amount)]
    rate: Option<f64>,
    /// How long a connection is held: 8ms, or from 4ms..20ms [default: 3ms..30ms]
    #[arg(long, value_parser = times)]
    hold: Option<Bounded>,
    /// The share of that in which the database works: 0.5, or from 0.2..0.9 [default: 0.2..0.9]
    #[arg(long, value_parser = shares)]
    work_share: Option<Bounded>,
    /// Batch jobs that hold a connection each, and for how long: 4x20min
    #[arg(long, value_parser = batch)]
    batch: Option<(u32, f64)>,
    /// Cores of a database node; without them the knee is not known
    #[arg(long, value_parser = amount)]
    cores: Option<f64>,
    #[command(flatten)]
    source: Source,
    /// Database nodes that share the load
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: u32,
    /// How much more than its share a node gets because sessions stick to nodes: 0.2 is a fifth
    #[arg(long, default_value_t = 0.0, value_parser = amount)]
    affinity: f64,
    /// Application servers with a pool each; 1 is a central pooler
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    servers: u32,
    /// How many applications use the database
    #[arg(long, default_value_t = 1)]
    applications: u32,
    /// An application to budget and its share of the load, as web=0.7; for each of them
    #[arg(long = "app", value_parser = app)]
    apps: Vec<(String, f64)>,
    /// max_connections of a node
    #[arg(long)]
    max_connections: Option<u32>,
    /// Connections of a node that are not for these pools [default: 5, or a tenth if that is more]
    #[arg(long)]
    reserve: Option<u32>,
    /// The load to be ready for, as a multiple of the peak
    #[arg(long, default_value_t = 1.2, value_parser = amount)]
    growth: f64,
    /// The objective: the share --late of requests waits longer than this
    #[arg(long, default_value = "10ms", value_parser = time)]
    wait: f64,
    /// See --wait
    #[arg(long, default_value_t = 0.01, value_parser = amount)]
    late: f64,
    /// Clients give up after this
    #[arg(long, default_value = "1s", value_parser = time)]
    deadline: f64,
    /// Application servers may take this long to start
    #[arg(long, default_value = "10s", value_parser = time)]
    boot: f64,
    /// MiB that one connection takes on the server [default: as measured, or 5]
    #[arg(long, value_parser = amount)]
    memory_per_connection: Option<f64>,
    /// Price of one connection, in any unit
    #[arg(long, value_parser = amount)]
    cost_per_connection: Option<f64>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Form::Text)]
    output: Form,
    /// Formulas only, without the simulated part
    #[arg(long)]
    no_trials: bool,
    /// Draws other random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Toml,
    Json,
    /// One file with plots, for a browser
    Html,
}

/// Says how large a pool should be.
///
/// # Errors
/// What is wrong with the question.
pub(crate) fn size(load: &Load) -> Result<ExitCode, String> {
    let measured = load.source.measured(load.seed)?;
    let question = load.question(measured)?;
    let mut answer = advise(&question, !load.no_trials);
    answer.notes.push(score());
    match load.output {
        Form::Text => print!("{answer}"),
        Form::Toml => print!("{}", answer.to_toml()),
        Form::Json => println!("{}", json(&answer)?),
        Form::Html => print!("{}", page(&question, &answer)?),
    }
    Ok(if answer.shortfall.is_some() { ExitCode::from(NO_SIZE) } else { ExitCode::SUCCESS })
}

fn json(answer: &Answer) -> Result<String, String> {
    serde_json::to_string_pretty(answer).map_err(|error| error.to_string())
}

impl Load {
    fn question(&self, measured: Option<Measured>) -> Result<Question, String> {
        let facts = measured.as_ref().map(|measured| measured.facts.clone()).unwrap_or_default();
        let rate = match (self.rate, self.users, facts.rate) {
            (Some(rate), _, _) | (None, None, Some(rate)) => rate,
            (None, Some(users), _) => users / self.think.max(1e-3) * self.requests_per_page,
            (None, None, None) => return Err("--users or --rate is needed".to_owned()),
        };
        let limit = self.max_connections.or(facts.max_connections).map(|all| {
            let reserve = self.reserve.unwrap_or((all / 10).max(5));
            all.saturating_sub(reserve)
        });
        let sound = rate > 0.0 && rate <= 1e6 && self.growth >= 0.1 && (0.0..1.0).contains(&self.late);
        if !sound || limit == Some(0) || self.late == 0.0 || self.deadline == 0.0 {
            return Err("the rate lies above 0 and up to a million/s, --growth is 0.1 at least, --late between 0 and 1, --deadline above 0, and --max-connections leaves something".to_owned());
        }
        let usual = Question::about(rate);
        let login_work = facts.login_work.unwrap_or(usual.login_work);
        Ok(Question {
            hold: self.hold.unwrap_or(usual.hold),
            work_share: self.work_share.unwrap_or(usual.work_share),
            cores: self.cores.filter(|cores| *cores > 0.0),
            measured,
            hold_cv2: facts.hold_cv2.unwrap_or(usual.hold_cv2),
            login_work,
            login_latency: facts.login.map_or(usual.login_latency, |all| (all - login_work).max(0.0)),
            batch: self.batch.unwrap_or(usual.batch),
            growth: self.growth,
            objective: Objective { wait: self.wait, late: self.late },
            applications: self.applications.max(u32::try_from(self.apps.len()).unwrap_or(u32::MAX)),
            shares: self.apps.clone(),
            servers: self.servers,
            nodes: self.nodes,
            affinity: self.affinity,
            limit,
            boot: self.boot,
            deadline: self.deadline,
            memory: self.memory_per_connection.or(facts.memory).unwrap_or(usual.memory),
            cost: self.cost_per_connection,
            seed: self.seed,
            ..usual
        })
    }
}

pub(super) fn time(text: &str) -> Result<f64, String> {
    seconds(text)
}

pub(super) fn amount(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "a number, not below 0, is needed".to_owned())
}

/// A value, taken to be right within half of itself, or the two ends of an interval.
fn interval(text: &str, read: fn(&str) -> Result<f64, String>) -> Result<Bounded, String> {
    let bounded = match text.split_once("..") {
        Some((low, high)) => Bounded::between(read(low)?, read(high)?),
        None => Bounded::within(read(text)?, 1.5),
    };
    let sound = bounded.low > 0.0 && bounded.low <= bounded.high;
    if sound { Ok(bounded) } else { Err("from a smaller to a larger value, both above 0".to_owned()) }
}

fn times(text: &str) -> Result<Bounded, String> {
    interval(text, time)
}

fn shares(text: &str) -> Result<Bounded, String> {
    let share = interval(text, amount)?;
    if share.value > 1.0 {
        Err("a share is at most 1".to_owned())
    } else {
        Ok(Bounded { high: share.high.min(1.0), ..share })
    }
}

fn batch(text: &str) -> Result<(u32, f64), String> {
    let (jobs, holds) = text.split_once('x').ok_or("jobs x time, such as 4x20min")?;
    let jobs = jobs.parse().ok().filter(|jobs| *jobs <= 10_000).ok_or("jobs x time, such as 4x20min")?;
    Ok((jobs, time(holds)?))
}

fn app(text: &str) -> Result<(String, f64), String> {
    let (name, share) = text.split_once('=').ok_or("name=share, such as web=0.7")?;
    Ok((name.to_owned(), amount(share)?))
}
