//! Where `headpond size` has its measurement from: a file, a load experiment, a pooler that runs.

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headpond_measure::{Mysql, Options, Postgres, Progress, Script, Target, experiment, watch};
use headpond_sizing::climb::ladder;
use headpond_sizing::measured::Measured;
use headpond_sizing::passive::learn;
use headpond_sizing::time::text;
use indicatif::{ProgressBar, ProgressStyle};

use super::size::{amount, time};

/// The API's `http_secret` comes from here: arguments are seen by everybody on the machine.
const SECRET: &str = "HEADPOND_HTTP_SECRET";

/// Looks at a pooler that runs, in the time there is for them: enough to notice drift.
const LOOKS: u32 = 25;

/// A measurement, one way or another.
#[derive(clap::Args)]
pub(super) struct Source {
    /// What was measured of a node, in place of --hold and --work-share: TOML, see docs/sizing.md
    #[arg(long, conflicts_with_all = ["url", "from"])]
    measured: Option<PathBuf>,
    /// Measure this node by a guarded load: postgres://… or mysql://… (MariaDB)
    #[arg(long, conflicts_with = "from")]
    url: Option<String>,
    /// What the load consists of: a transaction in each line, see docs/sizing.md
    #[arg(long, requires = "url")]
    statements: Option<PathBuf>,
    /// Connections to measure with, as 1,2,4,8 [default: up to 64]
    #[arg(long, value_delimiter = ',', requires = "url", value_parser = clap::value_parser!(u32).range(1..=4096))]
    levels: Option<Vec<u32>>,
    /// How long each level is measured, each time
    #[arg(long, default_value_t = 2.0, requires = "url", value_parser = amount)]
    seconds: f64,
    /// How often each level is measured
    #[arg(long, default_value_t = 3, requires = "url", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The share of the free connections that may be taken
    #[arg(long, default_value_t = 0.5, requires = "url", value_parser = amount)]
    share: f64,
    /// Climb no further where 1 % of the transactions take longer
    #[arg(long, default_value = "1s", requires = "url", value_parser = time)]
    longest: f64,
    /// The statements may write
    #[arg(long, requires = "url")]
    writes: bool,
    /// Watch a pooler that runs (http://HOST:PORT), or read looks that were saved from its /api/v1/snapshot
    #[arg(long)]
    from: Option<String>,
    /// How long to watch it
    #[arg(long = "for", default_value = "60s", requires = "from", value_parser = time)]
    watch_for: f64,
    /// The data source that is meant, if the pooler has several [default: the busiest]
    #[arg(long, requires = "from")]
    data_source: Option<String>,
    /// Keep what was measured, for --measured
    #[arg(long)]
    save: Option<PathBuf>,
}

impl Source {
    /// What was measured, if anything was asked for.
    ///
    /// # Errors
    /// Why nothing could be measured.
    pub(super) fn measured(&self, seed: u64) -> Result<Option<Measured>, String> {
        let measured = if let Some(file) = &self.measured {
            read(file, Measured::from_toml)?
        } else if let Some(url) = &self.url {
            runtime()?.block_on(self.measure(url, seed))?
        } else if let Some(from) = &self.from {
            self.learn(from)?
        } else {
            return Ok(None);
        };
        if let Some(file) = &self.save {
            let wrong = |error| format!("{}: {error}", file.display());
            fs::write(file, measured.to_toml()).map_err(wrong)?;
            eprintln!("what was measured is in {}", file.display());
        }
        Ok(Some(measured))
    }

    async fn measure(&self, url: &str, seed: u64) -> Result<Measured, String> {
        let script = self.statements.as_deref().map(|file| read(file, Script::parse)).transpose()?;
        let options = self.options(seed)?;
        // Errors of the parsers may quote the URL, password and all.
        if url.starts_with("mysql://") || url.starts_with("mariadb://") {
            let url = url.replacen("mariadb://", "mysql://", 1);
            let opts = mysql_async::Opts::from_url(&url);
            let opts = opts.map_err(|_| "--url is not mysql://user:password@host:port/database")?;
            run(&Mysql::new(opts, self.writes), script, &options).await
        } else {
            let config = url.parse::<tokio_postgres::Config>();
            let config = config.map_err(|_| "--url is not postgres://user:password@host:port/database")?;
            run(&Postgres::new(config, self.writes), script, &options).await
        }
    }

