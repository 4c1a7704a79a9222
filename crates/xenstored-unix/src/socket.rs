//! The socket's place in the file system: taken by one server at a time, never exposed with more rights than asked for.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

use crate::failure::Failure;

/// Clients that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The right to have a server on a path. Kept by a lock on a file beside the socket.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    address: SocketAddrUnix,
    lock_path: PathBuf,
    _lock: File,
}

/// The socket of a server that listens. It is taken away when this is dropped.
#[derive(Debug)]
pub struct Bound {
    place: Place,
    /// Device and inode: what is at the path later may be another's.
    identity: (u64, u64),
}

impl Place {
    /// Takes the place of a socket, unless a server has it. A folder that is missing is made, if its parent is there.
    pub fn take(path: &Path) -> Result<Place, Failure> {
        let address = SocketAddrUnix::new(path).map_err(|error| match error {
            Errno::NAMETOOLONG => Failure::SocketNameTooLong(path.to_owned()),
            other => failed("cannot use", path)(other.into()),
        })?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
            && !folder.exists()
        {
            fs::create_dir(folder).map_err(failed("cannot make the folder", folder))?;
        }
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let lock = lock(&lock_path, path)?;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("cannot look at", path)(error)),
            Ok(found) if !found.file_type().is_socket() => return Err(Failure::NotASocket(path.to_owned())),
            Ok(_) if answers(&address) => return Err(Failure::SocketAlive(path.to_owned())),
            Ok(_) => {}
        }
        Ok(Place {
            path: path.to_owned(),
            address,
            lock_path,
            _lock: lock,
        })
    }

    /// Listens. What a server that ended badly has left is replaced.
    pub fn listen(self, mode: u32, group: Option<u32>) -> Result<(UnixListener, Bound), Failure> {
        let path = &self.path;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("cannot replace", path)(error)),
            _ => {}
        }
        let refused = |error: Errno| failed("cannot listen on", path)(error.into());
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(refused)?;
        // Linux gives the name the mode of the socket: at no time may others connect.
        fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(refused)?;
        bind(&socket, &self.address).map_err(refused)?;
        if let Some(group) = group {
            std::os::unix::fs::chown(path, None, Some(group)).map_err(failed("cannot give to the group", path))?;
        }
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("cannot set the mode of", path))?;
        listen(&socket, BACKLOG).map_err(refused)?;
        let found = fs::symlink_metadata(path).map_err(failed("cannot look at", path))?;
        let identity = (found.dev(), found.ino());
        Ok((UnixListener::from(socket), Bound { place: self, identity }))
    }
}

impl Drop for Bound {
    /// Takes the socket away, if it is still ours, and gives the place free.
    fn drop(&mut self) {
        let Bound { place, identity } = self;
        let ours = fs::symlink_metadata(&place.path).is_ok_and(|found| (found.dev(), found.ino()) == *identity);
        if ours {
            // Without rights to the folder it stays, and the next server replaces it.
            let _stays = fs::remove_file(&place.path);
        }
        // Before the lock is given up: whoever gets it then sees that its file is gone, and makes another.
        let _stays = fs::remove_file(&place.lock_path);
    }
}

/// Locks the file at `lock_path`, and makes sure that it is still the one that others would lock.
fn lock(lock_path: &Path, socket: &Path) -> Result<File, Failure> {
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(lock_path)
            .map_err(failed("cannot make", lock_path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(Failure::SocketLocked(socket.to_owned())),
            other => other.map_err(|error| failed("cannot lock", lock_path)(error.into()))?,
        }
        let mine = file.metadata().map_err(failed("cannot look at", lock_path))?;
        let there = fs::metadata(lock_path).is_ok_and(|there| (there.dev(), there.ino()) == (mine.dev(), mine.ino()));
        if there {
            return Ok(file);
        }
    }
}

/// Somebody listens there. One that has no room for a client at the moment lives, too.
fn answers(address: &SocketAddrUnix) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let Ok(socket) = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else {
        return true;
    };
    !matches!(connect(&socket, address), Err(Errno::CONNREFUSED | Errno::NOENT))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::File { what, path, source }
}
