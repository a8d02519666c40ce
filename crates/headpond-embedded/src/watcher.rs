//! The small shells that end the server and remove its folder when this process is gone, however it went.
//!
//! Each reads a pipe whose only write end is ours: the kernel closes it when we die, even by SIGKILL. Linux's
//! parent-death signal would not do, for it is bound to one thread and lost with the change of user. Both run in a
//! process group of their own, so that an interrupt typed on the terminal reaches only us.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Runs the command in its arguments and ends with it. Each line of the pipe names a signal to pass on; its end means
/// an immediate stop, and death for a server that has not obeyed in 10 s.
const WATCH: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
{
    while read -r signal; do kill -s "$signal" $server; done <&3
    kill -s QUIT $server
    tries=0
    while [ $((tries += 1)) -le 100 ]; do sleep .1; done
    kill -s KILL $server
} &
relay=$!
wait $server
status=$?
kill $relay
exit $status
"#;

/// Removes the folder `$0` at the end of the pipe. A server that is just ending may still write to it: hence the tries.
const GUARD: &str = r#"
cat >/dev/null
tries=0
until rm -rf "$0" || [ $((tries += 1)) -ge 200 ]; do sleep .1; done
"#;

/// How often a process is looked at while waiting.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// A server process under watch.
#[derive(Debug)]
pub(crate) struct Watcher(Child);

impl Watcher {
    /// Starts `server`, whose output, user and environment are set on `shell`, a bare `sh`.
    pub(crate) fn start(mut shell: Command, server: &Command) -> io::Result<Self> {
        shell.args(["-c", WATCH, "headpond-watch"]).arg(server.get_program()).args(server.get_args());
        shell.stdin(Stdio::piped()).process_group(0).spawn().map(Self)
    }

    /// Sends a signal, named as for kill(1). One that has ended is past signals.
    pub(crate) fn send(&mut self, signal: &str) {
        if let Some(pipe) = &mut self.0.stdin {
            // Fails only for one that has ended.
            let _ = writeln!(pipe, "{signal}");
        }
    }

    /// How the server ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// Waits for the server's end, at most for `limit`: true when it came.
    pub(crate) fn wait(&mut self, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        while self.ended()?.is_none() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(POLL);
        }
        Ok(true)
    }
}

impl Drop for Watcher {
    /// Stops the server at once and waits for its end.
    fn drop(&mut self) {
        let _ = self.0.wait(); // It closes the pipe first.
    }
}

/// Removes a folder when dropped, or when this process dies.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", GUARD]).arg(folder).current_dir("/");
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map(Self)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.wait(); // It closes the pipe first.
    }
}
