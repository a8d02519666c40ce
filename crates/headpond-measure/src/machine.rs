//! Who works on this machine, from Linux's `/proc`; elsewhere nothing is known.

use std::fs;
use std::path::Path;
use std::time::Instant;

/// CPU time of some processes and of the whole machine, in seconds, at one moment.
#[derive(Clone, Debug)]
pub struct Cpu {
    at: Instant,
    /// Seconds of one core, whoever used it.
    busy: f64,
    /// What the hypervisor took away. Whoever ran is charged for it, so `ours` and `server` have it too.
    stolen: f64,
    ours: f64,
    server: f64,
}

/// Shares of the machine between two moments.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Of this process.
    pub ours: f64,
    /// Neither ours nor the server's: other processes', or taken away by the hypervisor.
    pub foreign: f64,
}

impl Cpu {
    /// Now, with the processes of the server: the first of them is the parent that inherits the time of those that end.
    #[must_use]
    pub fn now(server: &[u32]) -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let fields: Vec<f64> = numbers(stat.lines().next()?.strip_prefix("cpu ")?);
        // user nice system idle iowait irq softirq steal: proc(5)
        let busy = fields.first()? + fields.get(1)? + fields.get(2)? + fields.get(5)? + fields.get(6)?;
        let inherited = server.first().map_or(0.0, |parent| ended(*parent));
        Some(Self {
            at: Instant::now(),
            busy: busy / ticks(),
            stolen: fields.get(7)? / ticks(),
            ours: used(std::process::id()),
            server: server.iter().map(|pid| used(*pid)).sum::<f64>() + inherited,
        })
    }

    /// Since an earlier moment.
    #[must_use]
    pub fn since(&self, before: &Self) -> Shares {
        let machine = cores() * self.at.duration_since(before.at).as_secs_f64().max(1e-3);
        let ours = self.ours - before.ours;
        let others = (self.busy - before.busy) - ours - (self.server - before.server);
        let foreign = others.max(0.0) + (self.stolen - before.stolen);
        Shares { ours: (ours / machine).clamp(0.0, 1.0), foreign: (foreign / machine).clamp(0.0, 1.0) }
    }

    /// Seconds of one core that the server worked since an earlier moment.
    pub(crate) fn server_since(&self, before: &Self) -> f64 {
        self.server - before.server
    }
}

pub(crate) fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// A process and its children.
#[must_use]
pub fn family(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let child = |pid: &u32| stat(*pid).is_some_and(|(_, fields)| field(&fields, 4) == f64::from(parent));
    std::iter::once(parent).chain(pids.filter(child)).collect()
}

/// The parent of a process, if that is on this machine and has this name: elsewhere its number means another one, or
/// none.
pub(crate) fn parent(pid: u32, name: &str) -> Option<u32> {
    let (comm, fields) = stat(pid)?;
    (comm == name).then(|| fields.get(1).map(|parent| *parent as u32)).flatten()
}

/// The process whose number a server wrote into a file, relative to its folder.
pub(crate) fn written(folder: &str, file: &str) -> Option<u32> {
    let pid = fs::read_to_string(Path::new(folder).join(file)).ok()?.trim().parse().ok()?;
    let (name, _) = stat(pid)?;
    ["mariadbd", "mysqld"].contains(&name.as_str()).then_some(pid)
}

/// MiB that a process has for itself alone; only its owner may know.
pub(crate) fn private_memory(pid: u32) -> Option<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    let sizes = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    Some(sizes.sum::<f64>() / 1024.0)
}

/// The name of a process, and the fields of `/proc/PID/stat` from the third on: proc(5).
fn stat(pid: u32) -> Option<(String, Vec<f64>)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, rest) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    // The state is a letter; a number in its place keeps the others where they are.
    let fields = rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    Some((name, fields))
}

fn used(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |(_, fields)| (field(&fields, 14) + field(&fields, 15)) / ticks())
}

/// What the children of a process used that have ended.
fn ended(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |(_, fields)| (field(&fields, 16) + field(&fields, 17)) / ticks())
}

fn field(fields: &[f64], number: usize) -> f64 {
    fields.get(number - 3).copied().unwrap_or(0.0)
}

fn ticks() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_name_and_another_ones_number_is_not_taken_for_it() {
        let own = std::process::id();
        let (name, _) = stat(own).unwrap();
        assert!(parent(own, &name).is_some_and(|parent| parent > 0));
        assert_eq!(parent(own, "postgres"), None);
        assert!(private_memory(own).is_some_and(|mib| mib > 0.1));
        assert_eq!(written("/", "/proc/self/comm"), None);
    }

    #[test]
    fn shares_of_the_machine_are_those_of_ours_the_server_and_others() {
        let moment = |at, busy, stolen, ours, server| Cpu { at, busy, stolen, ours, server };
        let begin = Instant::now();
        let before = moment(begin, 100.0, 3.0, 5.0, 7.0);
        let elapsed = std::time::Duration::from_secs(10);
        let machine = 10.0 * cores();
        let share = |of: f64| of * machine;
        let after = moment(begin + elapsed, 100.0 + machine, 3.0, 5.0 + share(0.2), 7.0 + share(0.5));
        let shares = after.since(&before);
        assert!((shares.ours - 0.2).abs() < 1e-9 && (shares.foreign - 0.3).abs() < 1e-9);
        // The server is charged for what was taken away while it ran.
        let robbed = Cpu { stolen: 3.0 + share(0.1), server: 7.0 + share(0.9), ..after };
        assert!((robbed.since(&before).foreign - 0.1).abs() < 1e-9);
    }
}
