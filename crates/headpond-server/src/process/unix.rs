//! The Unix socket that clients connect to.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use socket2::{Domain, SockAddr, Socket, Type};

use super::listen::BACKLOG;

/// A Unix socket: its file is removed when this is dropped.
pub(super) struct UnixSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl UnixSocket {
    /// Listens at `path`, for whom `mode` and `group` let in. A file that a process left behind is replaced.
    pub(super) fn listen(path: PathBuf, mode: u32, group: Option<&str>) -> io::Result<Self> {
        remove_left_over(&path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        let this = Self { path, listener: socket.into() };
        // Nobody can connect before it listens.
        if let Some(name) = group {
            let group = Group::from_name(name).ok().flatten();
            let group = group.ok_or_else(|| io::Error::other(format!("there is no group {name:?}")))?;
            chown(&this.path, None, Some(group.gid.as_raw()))?;
        }
        fs::set_permissions(&this.path, fs::Permissions::from_mode(mode))?;
        socket2::SockRef::from(&this.listener).listen(BACKLOG)?;
        Ok(this)
    }

    /// The same socket once more.
    pub(super) fn again(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Who comes later finds it left over, and nobody listening.
        let _ = fs::remove_file(&self.path);
    }
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
