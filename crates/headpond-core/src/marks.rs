//! High-water marks over four windows, and how long how many connections were in use.

use std::time::Duration;

use crate::Tick;

/// Largest values of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Connections in use at once.
    pub in_use: u32,
    /// Waiters at once.
    pub waiting: u32,
    /// Connections in any state at once.
    pub open: u32,
    /// The longest wait that ended, in nanoseconds.
    pub wait: u64,
}

impl Marks {
    fn merge(&mut self, other: Self) {
        self.in_use = self.in_use.max(other.in_use);
        self.waiting = self.waiting.max(other.waiting);
        self.open = self.open.max(other.open);
        self.wait = self.wait.max(other.wait);
    }

    /// The same moment without a past: what is now, no wait.
    fn present(self) -> Self {
        Self { wait: 0, ..self }
    }
}

/// The marks of all four windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Since the pool was made.
    pub start: Marks,
    /// Since the marks were last reset.
    pub reset: Marks,
    /// The last full hour; before the first has passed, what there is of it.
    pub hour: Marks,
    /// The last full day; before the first has passed, what there is of it.
    pub day: Marks,
}

const HOUR: Duration = Duration::from_secs(3600);
const HOURS_A_DAY: u32 = 24;

/// Keeps the marks of a pool, and the time spent at each level.
#[derive(Debug)]
pub(crate) struct Gauge {
    begun: bool,
    history: History,
    /// Nanoseconds for which so many connections were in use, by their number.
    levels: Vec<u64>,
    level_since: Tick,
}

/// Values are noted into the running hour only, and passed on when somebody looks.
#[derive(Clone, Copy, Debug)]
struct History {
    /// What is true now.
    now: Marks,
    running: Marks,
    /// The running hour's marks that were passed on already.
    hour: Marks,
    day: Marks,
    hour_ends: Tick,
    hours: u32,
    seen: Windows,
    full_hour: bool,
    full_day: bool,
}

impl Gauge {
    pub(crate) fn new() -> Self {
        let history = History {
            now: Marks::default(),
            running: Marks::default(),
            hour: Marks::default(),
            day: Marks::default(),
            hour_ends: Tick(0).plus(HOUR),
            hours: 0,
            seen: Windows::default(),
            full_hour: false,
            full_day: false,
        };
        Self { begun: false, history, levels: Vec::new(), level_since: Tick(0) }
    }

    /// Hours and levels count from now on, unless they do already.
    pub(crate) fn begin(&mut self, now: Tick) {
        if !std::mem::replace(&mut self.begun, true) {
            self.history.hour_ends = now.plus(HOUR);
            self.level_since = now;
        }
    }

    /// The numbers of now.
    #[inline]
    pub(crate) fn note(&mut self, now: Tick, in_use: u32, waiting: u32, open: u32) {
        if in_use != self.history.now.in_use {
            self.count_level(now);
        }
        self.history.note(now, in_use, waiting, open);
    }

    /// Fewer wait than before, and nothing else has changed: no mark is passed by it.
    #[inline]
    pub(crate) fn note_fewer_waiting(&mut self, now: Tick, waiting: u32) {
        if now >= self.history.hour_ends {
            self.history.turn_hours(now);
        }
        self.history.now.waiting = waiting;
    }

    /// A wait ended after so many nanoseconds.
    pub(crate) fn note_wait(&mut self, waited: u64) {
        self.history.running.wait = self.history.running.wait.max(waited);
    }

    /// All four windows.
    pub(crate) fn windows(&self, now: Tick) -> Windows {
        self.history.windows(now)
    }

    /// Starts the window "since the last reset" anew.
    pub(crate) fn reset(&mut self) {
        self.history.pass_on();
        self.history.seen.reset = self.history.now.present();
    }

    /// Nanoseconds for which so many connections were in use, by their number, up to `now`.
    pub(crate) fn levels(&self, now: Tick) -> Vec<u64> {
        let mut levels = self.levels.clone();
        add_level(&mut levels, self.history.now.in_use, now.0.saturating_sub(self.level_since.0));
        levels
    }

    fn count_level(&mut self, now: Tick) {
        let time = now.0.saturating_sub(self.level_since.0);
        if !planted!(LevelsOverlap) {
            self.level_since = now;
        }
        add_level(&mut self.levels, self.history.now.in_use, time);
    }
}

impl History {
    #[inline]
    fn note(&mut self, now: Tick, in_use: u32, waiting: u32, open: u32) {
        if now >= self.hour_ends {
            self.turn_hours(now);
        }
        self.now = Marks { in_use, waiting, open, wait: 0 };
        self.running.merge(self.now);
    }

    fn windows(mut self, now: Tick) -> Windows {
        if now >= self.hour_ends {
            self.turn_hours(now);
        }
        self.pass_on();
        if !self.full_hour {
            self.seen.hour = self.hour;
        }
        if !self.full_day {
            self.seen.day = self.day;
            self.seen.day.merge(self.hour);
        }
        self.seen
    }

    fn pass_on(&mut self) {
        let running = std::mem::replace(&mut self.running, self.now.present());
        self.seen.start.merge(running);
        self.seen.reset.merge(running);
        self.hour.merge(running);
    }

    /// One or more hours are over. In those after the first nothing happened.
    fn turn_hours(&mut self, now: Tick) {
        self.pass_on();
        let later = u32::try_from(now.since(self.hour_ends).as_secs() / HOUR.as_secs()).unwrap_or(u32::MAX);
        let quiet = self.now.present();
        self.day.merge(self.hour);
        self.seen.hour = if later == 0 { self.hour } else { quiet };
        self.full_hour = true;
        self.hour = quiet;
        self.hour_ends = self.hour_ends.plus(HOUR.saturating_mul(later.saturating_add(1)));
        self.hours = self.hours.saturating_add(later).saturating_add(1);
        if self.hours >= HOURS_A_DAY {
            self.seen.day = if self.hours < 2 * HOURS_A_DAY { self.day } else { quiet };
            self.full_day = true;
            self.day = quiet;
            self.hours %= HOURS_A_DAY;
        }
    }
}

fn add_level(levels: &mut Vec<u64>, level: u32, time: u64) {
    let level = level as usize;
    if levels.len() <= level {
        levels.resize(level + 1, 0);
    }
    levels[level] += time;
}
