//! The header of the PROXY protocol. The first byte of the input is the size of the first piece that the rest arrives in:
//! what is read does not depend on it. Nothing behind the header is read, and the address is the one that stands in it.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use futures_util::FutureExt;
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncReadExt;

#[path = "../../../host/server/proxy_protocol.rs"]
mod proxy_protocol;

use proxy_protocol::{HeaderError, read_header};

/// Of version 2, with what proxies add.
const LONGEST: usize = 16 + 4096;

fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else {
        return;
    };
    let (found, header) = read(bytes, bytes.len());
    let (in_pieces, same_header) = read(bytes, usize::from(*size).min(bytes.len()));
    assert_eq!((found.is_ok(), header), (in_pieces.is_ok(), same_header));
    assert!(header.len() <= LONGEST, "{} bytes were read", header.len());
    let Ok(source) = found else {
        return;
    };
    assert_eq!(in_pieces.ok(), Some(source));
    if let Some(source) = source {
        assert_eq!(Some(source), written(header), "{}", header.escape_ascii());
    }
});

/// What is found, and what was read of it.
fn read(bytes: &[u8], size: usize) -> (Result<Option<SocketAddr>, HeaderError>, &[u8]) {
    let (mut first, mut second) = bytes.split_at(size);
    let mut socket = (&mut first).chain(&mut second);
    let found = read_header(&mut socket).now_or_never().expect("it is all there");
    let read = bytes.len() - first.len() - second.len();
    (found, &bytes[..read])
}

/// The address where the specification has it.
fn written(header: &[u8]) -> Option<SocketAddr> {
    if let Some(line) = header.strip_prefix(b"PROXY ") {
        let line = str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
        let [family, source, _, port, _] = *line.split(' ').collect::<Vec<_>>() else {
            return None;
        };
        let source: IpAddr = source.parse().ok()?;
        assert_eq!(family, if source.is_ipv4() { "TCP4" } else { "TCP6" });
        return Some((source, port.parse().ok()?).into());
    }
    let addresses = &header[16..];
    let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
    match header[13] >> 4 {
        1 => Some((Ipv4Addr::from(*addresses.first_chunk::<4>()?), port(8)).into()),
        2 => Some((Ipv6Addr::from(*addresses.first_chunk::<16>()?), port(32)).into()),
        _ => None,
    }
}
