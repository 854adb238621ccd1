//! How a session ends, so that its client gets to see code and reason: the close frame is on its way, or there.

use std::task::{Context, Poll};

use super::end::End;
use super::reader::{Read, Reader, Turn};
use super::socket::Half;
use crate::send_queue::SendQueue;
use crate::websocket::Incoming;

/// How much is still read of a client that broke the protocol.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

pub(super) struct Farewell {
    /// Why it ends.
    pub(super) end: End,
    /// The close frame has left.
    pub(super) is_written: bool,
    until: Until,
    discarded: usize,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The close frame, which answers the client's own, has left.
    Written,
    /// The client has answered the close frame.
    ClientCloses,
    /// The client has closed the socket. A socket that is closed with unread bytes resets the connection, and the client may
    /// lose the close frame that is under way to it: so what it still sends is read and thrown away, up to a bound.
    SocketEnds,
}

impl Farewell {
    pub(super) fn new(end: End, until: Until) -> Self {
        Self {
            end,
            is_written: false,
            until,
            discarded: 0,
        }
    }

    /// Goes on with it. Whether there may be more to do at once; the end comes as an error.
    pub(super) fn go_on(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Half,
        reader: &mut Reader,
        send_queue: &SendQueue,
        turn: &mut Turn,
    ) -> Result<bool, End> {
        let (is_over, is_busy) = match self.until {
            Until::Written => (self.is_written, false),
            Until::ClientCloses => {
                // Its messages are not handled any more, so they must not be held either.
                reader.skip_messages();
                match reader.poll_next(cx, socket, turn, usize::MAX) {
                    Poll::Ready(Ok(Read::Frame(Incoming::Close(_))) | Err(_)) => (true, false),
                    Poll::Ready(Ok(_)) => (false, true),
                    Poll::Pending => (false, false),
                }
            }
            Until::SocketEnds => {
                if self.is_written {
                    // The client need not wait for the end of what is read in vain (RFC 6455 section 7.1.1).
                    send_queue.shut(false);
                    let _ = socket.poll_shutdown(cx);
                }
                match reader.poll_discard(cx, socket, turn) {
                    Poll::Ready(Ok(0) | Err(_)) => (true, false),
                    Poll::Ready(Ok(bytes)) => {
                        self.discarded += bytes;
                        (self.discarded > LINGER_BYTES, true)
                    }
                    Poll::Pending => (false, false),
                }
            }
        };
        if is_over {
            // TLS has a farewell of its own (RFC 8446 section 6.1).
            let _ = socket.poll_shutdown(cx);
            return Err(std::mem::replace(&mut self.end, End::Lost(String::new())));
        }
        Ok(is_busy)
    }
}
