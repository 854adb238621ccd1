//! Bytes of a client to messages. Most clients send small messages, each whole in one frame and in one read: such a frame
//! is unmasked where it is and copied once, into the message. What does not end in what has been read is collected in a
//! box, which goes when the message has ended.

mod header;
mod mask;
mod message;
mod text;

use std::mem;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use header::{Context, Header, Start};
use message::Message;

use super::{CLOSE, Incoming, PING, Rules, Violation, deflate};

/// Takes the frames of one client apart.
pub struct Decoder {
    /// See [`Rules`], whose fields these are: a decoder is part of each connection, and small like this.
    max_message: usize,
    inflates: bool,
    /// Nobody wants to know what is in messages.
    skips: bool,
    unfinished: Option<Box<Unfinished>>,
}

/// What has begun and not ended. One of its parts at least is there.
#[derive(Default)]
struct Unfinished {
    message: Option<Message>,
    /// A header that is not whole.
    start: Start,
    /// The frame whose payload is under way.
    frame: Option<Header>,
    /// What has come of that payload, if it is a control frame's.
    control: Vec<u8>,
}

impl Decoder {
    /// For a connection on which no frame has come yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            max_message: rules.max_message,
            inflates: rules.inflates,
            skips: false,
            unfinished: None,
        }
    }

    /// From now on what is in messages is thrown away, and each of their frames is a fragment.
    pub fn skip_messages(&mut self) {
        self.skips = true;
        if let Some(message) = self
            .unfinished
            .as_mut()
            .and_then(|unfinished| unfinished.message.as_mut())
        {
            message.clear();
        }
    }

    /// Takes bytes from the front of `input`, which it unmasks in place, until something is complete. Gives how many were
    /// taken, and what is complete; None: all were taken, and more is needed.
    ///
    /// After a violation or a close frame there is nothing more to decode.
    pub fn decode(&mut self, input: &mut [u8]) -> Result<(usize, Option<Incoming>), Violation> {
        let Some((mut header, start)) = self.take_header(input)? else {
            return Ok((input.len(), None));
        };
        let rest = input.get_mut(start..).unwrap_or_default();
        let size = rest.len().min(header.left);
        let payload = rest.get_mut(..size).unwrap_or_default();
        mask::unmask(payload, header.mask);
        header.pass(size);
        let incoming = if header.is_control() {
            self.take_control(header, payload)?
        } else {
            self.take_data(header, payload)?
        };
        Ok((start + size, incoming))
    }

    /// Whether messages may be longer than what comes of them.
    pub fn inflates(&self) -> bool {
        self.inflates
    }

    /// Drops what is unfinished. Nothing that comes is to be decoded any more.
    pub fn clear(&mut self) {
        self.unfinished = None;
    }

    /// Memory that is held for what is unfinished, in bytes.
    pub fn held(&self) -> usize {
        self.unfinished.as_ref().map_or(0, |unfinished| {
            let message = unfinished.message.as_ref().map_or(0, Message::capacity);
            size_of::<Unfinished>() + message + unfinished.control.capacity()
        })
    }

    /// Whether a message has begun and not ended, be it by one byte of its first header. Control frames do not count.
    pub fn is_in_message(&self) -> bool {
        self.unfinished
            .as_ref()
            .is_some_and(|unfinished| unfinished.message.is_some() || unfinished.start.is_of_data())
    }

    /// How many bytes of the message that has begun may still come; none if none has.
    pub fn missing(&self) -> Option<usize> {
        let unfinished = self.unfinished.as_ref().filter(|_| self.is_in_message())?;
        let is_last = |frame: &Header| !frame.is_control() && frame.is_final();
        Some(match (&unfinished.message, unfinished.frame.filter(is_last)) {
            (Some(message), _) if message.is_deflated() => self.max_message,
            (Some(_), Some(frame)) => frame.left,
            (message, _) => {
                let begun = message.as_ref().map_or(0, Message::len);
                self.max_message.saturating_sub(begun)
            }
        })
    }

    /// The header of the frame whose payload comes next, and where in `input` it comes. None: all was taken.
    #[inline]
    fn take_header(&mut self, input: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        let mut context = Context {
            inflates: self.inflates,
            is_in_message: false,
        };
        let found = match &mut self.unfinished {
            None => header::parse(input, context)?,
            Some(unfinished) => {
                if let Some(frame) = unfinished.frame.take() {
                    return Ok(Some((frame, 0)));
                }
                context.is_in_message = unfinished.message.is_some();
                unfinished.start.parse_on(input, context)?
            }
        };
        match found {
            Some((header, _)) if !header.is_control() => self.check_size(&header)?,
            None if self.unfinished.is_none() && !input.is_empty() => {
                self.unfinished.get_or_insert_default().start.put(input);
            }
            _ => {}
        }
        Ok(found)
    }

    /// Refuses a message that will be too large, by what a frame of it announces.
    #[inline]
    fn check_size(&self, header: &Header) -> Result<(), Violation> {
        let max = self.max_message;
        let begun = self
            .unfinished
            .as_ref()
            .and_then(|unfinished| unfinished.message.as_ref());
        let (size, is_deflated) = match begun {
            None => (0, header.is_deflated()),
            Some(message) => (message.len(), message.is_deflated()),
        };
        let bound = if is_deflated { deflate::bound(max) } else { max };
        if header.left > bound.saturating_sub(size) {
            return Err(Violation::TooLarge { max });
        }
        Ok(())
    }

    /// A piece of a data frame, the last one if nothing of it is left.
    #[inline]
    fn take_data(&mut self, header: Header, payload: &[u8]) -> Result<Option<Incoming>, Violation> {
        let max = self.max_message;
        let ends = header.left == 0;
        if ends && header.is_final() {
            if self.skips {
                self.unfinished = None;
                return Ok(Some(Incoming::Fragment));
            }
            let begun = self.unfinished.take().and_then(|unfinished| unfinished.message);
            let data = match begun {
                None => message::whole(&header, payload, max)?,
                Some(begun) => begun.finish(&header, payload, max)?,
            };
            return Ok(Some(Incoming::Message(data)));
        }
        let unfinished = self.unfinished.get_or_insert_default();
        let message = unfinished.message.get_or_insert_with(|| Message::new(&header));
        if !self.skips {
            message.push(&header, payload)?;
        }
        if ends {
            return Ok(Some(Incoming::Fragment));
        }
        unfinished.frame = Some(header);
        Ok(None)
    }

    /// A piece of a control frame.
    fn take_control(&mut self, header: Header, payload: &[u8]) -> Result<Option<Incoming>, Violation> {
        if header.left > 0 {
            let unfinished = self.unfinished.get_or_insert_default();
            unfinished.control.extend_from_slice(payload);
            unfinished.frame = Some(header);
            return Ok(None);
        }
        let mut begun = Vec::new();
        if let Some(unfinished) = &mut self.unfinished {
            begun = mem::take(&mut unfinished.control);
        }
        self.unfinished.take_if(|unfinished| unfinished.message.is_none());
        if begun.is_empty() {
            return control(&header, Bytes::copy_from_slice(payload)).map(Some);
        }
        begun.extend_from_slice(payload);
        control(&header, begun.into()).map(Some)
    }
}

fn control(header: &Header, payload: Bytes) -> Result<Incoming, Violation> {
    Ok(match header.opcode() {
        CLOSE => Incoming::Close(close(&payload)?),
        PING => Incoming::Ping(payload),
        _ => Incoming::Pong(payload),
    })
}

/// RFC 6455 section 5.5.1.
fn close(payload: &[u8]) -> Result<Option<(u16, Utf8Bytes)>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(Violation::Protocol("half a close code"))
        };
    };
    let code = u16::from_be_bytes(*code);
    // RFC 6455 section 7.4, and the registry of IANA, which has got 1012 to 1014 since.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::Protocol("a close code that must not be sent"));
    }
    let reason = text::check(reason)?;
    Ok(Some((code, reason.into())))
}

#[cfg(test)]
mod tests;
