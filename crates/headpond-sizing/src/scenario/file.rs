//! A scenario as people write it: TOML.

use std::time::Duration;

use headpond_core::PoolSettings;
use serde::Deserialize;

use super::{Amount, Application, Arrivals, Database, Event, EventKind, Objective, Scenario, Speed, Stalls};
use crate::time::{optional, required, seconds};

/// The most of what a file may ask for: more is a slip of the pen, and would take hours.
const MOST_SERVERS: u32 = 1000;
const MOST_CONNECTIONS: u32 = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(deserialize_with = "required")]
    duration: f64,
    #[serde(default, deserialize_with = "optional")]
    warm_up: Option<f64>,
    #[serde(default = "one_64")]
    seed: u64,
    #[serde(default = "one")]
    servers: u32,
    #[serde(default)]
    objective: ObjectiveTable,
    #[serde(default)]
    pool: PoolTable,
    database: DatabaseTable,
    #[serde(rename = "application")]
    applications: Vec<ApplicationTable>,
    #[serde(default, rename = "event")]
    events: Vec<EventTable>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ObjectiveTable {
    #[serde(default, deserialize_with = "optional")]
    wait: Option<f64>,
    late: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct PoolTable {
    max_size: Option<u32>,
    max_idle: Option<u32>,
    min_idle: Option<u32>,
    initial_size: Option<u32>,
    min_size: Option<u32>,
    max_waiters: Option<u32>,
    max_logins: Option<u32>,
    #[serde(default, deserialize_with = "optional")]
    idle_timeout: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    shrink_interval: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    acquire_timeout: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    max_lifetime: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    login_delay: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatabaseTable {
    #[serde(default = "one")]
    nodes: u32,
    cores: Option<f64>,
    curve: Option<Vec<(u32, f64)>>,
    #[serde(default, deserialize_with = "optional")]
    login_work: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    login_latency: Option<f64>,
    max_connections: Option<u32>,
    stalls: Option<StallsTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StallsTable {
    rate: f64,
    #[serde(deserialize_with = "required")]
    mean: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplicationTable {
    name: String,
    rate: Option<f64>,
    #[serde(default)]
    profile: Vec<(String, f64)>,
    dispersion: Option<f64>,
    clients: Option<u32>,
    #[serde(default, deserialize_with = "optional")]
    pause: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    work: Option<f64>,
    work_cv2: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    think: Option<f64>,
    think_cv2: Option<f64>,
    #[serde(default = "one")]
    statements: u32,
    #[serde(default, deserialize_with = "optional")]
    timeout: Option<f64>,
    #[serde(default)]
    retries: u32,
    #[serde(default, deserialize_with = "optional")]
    backoff: Option<f64>,
    #[serde(default = "one")]
    weight: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventTable {
    kind: Kind,
    #[serde(deserialize_with = "required")]
    at: f64,
    #[serde(default, rename = "for", deserialize_with = "optional")]
    lasts: Option<f64>,
    factor: Option<f64>,
    node: Option<u32>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Spike,
    Stall,
    NodeLoss,
    FleetRestart,
}

fn one() -> u32 {
    1
}

fn one_64() -> u64 {
    1
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// What is wrong, where, and what would be right.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let database = file.database.read()?;
        let scenario = Self {
            duration: file.duration,
            warm_up: file.warm_up.unwrap_or(0.1 * file.duration),
            seed: file.seed,
            servers: file.servers,
            pool: file.pool.read()?,
            applications: file.applications.iter().map(ApplicationTable::read).collect::<Result<_, _>>()?,
            events: file.events.iter().map(|event| event.read(&database)).collect::<Result<_, _>>()?,
            database,
            objective: Objective {
                wait: file.objective.wait.unwrap_or(Objective::USUAL.wait),
                late: file.objective.late.unwrap_or(Objective::USUAL.late),
            },
        };
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        demand(self.duration > 0.0 && self.duration <= 31.0 * 86_400.0, "duration: between 0 and 31d")?;
        demand(self.warm_up < self.duration, "warm_up: less than duration")?;
        demand((1..=MOST_SERVERS).contains(&self.servers), "servers: 1 to 1000")?;
        demand(!self.applications.is_empty(), "application: at least one")?;
        demand(share(self.objective.late), "objective.late: a share between 0 and 1, such as 0.01")
    }
}

impl PoolTable {
    /// Sizes that are not stated follow those that are, as in the configuration of `headpond serve`.
    fn read(&self) -> Result<PoolSettings, String> {
        let usual = PoolSettings::named();
        let max_size = self.max_size.unwrap_or(usual.max_size);
        let min_idle = self.min_idle.unwrap_or(usual.min_idle.min(max_size));
        let initial_size = self.initial_size.unwrap_or(min_idle);
        let time = |given: Option<f64>, usual: Duration| given.map_or(usual, Duration::from_secs_f64);
        let settings = PoolSettings {
            max_size,
            max_idle: self.max_idle.unwrap_or(usual.max_idle.min(max_size)),
            min_idle,
            initial_size,
            min_size: self.min_size.unwrap_or(initial_size),
            max_waiters: self.max_waiters.unwrap_or(usual.max_waiters),
            max_logins: self.max_logins.unwrap_or(usual.max_logins),
            idle_timeout: time(self.idle_timeout, usual.idle_timeout),
            shrink_interval: time(self.shrink_interval, usual.shrink_interval),
            acquire_timeout: time(self.acquire_timeout, usual.acquire_timeout),
            max_lifetime: time(self.max_lifetime, usual.max_lifetime),
            login_delay: time(self.login_delay, usual.login_delay),
            ..usual
        };
        let fits = |size: u32| size <= settings.max_size;
        demand((1..=MOST_CONNECTIONS).contains(&settings.max_size), "pool.max_size: 1 to 100000")?;
        demand(settings.max_logins > 0, "pool.max_logins: at least 1")?;
        let floors = [settings.min_idle, settings.initial_size, settings.min_size, settings.max_idle];
        demand(floors.into_iter().all(fits), "pool: no size may be more than max_size")?;
        Ok(settings)
    }
}

impl DatabaseTable {
    fn read(&self) -> Result<Database, String> {
        let speed = match (&self.cores, &self.curve) {
            (Some(cores), None) => Speed::Cores(*cores),
            (None, Some(points)) => Speed::Curve(points.clone()),
            _ => return Err("database: cores, or a measured curve; one of the two".to_owned()),
        };
        demand((1..=64).contains(&self.nodes), "database.nodes: 1 to 64")?;
        speed.check()?;
        let usual = Database::with_cores(1.0);
        let stalls = self.stalls.as_ref().map(|stalls| Stalls { rate: stalls.rate, mean: stalls.mean });
        demand(
            stalls.is_none_or(|s| amount(s.rate) && s.rate * s.mean < 0.9),
            "database.stalls: rate x mean is the share of time lost, less than 0.9",
        )?;
        Ok(Database {
            nodes: self.nodes,
            speed,
            login_work: self.login_work.unwrap_or(usual.login_work),
            login_latency: self.login_latency.unwrap_or(usual.login_latency),
            round_trip: usual.round_trip,
            max_connections: self.max_connections,
            stalls,
        })
    }
}

impl Speed {
    /// # Errors
    /// A speed that makes no sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::Cores(cores) => demand(amount(*cores) && *cores > 0.0, "cores: more than 0"),
            Self::Curve(points) => {
                let rising = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
                let sound = points.iter().all(|(level, rate)| *level > 0 && amount(*rate) && *rate > 0.0);
                demand(
                    rising && sound && !points.is_empty(),
                    "curve: pairs [statements running, completions per second], in rising order of the first, all more than 0",
                )
            }
        }
    }
}

impl ApplicationTable {
    fn read(&self) -> Result<Application, String> {
        let about = |what: &str| format!("application {}: {what}", self.name);
        let arrivals = match (self.rate, self.clients) {
            (Some(rate), None) => {
                Arrivals::Open { rate, profile: self.profile()?, dispersion: self.dispersion.unwrap_or(1.0) }
            }
            (None, Some(clients)) => Arrivals::Closed { clients, pause: self.pause.unwrap_or(0.0) },
            _ => {
                return Err(about(
                    "rate (requests per second), or clients (and their pause); one of the two",
                ));
            }
        };
        let sound = match &arrivals {
            Arrivals::Open { rate, dispersion, .. } => {
                amount(*rate) && *rate <= 1e7 && (1.0..=1000.0).contains(dispersion)
            }
            Arrivals::Closed { clients, .. } => *clients <= 1_000_000,
            Arrivals::Trace(_) => true,
        };
        demand(sound, &about("rate up to 1e7, dispersion 1 to 1000, clients up to 1000000"))?;
        let (work, think) = (self.work.unwrap_or(0.0), self.think.unwrap_or(0.0));
        demand(work + think > 0.0, &about("work or think: how long a connection is held"))?;
        let cv2 = |given: Option<f64>| given.unwrap_or(1.0);
        demand(
            [cv2(self.work_cv2), cv2(self.think_cv2)].into_iter().all(|v| (0.0..=1000.0).contains(&v)),
            &about("work_cv2 and think_cv2: 0 (always the same) to 1000; 1 is exponential"),
        )?;
        demand((1..=1000).contains(&self.statements), &about("statements: 1 to 1000"))?;
        demand(self.timeout != Some(0.0), &about("timeout: more than 0"))?;
        Ok(Application {
            name: self.name.clone(),
            arrivals,
            work: Amount { mean: work, cv2: cv2(self.work_cv2) },
            think: Amount { mean: think, cv2: cv2(self.think_cv2) },
            statements: self.statements,
            timeout: self.timeout,
            retries: self.retries,
            backoff: self.backoff.unwrap_or(0.1),
            weight: self.weight,
        })
    }

    fn profile(&self) -> Result<Vec<(f64, f64)>, String> {
        let about = |what: &str| format!("application {}: profile: {what}", self.name);
        let step = |(at, factor): &(String, f64)| Ok((seconds(at).map_err(|e| about(&e))?, *factor));
        let profile: Vec<(f64, f64)> = self.profile.iter().map(step).collect::<Result<_, String>>()?;
        let rising = profile.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let sound = profile.iter().all(|(_, factor)| amount(*factor));
        demand(rising && sound, &about("pairs [time, factor of the rate], in rising order of time"))?;
        Ok(profile)
    }
}

impl EventTable {
    fn read(&self, database: &Database) -> Result<Event, String> {
        let node = self.node.unwrap_or(0);
        demand(node < database.nodes, "event.node: the database has no such node (they count from 0)")?;
        let kind = match self.kind {
            Kind::Spike => EventKind::Spike(self.factor.ok_or("event spike: factor is missing")?),
            Kind::Stall => EventKind::Stall(node),
            Kind::NodeLoss => EventKind::NodeLoss(node),
            Kind::FleetRestart => EventKind::FleetRestart,
        };
        demand(
            matches!(kind, EventKind::Spike(_)) == self.factor.is_some() && self.factor.is_none_or(amount),
            "event.factor: of a spike, and of nothing else",
        )?;
        demand(
            (kind == EventKind::FleetRestart) == self.lasts.is_none(),
            "event.for: how long it lasts; of everything but a fleet_restart",
        )?;
        Ok(Event { at: self.at, lasts: self.lasts.unwrap_or(0.0), kind })
    }
}

fn demand(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn amount(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

fn share(value: f64) -> bool {
    value > 0.0 && value < 1.0
}
