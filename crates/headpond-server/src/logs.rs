//! Log lines on standard error: text on a terminal, JSON otherwise.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{Layer, Registry, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogFormat, LogLevel};

/// Starts logging for the whole process.
///
/// # Errors
/// It has been started before.
pub fn start(level: LogLevel, format: LogFormat) -> Result<(), TryInitError> {
    let terminal = io::stderr().is_terminal();
    let text = match format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(terminal);
    let lines: Box<dyn Layer<Registry> + Send + Sync> =
        if text { lines.with_target(false).boxed() } else { lines.json().flatten_event(true).boxed() };
    tracing_subscriber::registry().with(lines.with_filter(filter(level))).try_init()
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}
