//! Secrets that do not stand in the configuration: they come from a file, the environment, or a command.
//!
//! User and password come as one pair, so a rotation never leaves an old name with a new password.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use headpond_pooler::config::Secret;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::entries::{self, LARGEST};

/// How long a command may take.
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// How often it is looked whether one that has said all has ended.
const GLANCE: Duration = Duration::from_millis(5);

/// What is right, for whoever wrote something else.
pub(super) const RIGHT: &str = "\"file:PATH\", \"env:NAME\" or \"command:COMMAND LINE\"";

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    File(PathBuf),
    Env(String),
    /// For the shell.
    Command(String),
}

impl Source {
    /// What a setting says; `None`: it is no source.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            _ if rest.is_empty() => None,
            "file" => Some(Self::File(rest.into())),
            "env" => Some(Self::Env(rest.to_owned())),
            "command" => Some(Self::Command(rest.to_owned())),
            _ => None,
        }
    }

    /// What it says now. The error names no secret, nor what a command said.
    pub(super) fn read(&self, folder: &Path) -> Result<String, String> {
        match self {
            Self::File(path) => {
                let path = folder.join(path);
                entries::read(&path).map_err(|why| format!("{} {why}", path.display()))
            }
            Self::Env(name) => {
                std::env::var(name).map_err(|_| format!("{name} is not in the environment, or no text"))
            }
            Self::Command(line) => output_of(line, COMMAND_TIME),
        }
    }
}

/// What a command writes, if it succeeds in time. It has so long for all of it: what it says, and its end.
fn output_of(line: &str, limit: Duration) -> Result<String, String> {
    let until = Instant::now() + limit;
    let mut command = Command::new("sh");
    command.arg("-c").arg(line).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A group of its own, so that what it started can be ended with it.
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| format!("the command cannot be run: {error}"))?;
    let Some(stdout) = child.stdout.take() else { return Err(end(child, "the command cannot be heard")) };
    let (heard, hears) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(LARGEST + 1).read_to_end(&mut bytes);
        // Whoever asked may have given up.
        let _ = heard.send(read.map(|_| bytes));
    });
    let late = || format!("the command took longer than {} s", limit.as_secs());
    let bytes = match hears.recv_timeout(limit) {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(end(child, &format!("the command cannot be heard: {error}"))),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(end(child, &late())),
    };
    if bytes.len() as u64 > LARGEST {
        return Err(end(child, "the command says too much"));
    }
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => {
                return String::from_utf8(bytes)
                    .map_err(|_| "the command says what is not UTF-8 text".into());
            }
            Ok(Some(status)) => return Err(format!("the command failed: {status}")),
            Ok(None) if Instant::now() >= until => return Err(end(child, &late())),
            Ok(None) => thread::sleep(GLANCE),
            Err(error) => return Err(end(child, &format!("the command failed: {error}"))),
        }
    }
}

/// Ends a command that has not been waited for, with all it has started.
fn end(mut child: Child, why: &str) -> String {
    if let Ok(group) = child.id().try_into() {
        // It may have ended by itself.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.wait();
    why.to_owned()
}

/// A password, and perhaps whose it is: one line, or the user and then the password.
pub(super) fn pair(text: &str) -> Result<(Option<String>, Secret), &'static str> {
    let lines: Vec<_> = text.lines().collect();
    let text = |line: &str| (!line.is_empty() && !line.contains('\0')).then(|| line.to_owned());
    let pair = match lines.as_slice() {
        [password] => text(password).map(|password| (None, Secret(password))),
        [user, password] => {
            text(user).zip(text(password)).map(|(user, password)| (Some(user), Secret(password)))
        }
        _ => None,
    };
    pair.ok_or("neither a password nor a user and a password on two lines")
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt as _;

    use super::*;

    fn read(source: &str, folder: &Path) -> Result<String, String> {
        Source::parse(source).expect("a source").read(folder)
    }

    #[test]
    fn secrets_come_from_files_the_environment_and_commands() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), "ann\nsecret\n").unwrap();
        assert_eq!(read("file:pw", folder.path()).as_deref(), Ok("ann\nsecret\n"));
        assert!(read("file:none", folder.path()).unwrap_err().contains("cannot be read"));
        assert_eq!(read("env:PATH", folder.path()).ok(), std::env::var("PATH").ok());
        assert_eq!(
            read("env:HEADPOND_NO_SUCH_THING", folder.path()).unwrap_err(),
            "HEADPOND_NO_SUCH_THING is not in the environment, or no text"
        );
        assert_eq!(read("command:printf 'a b'; exit 0", folder.path()).as_deref(), Ok("a b"));
        // What a command says when it fails is not repeated.
        let failed = read("command:echo secret; echo secret >&2; exit 3", folder.path()).unwrap_err();
        assert!(failed.contains("exit status: 3") && !failed.contains("secret"), "{failed}");
        for none in ["", "secret", "file:", "vault:x", "env"] {
            assert_eq!(Source::parse(none), None, "{none}");
        }
    }

    /// One that never ends, in each way, and whoever it has started with it.
    #[test]
    fn a_command_that_does_not_end_in_time_is_ended_with_all_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // Whoever can write to the pipe is alive.
        let mut alive =
            OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe).unwrap();
        for way in ["sleep 1000", "echo secret; exec >&-; sleep 1000", "sleep 1000 & echo secret"] {
            let line = format!("exec 3>{}; {way}", pipe.display());
            let outcome = output_of(&line, Duration::from_millis(300));
            assert_eq!(outcome, Err("the command took longer than 0 s".to_owned()), "{way}");
            let until = Instant::now() + COMMAND_TIME;
            while alive.read(&mut [0]).is_err() {
                assert!(Instant::now() < until, "something is still there: {way}");
                thread::sleep(GLANCE);
            }
        }
    }

    #[test]
    fn a_password_comes_alone_or_with_its_user() {
        assert_eq!(pair("secret"), Ok((None, Secret("secret".into()))));
        assert_eq!(pair("ann\r\ns e\n"), Ok((Some("ann".into()), Secret("s e".into()))));
        for broken in ["", "\n", "\nsecret", "ann\n\n", "a\nb\nc", "a\0b"] {
            assert!(pair(broken).is_err(), "{broken:?}");
        }
    }
}
