//! Listening, on TCP or on a Unix socket.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::socket::Socket;
use crate::config::Listen;

/// Clients may come back all at once after a restart; the kernel caps it at net.core.somaxconn.
const BACKLOG: u32 = 4096;
/// Owner and group may push through a Unix socket.
const MODE: u32 = 0o660;

/// A listener.
pub enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a path. The file of an inherited one belongs to the service manager.
    Unix(UnixListener, Option<SocketFile>),
}

/// Sockets that a service manager has opened and handed over (sd_listen_fds(3)), so that clients wait for a restart in
/// the kernel's queue and are not refused. The first is for clients, the second for pushes.
pub struct Inherited(ListenFd);

impl Inherited {
    /// Those that the environment names.
    pub fn from_env() -> Self {
        Self(ListenFd::from_env())
    }

    /// Takes one, if it is there.
    fn take(&mut self, index: usize) -> Result<Option<Listener>> {
        // One that is of the other kind is left where it is.
        if let Ok(Some(listener)) = self.0.take_unix_listener(index) {
            listener.set_nonblocking(true)?;
            return Ok(Some(Listener::Unix(UnixListener::from_std(listener)?, None)));
        }
        let Some(listener) = self.0.take_tcp_listener(index)? else {
            return Ok(None);
        };
        listener.set_nonblocking(true)?;
        Ok(Some(Listener::Tcp(TcpListener::from_std(listener)?)))
    }
}

/// The file of a Unix socket, which is removed with its listener.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If that fails, the next start replaces it.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// The inherited socket of this number if there is one, else one of our own.
    pub fn open(inherited: &mut Inherited, index: usize, listen: &Listen) -> Result<Self> {
        match inherited.take(index)? {
            Some(Self::Unix(..)) if matches!(listen, Listen::Tcp(_)) && index == 0 => Err(Error::new(
                ErrorKind::InvalidInput,
                "the service manager hands over a Unix socket, but clients connect by TCP",
            )),
            Some(listener) => Ok(listener),
            None => Self::bind(listen),
        }
    }

    /// Listens from now on.
    pub fn bind(listen: &Listen) -> Result<Self> {
        match listen {
            Listen::Tcp(address) => bind_tcp(*address).map(Self::Tcp),
            Listen::Unix(path) => bind_unix(path),
        }
    }

    /// Where it listens: with the port that the system has chosen, if the configuration did not.
    pub fn address(&self) -> Result<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Self::Unix(listener, _) => {
                let address = listener.local_addr()?;
                Ok(Listen::Unix(
                    address.as_pathname().unwrap_or(Path::new("")).to_owned(),
                ))
            }
        }
    }

    /// The next connection, and the address that it comes from: none over a Unix socket.
    pub(super) async fn accept(&self) -> Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                // Frames are small and must not wait for each other.
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%error, "no TCP_NODELAY");
                }
                Ok((Socket::Tcp(socket), Some(address)))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept().await?;
                Ok((Socket::Unix(socket), None))
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A restart must not have to wait for the connections of the previous run (TIME_WAIT).
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind_unix(path: &Path) -> Result<Listener> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, PermissionsExt::from_mode(MODE))?;
    Ok(Listener::Unix(listener, Some(file)))
}

/// Removes the socket that a killed run has left. A file that is not a socket, or one that is listened on, is in use.
fn remove_stale(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "the file there is not a socket",
            ));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // Binding will tell what is wrong.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_left_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("push.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the file outlives its listener");
        let listen = Listen::Unix(path.clone());
        let listener = Listener::bind(&listen).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            MODE
        );
        assert_eq!(listener.address().unwrap(), listen);
        assert_eq!(
            Listener::bind(&listen).err().unwrap().kind(),
            ErrorKind::AddrInUse
        );
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = Listener::bind(&Listen::Unix(file.path().to_owned()));
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::AlreadyExists);
        assert!(file.path().exists());
    }
}
