//! Where PostgreSQL's programs are.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;
use crate::owner::Owner;

/// Debian's folder of PostgreSQL servers, by major version, also below the root of an unpacked package.
const DEBIAN: &str = "usr/lib/postgresql";

/// A folder of PostgreSQL's programs, and the libraries they need beside the system's.
#[derive(Debug, Clone)]
pub struct Installation {
    bin: PathBuf,
    libraries: Vec<PathBuf>,
}

impl Installation {
    /// The first that runs for this process's user of: `PG_BINDIR`, `pg_config --bindir`, the newest
    /// `/usr/lib/postgresql/*/bin`, the newest that `scripts/postgres.sh` has unpacked.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] when `PG_BINDIR` is set and wrong, [`Error::NotFound`] when there is none.
    pub fn find() -> Result<Self, Error> {
        let folder = tempfile::tempdir()?;
        Self::find_for(Owner::of_new(folder.path())?)
    }

    /// As [`find`](Self::find), for programs that run as `owner`.
    pub(crate) fn find_for(owner: Owner) -> Result<Self, Error> {
        if let Some(bin) = env::var_os("PG_BINDIR").filter(|bin| !bin.is_empty()) {
            let named = Self::at(std::path::absolute(bin)?);
            return if named.runs(owner) { Ok(named) } else { Err(Error::Unusable(named.bin)) };
        }
        let configured = pg_config().into_iter();
        let unpacked = cache(owner)
            .into_iter()
            .flat_map(|cache| entries(&cache))
            .map(|system| system.join("postgresql"));
        configured
            .chain(newest([PathBuf::from("/")]))
            .chain(newest(unpacked))
            .map(Self::at)
            .find(|installation| installation.runs(owner))
            .ok_or(Error::NotFound)
    }

    fn at(bin: PathBuf) -> Self {
        let libraries = libraries(&bin);
        Self { bin, libraries }
    }

    /// The folder that holds `postgres`, `initdb` and, usually, `psql` and `pgbench`.
    #[must_use]
    pub fn bin_folder(&self) -> &Path {
        &self.bin
    }

    /// A command for one of the programs, to run as this process's user, with the libraries it needs and without the
    /// environment's `PG…` variables.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        self.prepare(&mut command);
        command
    }

    /// Gives `command` the libraries that the programs need, and takes the environment's `PG…` variables from it.
    pub(crate) fn prepare(&self, command: &mut Command) {
        if !self.libraries.is_empty() {
            let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
            let inherited = env::split_paths(&inherited).filter(|folder| !folder.as_os_str().is_empty());
            let folders = env::join_paths(self.libraries.iter().cloned().chain(inherited));
            command.env("LD_LIBRARY_PATH", folders.unwrap_or_default());
        }
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
    }

    /// Whether `owner` can run both programs that a server needs.
    fn runs(&self, owner: Owner) -> bool {
        ["postgres", "initdb"].iter().all(|program| {
            let mut command = self.command(program);
            owner.apply(&mut command);
            command.arg("--version").current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        })
    }
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(folder.trim_end()))
}

/// The `bin` folders of every server below Debian-like `roots`, newest first.
fn newest(roots: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let mut folders: Vec<_> = roots.into_iter().flat_map(|root| entries(&root.join(DEBIAN))).collect();
    folders.sort_by_key(|folder| std::cmp::Reverse(version(folder)));
    folders.into_iter().map(|folder| folder.join("bin")).collect()
}

/// Where `scripts/debian.sh` unpacks packages, a folder per system. Root's own cache would be closed to the account
/// that runs the database.
fn cache(owner: Owner) -> Option<PathBuf> {
    if owner.is_another() {
        return Some(PathBuf::from("/var/cache/headpond"));
    }
    let set = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(base.join("headpond"))
}

/// The library folders of the unpacked package root that `bin` belongs to: none for programs at home in their system.
fn libraries(bin: &Path) -> Vec<PathBuf> {
    let Some(root) =
        bin.ancestors().nth(5).filter(|root| root.parent().is_some() && bin.starts_with(root.join(DEBIAN)))
    else {
        return Vec::new();
    };
    // Debian 12 still has packages that own /lib.
    let folders = [root.join("usr/lib"), root.join("lib")].into_iter().flat_map(|folder| entries(&folder));
    folders.filter(|folder| folder.to_string_lossy().contains("-linux-gnu")).collect()
}

/// What is in `folder`: nothing when it is not there.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