    fn options(&self, seed: u64) -> Result<Options, String> {
        let rising = self.levels.as_ref().is_none_or(|all| all.windows(2).all(|pair| pair[0] < pair[1]));
        if !rising || !(0.01..=3600.0).contains(&self.seconds) || !(0.0..=1.0).contains(&self.share) {
            return Err("--levels rise, --seconds are 0.01 to 3600, --share 0 to 1".to_owned());
        }
        Ok(Options {
            levels: self.levels.clone(),
            rounds: self.rounds,
            look: Duration::from_secs_f64(self.seconds),
            share: self.share,
            longest: self.longest,
            random: true,
            seed,
        })
    }

    /// What counters tell.
    fn learn(&self, from: &str) -> Result<Measured, String> {
        let looks = if from.starts_with("http://") {
            runtime()?.block_on(watched(from, self.watch_for))?
        } else {
            read(Path::new(from), watch::saved)?
        };
        let (name, counters) = watch::counters(&looks, self.data_source.as_deref())?;
        let mut measured = learn(&counters).map_err(|error| format!("pool {name}: {error}"))?;
        let about = measured.facts.about.take().unwrap_or_default();
        measured.facts.about = Some(format!("pool {name}: {about}"));
        Ok(measured)
    }
}

/// Looks at a pooler again and again, for so many seconds.
async fn watched(url: &str, seconds: f64) -> Result<Vec<serde_json::Value>, String> {
    let secret = std::env::var(SECRET).ok();
    let bar = bar(u64::from(LOOKS), "looking at counters");
    let mut looks = vec![watch::fetch(url, secret.as_deref()).await?];
    let mut tick = tokio::time::interval(Duration::from_secs_f64((seconds / f64::from(LOOKS)).max(0.01)));
    tick.tick().await;
    for look in 1..=LOOKS {
        let left = Duration::from_secs_f64(seconds / f64::from(LOOKS) * f64::from(LOOKS - look + 1));
        bar.set_message(format!("{} left", text(left.as_secs_f64())));
        tokio::select! {
            _ = tick.tick() => looks.push(watch::fetch(url, secret.as_deref()).await?),
            _ = tokio::signal::ctrl_c() => break,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(looks)
}

async fn run<T: Target>(target: &T, script: Option<Script>, options: &Options) -> Result<Measured, String> {
    let levels = options.levels.clone().unwrap_or_else(|| ladder(64)).len();
    let bar = bar(levels as u64 * u64::from(options.rounds), "logging in");
    let show = |progress: &Progress| {
        let Progress { done, left, time_left, level, last } = progress;
        let last = last.map(|(level, rate)| format!("; {level}: {rate:.0}/s")).unwrap_or_default();
        bar.set_length((done + left) as u64);
        bar.set_position(*done as u64);
        bar.set_message(format!("{level} connections; {} left{last}", text(time_left.as_secs_f64())));
    };
    let measured = experiment(target, script, options, show, interrupted()).await;
    bar.finish_and_clear();
    measured
}

/// Ready once somebody wants it to stop; who insists is obeyed at once.
async fn interrupted() {
    let _ = tokio::signal::ctrl_c().await;
    eprintln!("stopping; what was measured is told. Once more: at once");
    tokio::spawn(async {
        let _ = tokio::signal::ctrl_c().await;
        std::process::exit(130);
    });
}

/// A bar where somebody sees it.
fn bar(length: u64, message: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length).with_message(message);
    match ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn read<R>(file: &Path, parse: impl FnOnce(&str) -> Result<R, String>) -> Result<R, String> {
    let about = |error: String| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(|error| about(error.to_string()))?;
    parse(&text).map_err(about)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().map_err(|error| error.to_string())
}
