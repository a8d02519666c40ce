//! The Unix socket that clients connect to.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use socket2::{Domain, SockAddr, Socket, Type};

use super::listen::BACKLOG;

/// A Unix socket: its file is removed when this is dropped.
pub(super) struct UnixSocket {
    path: PathBuf,
    /// What tells its file from one that another process put in its place; `None`: there can be none yet.
    file: Option<[i64; 3]>,
    /// Until all who accept clients have theirs.
    listener: Option<UnixListener>,
}

impl UnixSocket {
    /// Listens at `path`, for whom `mode` and `group` let in. A file that a process left behind is replaced.
    pub(super) fn listen(path: PathBuf, mode: u32, group: Option<&str>) -> io::Result<Self> {
        remove_left_over(&path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        let mut this = Self { path, file: None, listener: None };
        // Nobody can connect before it listens.
        if let Some(name) = group {
            let group = Group::from_name(name).ok().flatten();
            let group = group.ok_or_else(|| io::Error::other(format!("there is no group {name:?}")))?;
            chown(&this.path, None, Some(group.gid.as_raw()))?;
        }
        fs::set_permissions(&this.path, fs::Permissions::from_mode(mode))?;
        this.file = identity(&this.path);
        socket.listen(BACKLOG)?;
        this.listener = Some(socket.into());
        Ok(this)
    }

    /// The same socket once more.
    pub(super) fn again(&self) -> io::Result<UnixListener> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        self.listener.as_ref().ok_or_else(closed)?.try_clone()
    }

    /// Keeps no more than the file: once those who accept clients stop, nobody can connect, rather than wait for nobody.
    pub(super) fn file_only(mut self) -> Self {
        self.listener = None;
        self
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // While clients were still served another process may have taken the place.
        if self.file.is_none() || self.file == identity(&self.path) {
            // Who comes later finds it left over, and nobody listening.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where a file is, and since when as it is: numbers of files are used again.
fn identity(path: &Path) -> Option<[i64; 3]> {
    let file = fs::symlink_metadata(path).ok()?;
    Some([i64::try_from(file.ino()).ok()?, file.ctime(), file.ctime_nsec()])
}

fn remove_left_over(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(file) if !file.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "is there, and no socket"))
        }
        Ok(_) if UnixStream::connect(path).is_ok() => Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path),
    }
}
