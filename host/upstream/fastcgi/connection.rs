//! One connection to PHP-FPM, and one request on it at a time.

use std::io;
use std::pin::pin;

use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep_until};

use super::fault::Fault;
use super::params::{Script, put_params};
use super::record::{self, Decoder, Part, ProtocolStatus};
use super::response::Answer;
use super::stderr::Stderr;
use super::{Address, Settings};
use crate::message::{self, Failure, Request, Response};

/// So many bytes leave at once, even on a connection that has just been made: the kernel takes them.
const AT_ONCE: usize = 16 * 1024;
/// What FPM writes to the log when it answers in place of a script: 404 or 403.
const NOT_RUN: [&str; 3] = [
    "Primary script unknown",
    "has been denied (see security.limit_extensions)",
    "Unable to open primary script",
];
/// The size of the read buffer, in bytes.
const BUFFER: usize = 16 * 1024;

/// A connection without a request on it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// Empty between requests.
    buffer: BytesMut,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A request as it is sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    keep: bool,
    /// The whole request if its body fits into one record; otherwise everything except the body.
    head: Vec<u8>,
    /// The body, unless it is in `head`.
    body: Bytes,
}

impl Outgoing {
    /// Refuses a request that FastCGI cannot carry as `bad-request`.
    pub(super) fn new(
        request: &Request,
        client: Option<&message::Connection>,
        script: &Script,
        keep: bool,
    ) -> Result<Self, Failure> {
        let mut body = request.body.clone().into_bytes();
        let mut head = Vec::with_capacity(2048);
        record::put_begin_request(&mut head, keep);
        put_params(&mut head, script, request, client)?;
        if body.len() <= record::MAX_CONTENT {
            record::put_stdin(&mut head, &std::mem::take(&mut body));
            record::put_stdin_end(&mut head);
        }
        Ok(Self { keep, head, body })
    }

    /// Whether it may be cut off while it is sent.
    pub(super) fn is_long(&self) -> bool {
        self.len() > AT_ONCE
    }

    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Sends everything after the first `sent` bytes of the head.
    async fn send_rest(&self, sent: usize, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        writer
            .write_all(self.head.get(sent..).unwrap_or_default())
            .await?;
        let mut unsent = self.body.chunks(record::MAX_CONTENT).peekable();
        let mut records = Vec::new();
        while let Some(chunk) = unsent.next() {
            records.clear();
            record::put_stdin(&mut records, chunk);
            if unsent.peek().is_none() {
                record::put_stdin_end(&mut records);
            }
            writer.write_all(&records).await?;
        }
        Ok(())
    }
}

impl Connection {
    pub(super) async fn open(address: &Address) -> Result<Self, Fault> {
        let stream = match address {
            Address::Tcp(host_and_port) => connect_tcp(host_and_port).await.map(Stream::Tcp),
            Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        };
        let buffer = BytesMut::with_capacity(BUFFER);
        stream
            .map(|stream| Self { stream, buffer })
            .map_err(Fault::CannotConnect)
    }

    /// Whether the other side has neither closed the connection nor sent anything unasked.
    ///
    /// Asks the kernel: tokio only knows what its driver has heard last, which may be before an FPM child has ended.
    pub(super) fn is_quiet(&self) -> bool {
        let read = match &self.stream {
            Stream::Tcp(stream) => rustix::io::read(stream, &mut [0]),
            Stream::Unix(stream) => rustix::io::read(stream, &mut [0]),
        };
        read == Err(Errno::AGAIN)
    }

    /// Sends a request and reads the answer to it. The connection comes back if it can be used again; otherwise, and
    /// if the future is dropped, it is closed. When `gone` is done, nobody waits for the answer any more: it ends as soon as
    /// the whole request is sent.
    pub(super) async fn exchange(
        mut self,
        outgoing: &Outgoing,
        settings: &Settings,
        gone: impl Future<Output = ()>,
    ) -> Result<(Response, Option<Self>), Fault> {
        let buffer = &mut self.buffer;
        let (response, is_clean) = match &mut self.stream {
            Stream::Tcp(stream) => {
                let (reader, writer) = stream.split();
                exchange(reader, writer, buffer, outgoing, settings, gone).await?
            }
            Stream::Unix(stream) => {
                let (reader, writer) = stream.split();
                exchange(reader, writer, buffer, outgoing, settings, gone).await?
            }
        };
        Ok((response, (is_clean && outgoing.keep).then_some(self)))
    }
}

