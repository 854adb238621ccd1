//! The PROXY protocol, versions 1 and 2: a header in front of everything, in which a proxy that only passes bytes on says
//! who has connected to it (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! Not a byte after the header is read here, so the rest of the stream is as if there had been no header.

use std::io;
use std::net::SocketAddr;

use ppp::v1::{self, BinaryParseError};
use ppp::v2;
use tokio::io::{AsyncRead, AsyncReadExt};

/// `PROXY UNKNOWN` and the end of the line. No header of either version is shorter.
const SHORTEST: usize = 15;
/// Of version 1, with the end of the line.
const LONGEST_LINE: usize = 107;
/// Of version 2: signature, command, family, and two bytes of length.
const V2_HEAD: usize = 16;
/// The most that may follow it. Addresses take up to 216 bytes; proxies add a little about TLS and themselves.
const LONGEST_REST: usize = 4096;

/// Why there is no usable header.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("it ended within the header of the PROXY protocol")]
    Ended(#[from] io::Error),
    #[error("it does not begin with a header of the PROXY protocol, which `proxy-protocol` asks for")]
    Missing,
    #[error("its header of the PROXY protocol is longer than any is")]
    TooLong,
    #[error("its header of the PROXY protocol is malformed: {0}")]
    V1(#[from] BinaryParseError),
    #[error("its header of the PROXY protocol is malformed: {0}")]
    V2(#[from] v2::ParseError),
}

/// Reads the header and gives the address in it: none if the proxy connects for itself, for example for a health check.
pub(super) async fn read_header<S: AsyncRead + Unpin>(
    socket: &mut S,
) -> Result<Option<SocketAddr>, HeaderError> {
    let mut header = Vec::with_capacity(LONGEST_LINE);
    read(socket, &mut header, SHORTEST).await?;
    if header.starts_with(v2::PROTOCOL_PREFIX) {
        read(socket, &mut header, V2_HEAD - SHORTEST).await?;
        let length = header
            .last_chunk()
            .map_or(0, |length| u16::from_be_bytes(*length));
        let length = usize::from(length);
        if length > LONGEST_REST {
            return Err(HeaderError::TooLong);
        }
        read(socket, &mut header, length).await?;
        return Ok(source_of_v2(&v2::Header::try_from(header.as_slice())?));
    }
    if !header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        return Err(HeaderError::Missing);
    }
    // Byte by byte, since its end is not known beforehand.
    while !header.ends_with(v1::PROTOCOL_SUFFIX.as_bytes()) {
        if header.len() >= LONGEST_LINE {
            return Err(HeaderError::TooLong);
        }
        read(socket, &mut header, 1).await?;
    }
    Ok(source_of_v1(&v1::Header::try_from(header.as_slice())?))
}

async fn read<S: AsyncRead + Unpin>(socket: &mut S, header: &mut Vec<u8>, n: usize) -> io::Result<()> {
    let read = socket.take(n as u64).read_to_end(header).await?;
    if read == n {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn source_of_v1(header: &v1::Header<'_>) -> Option<SocketAddr> {
    match header.addresses {
        v1::Addresses::Tcp4(of) => Some((of.source_address, of.source_port).into()),
        v1::Addresses::Tcp6(of) => Some((of.source_address, of.source_port).into()),
        v1::Addresses::Unknown => None,
    }
}

fn source_of_v2(header: &v2::Header<'_>) -> Option<SocketAddr> {
    match (header.command, header.addresses) {
        (v2::Command::Local, _) => None,
        (_, v2::Addresses::IPv4(of)) => Some((of.source_address, of.source_port).into()),
        (_, v2::Addresses::IPv6(of)) => Some((of.source_address, of.source_port).into()),
        (_, v2::Addresses::Unix(_) | v2::Addresses::Unspecified) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a header with a request behind it, and that nothing of the request is.
    async fn read_all(header: &[u8]) -> Result<Option<String>, HeaderError> {
        let bytes = [header, b"GET / HTTP/1.1"].concat();
        let mut rest = bytes.as_slice();
        let source = read_header(&mut rest).await?;
        assert_eq!(rest, b"GET / HTTP/1.1");
        Ok(source.map(|address| address.to_string()))
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn the_source_is_found_in_both_versions() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb];
        let with_more = [&v4[..], &[0x04, 0, 2, 0, 0]].concat();
        let v6 = [&[0x20; 16][..], &[0; 16], &[0, 80, 0, 81]].concat();
        let longest = format!(
            "PROXY TCP6 {0} {0} 65535 65535\r\n",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        );
        for (header, source) in [
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n".to_vec(),
                Some("192.0.2.1:4660"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(),
                Some("[2001:db8::1]:1"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever 1 2\r\n".to_vec(), None),
            (
                longest.into_bytes(),
                Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            ),
            (v2(1, 0x11, &v4), Some("192.0.2.1:4660")),
            (v2(1, 0x11, &with_more), Some("192.0.2.1:4660")),
            (
                v2(1, 0x21, &v6),
                Some("[2020:2020:2020:2020:2020:2020:2020:2020]:80"),
            ),
            (v2(0, 0x11, &v4), None),
            (v2(0, 0, &[]), None),
            (v2(1, 0x31, &[0; 216]), None),
        ] {
            let found = read_all(&header).await.unwrap();
            assert_eq!(found.as_deref(), source, "{}", header.escape_ascii());
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_and_read_no_further_than_a_header_goes() {
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let long = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff]].concat();
        for (bytes, expected) in [
            (b"GET /ws HTTP/1.1\r\n".to_vec(), "does not begin with a header"),
            (b"PROXY TCP4 1.2.3 10.0.0.1 1 2\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4\r\nmore\r\n".to_vec(), "malformed"),
            (v2(7, 0x11, &[0; 12]), "malformed"),
            (v2(1, 0x11, &[0; 3]), "malformed"),
            (endless, "longer than any"),
            (long, "longer than any"),
            (b"PROXY".to_vec(), "it ended"),
        ] {
            let error = read_header(&mut bytes.as_slice()).await.unwrap_err();
            let shown = bytes.escape_ascii();
            assert!(error.to_string().contains(expected), "{shown}: {error}");
        }
    }
}
