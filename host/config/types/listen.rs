//! Where to listen: an address, or the path of a Unix socket.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// An address to listen on: `IP:PORT`, `localhost:PORT`, or `:PORT` for all interfaces.
pub(in crate::config) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let ip = match host {
        "localhost" => Ipv4Addr::LOCALHOST,
        "" | "*" => Ipv4Addr::UNSPECIFIED,
        _ => return Err(no_address(text)),
    };
    let port: u16 = port.parse().map_err(|_| no_address(text))?;
    Ok(SocketAddr::from((ip, port)))
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Whether it can be reached from this machine only.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address, or `unix:PATH`, which is relative to the given directory.
pub(in crate::config) fn parse_listen_anywhere(text: &str, directory: &Path) -> Result<Listen, String> {
    match text.strip_prefix("unix:") {
        None => parse_listen(text).map(Listen::Tcp),
        Some("") => Err(format!(
            "`{text}` lacks the path of the socket; write \"unix:/run/aileron/push.sock\""
        )),
        Some(path) => Ok(Listen::Unix(directory.join(path))),
    }
}

fn no_address(text: &str) -> String {
    format!(
        "`{text}` is not an address to listen on; write IP:PORT, such as \"127.0.0.1:8080\" or \"[::1]:8080\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        for (text, address) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("localhost:2", "127.0.0.1:2"),
            (":3", "0.0.0.0:3"),
            ("[::1]:4", "[::1]:4"),
        ] {
            assert_eq!(parse_listen(text).unwrap().to_string(), address);
        }
        let unix = parse_listen_anywhere("unix:push.sock", Path::new("/run")).unwrap();
        assert_eq!(unix.to_string(), "unix:/run/push.sock");
        assert!(parse_listen_anywhere("unix:", Path::new("/run")).is_err());
        assert!(parse_listen("8080").is_err());
        assert!(parse_listen("example.org:80").is_err());
    }
}
