//! Whom the database runs as: ourselves, or an unprivileged account when we are root, whom PostgreSQL refuses.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use crate::Error;

/// Whom the database runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The user of this process.
    Ourselves,
    /// We are root: this account, without supplementary groups.
    Account { uid: u32, gid: u32 },
}

impl Owner {
    /// Whoever should own `folder`, which this process has just made: its present owner tells who we are.
    pub(crate) fn of_new(folder: &Path) -> Result<Self, Error> {
        if fs::metadata(folder)?.uid() != 0 {
            return Ok(Self::Ourselves);
        }
        let accounts = fs::read_to_string("/etc/passwd")?;
        ["postgres", "nobody"].iter().find_map(|name| account(&accounts, name)).ok_or(Error::NoAccount)
    }

    pub(crate) fn is_another(self) -> bool {
        self != Self::Ourselves
    }

    /// Makes `command` run as this owner.
    pub(crate) fn apply(self, command: &mut Command) {
        if let Self::Account { uid, gid } = self {
            // Dropping root by uid() drops the supplementary groups too.
            command.uid(uid).gid(gid);
        }
    }

    /// Hands `path` over.
    pub(crate) fn take(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Ourselves => Ok(()),
            Self::Account { uid, gid } => chown(path, Some(uid), Some(gid)),
        }
    }
}

/// The entry of `name` in a passwd(5) file: `name:password:uid:gid:…`.
fn account(passwd: &str, name: &str) -> Option<Owner> {
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    fields.next()?;
    Some(Owner::Account { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}