async fn connect_tcp(host_and_port: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(host_and_port).await?;
    // The end of a long body must not wait for the acknowledgement of the previous piece.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Gives the response, and whether nothing is left to be sent or read.
async fn exchange(
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    buffer: &mut BytesMut,
    outgoing: &Outgoing,
    settings: &Settings,
    gone: impl Future<Output = ()>,
) -> Result<(Response, bool), Fault> {
    let sent = writer.write(&outgoing.head).await.map_err(Fault::Unsent)?;
    // Both at the same time from here on: PHP may answer before it has read the body, and would wait forever for a
    // gateway that reads only after it has sent everything.
    let mut sending = pin!(outgoing.send_rest(sent, writer));
    let mut receiving = pin!(receive(reader, buffer, settings));
    let mut gone = pin!(gone);
    let mut is_sending = true;
    let mut is_sent = false;
    // Both are set when nobody waits any more.
    let mut until = None;
    let mut _held = None;
    loop {
        tokio::select! {
            biased;
            // Not a reason to stop: a script may end without reading the body, and there is an answer nevertheless.
            result = &mut sending, if is_sending => (is_sending, is_sent) = (false, result.is_ok()),
            answer = &mut receiving => {
                let (response, is_read) = answer?;
                return Ok((response, is_sent && is_read));
            }
            () = &mut gone, if until.is_none() => {
                let inbound = &settings.inbound;
                // Half of the room is for those who are still there.
                if inbound.used() + outgoing.len() > inbound.limit() / 2 {
                    return Err(cut(settings, "too much waits to be sent for clients who have gone (max-inbound)"));
                }
                _held = Some(inbound.hold(outgoing.len()));
                until = Some(Instant::now() + settings.timeout);
            }
            () = passed(until) => {
                let text = format!("it took a part and then nothing for a further {:?} (timeout)", settings.timeout);
                return Err(cut(settings, &text));
            }
        }
        if until.is_some() && !is_sending {
            settings.metrics.unfinished(if is_sent { "sent" } else { "cut" });
            return Err(Fault::GivenUp);
        }
    }
}

/// The rest of a request is not sent.
fn cut(settings: &Settings, why: &str) -> Fault {
    settings.metrics.unfinished("cut");
    if let Some(times) = settings.log_limit.count("cut off") {
        let (upstream, address) = (&settings.name, &settings.address);
        tracing::warn!(
            %upstream,
            times,
            "a request to {address} is cut off, and the script may run with a part of the body: {why}"
        );
    }
    Fault::GivenUp
}

/// Waits until this time, or forever without one.
async fn passed(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Gives the response, and whether nothing came after it.
async fn receive(
    mut reader: impl AsyncRead + Unpin,
    buffer: &mut BytesMut,
    settings: &Settings,
) -> Result<(Response, bool), Fault> {
    let upstream = &settings.name;
    let mut stderr = Stderr::new(|line| tracing::warn!(%upstream, "php-fpm wrote to stderr: {line}"));
    let mut answer = Answer::new(settings.max_answer);
    let mut decoder = Decoder::default();
    loop {
        // The decoder leaves little. This allocates only if the answer still holds what was read before.
        buffer.reserve(BUFFER / 2);
        match reader.read_buf(buffer).await {
            Ok(0) => return Err(Fault::Closed),
            Ok(_) => {}
            // This is what happens if a child dies before it has read everything, even if only the end of the body.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(Fault::Closed),
            Err(error) => return Err(Fault::Broken(error)),
        }
        while let Some(part) = decoder.next(buffer)? {
            match part {
                Part::Stdout(piece) => answer.push(piece)?,
                Part::Stderr(piece) => stderr.push(&piece),
                Part::End(ProtocolStatus::Complete) => {
                    let is_read = buffer.is_empty();
                    buffer.clear();
                    if let Some(line) = answer.stray_line()
                        && let Some(times) = settings.log_limit.count("stray header line")
                    {
                        tracing::warn!(
                            %upstream,
                            times,
                            "php sent `{line}` among its headers, which is not a header field; it is left out"
                        );
                    }
                    let response = answer.finish()?;
                    if matches!(response.status, 403 | 404) && NOT_RUN.iter().any(|words| stderr.says(words))
                    {
                        return Err(Fault::NotRun(response.status));
                    }
                    return Ok((response, is_read));
                }
                Part::End(status) => return Err(Fault::Rejected(status)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
