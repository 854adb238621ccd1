//! What a push must carry: a bearer token (RFC 6750), or a signature of the request as a whole.
//!
//! `Aileron-Signature: t=UNIX,v1=HEX`, where HEX is the HMAC-SHA256 of five lines, UNIX, the method, path and query, the
//! headers `Content-Type` and `Idempotency-Key` (empty if they are missing), each ended by a line feed, and of the body behind
//! them, by a key that both sides know. UNIX is the time in seconds, with or without a fraction. None of the five can hold
//! a line feed, so that no signature fits two requests. There may be several `v1`; other names are left for what comes
//! later. A signature is good for one request.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use ring::hmac;
use subtle::ConstantTimeEq;

use crate::config::{PushAccess, Secret};

/// How far the sender's clock may be off, including the time that the push is under way.
const TOLERANCE: Duration = Duration::from_secs(300);
const HEADER: &str = "aileron-signature";

/// What a request's head says about its credential.
#[derive(Debug)]
pub(super) enum Credential {
    /// None is needed.
    NoneTaken,
    /// It is valid.
    Token,
    /// The body is needed to tell.
    Signature(Signature),
}

/// A signature whose time is valid.
#[derive(Debug)]
pub(super) struct Signature {
    time: String,
    /// In hexadecimal.
    codes: Vec<String>,
}

/// Why a credential is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unauthorized {
    #[error("`Authorization: Bearer` with a token of [push] is missing or wrong")]
    Token,
    #[error("`Aileron-Signature: t=…,v1=…`, made with a signature key of [push], is missing")]
    NoSignature,
    #[error(
        "neither `Authorization: Bearer` with a token of [push] nor `Aileron-Signature` is there and right"
    )]
    Neither,
    #[error(
        "`Aileron-Signature` must be t=UNIX,v1=HEX: the time in seconds and the HMAC-SHA256 in hexadecimal"
    )]
    Malformed,
    #[error("the time of `Aileron-Signature` is more than five minutes off (are both clocks right?)")]
    Time,
    #[error(
        "`Aileron-Signature` does not fit key, method, path and query, `Content-Type`, `Idempotency-Key`, or body"
    )]
    Signature,
    #[error(
        "`Aileron-Signature` has been used already; sign each request anew, with the time to the microsecond"
    )]
    Replayed,
    #[error("more requests are signed than the gateway can remember for five minutes; use a token instead")]
    TooMany,
}

/// Checks a credential as far as the head allows, so that no body is read from a client without one.
pub(super) fn of_head(
    access: &PushAccess,
    headers: &HeaderMap,
    now: SystemTime,
) -> Result<Credential, Unauthorized> {
    if has_token(&access.tokens, headers) {
        return Ok(Credential::Token);
    }
    match headers.get(HEADER) {
        Some(value) if !access.signature_keys.is_empty() => {
            Signature::parse(value, now).map(Credential::Signature)
        }
        _ if access.signature_keys.is_empty() => Err(Unauthorized::Token),
        _ if access.tokens.is_empty() => Err(Unauthorized::NoSignature),
        _ => Err(Unauthorized::Neither),
    }
}

fn has_token(tokens: &[Secret], headers: &HeaderMap) -> bool {
    let header = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let candidate = bearer(header.unwrap_or_default());
    candidate.is_some_and(|candidate| tokens.iter().any(|token| token.matches(candidate)))
}

/// The case of the scheme's name does not matter (RFC 9110 section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

impl Signature {
    fn parse(header: &HeaderValue, now: SystemTime) -> Result<Self, Unauthorized> {
        let text = header.to_str().map_err(|_| Unauthorized::Malformed)?;
        let items = || text.split(',').filter_map(|item| item.trim().split_once('='));
        let time = items().find_map(|(name, value)| (name == "t").then_some(value));
        let codes = items()
            .filter(|(name, _)| *name == "v1")
            .map(|(_, value)| value.to_owned());
        let signature = Self {
            time: time.ok_or(Unauthorized::Malformed)?.to_owned(),
            codes: codes.collect(),
        };
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        if signature.codes.is_empty() || !signature.time.chars().all(is_number) {
            return Err(Unauthorized::Malformed);
        }
        let seconds = signature.time.parse().map_err(|_| Unauthorized::Malformed)?;
        // A number too large for a duration is too far off in any case.
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        if since_epoch(now).abs_diff(time) > TOLERANCE {
            return Err(Unauthorized::Time);
        }
        Ok(signature)
    }

    /// Whether it was made with one of the keys, for this request, and has not been used before.
    pub(super) fn check(
        &self,
        keys: &[Secret],
        head: &Parts,
        body: &[u8],
        used: &UsedSignatures,
        now: SystemTime,
    ) -> Result<(), Unauthorized> {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let header = |name| {
            let values = head.headers.get_all(name).iter().map(HeaderValue::as_bytes);
            values.collect::<Vec<_>>().join(&b", "[..])
        };
        let (content_type, idempotency_key) = (header("content-type"), header("idempotency-key"));
        let lines = [
            self.time.as_bytes(),
            head.method.as_str().as_bytes(),
            target.as_bytes(),
            &content_type,
            &idempotency_key,
            body,
        ];
        let tag = |key: &Secret| {
            let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()));
            for (index, line) in lines.into_iter().enumerate() {
                if index > 0 {
                    context.update(b"\n");
                }
                context.update(line);
            }
            context.sign()
        };
        let tags: Vec<_> = keys.iter().map(tag).collect();
        let codes: Vec<_> = self.codes.iter().filter_map(|code| decode(code)).collect();
        let fits = |tag: &hmac::Tag| codes.iter().any(|code| tag.as_ref().ct_eq(code).into());
        if !tags.iter().any(fits) {
            return Err(Unauthorized::Signature);
        }
        used.add(&tags, now)
    }
}

/// The signatures of the last minutes: each is good for one request only.
#[derive(Default)]
pub(in crate::server) struct UsedSignatures(Mutex<Used>);

#[derive(Default)]
struct Used {
    /// The beginnings of their codes. There is one for each key, since a request may be signed with several.
    codes: HashSet<[u8; 16]>,
    /// The same, in the order of their use.
    order: VecDeque<(Duration, [u8; 16])>,
}

impl UsedSignatures {
    /// Their memory is some 60 bytes each.
    const MAX: usize = 500_000;

    fn add(&self, tags: &[hmac::Tag], now: SystemTime) -> Result<(), Unauthorized> {
        let now = since_epoch(now);
        // Nothing below leaves the codes half changed, so a panic elsewhere does not spoil them.
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = &mut *used;
        // One from a clock that is ahead is good for twice the tolerance.
        while let Some((since, code)) = used.order.front()
            && now.saturating_sub(*since) > 2 * TOLERANCE
        {
            used.codes.remove(code);
            used.order.pop_front();
        }
        let codes = || tags.iter().filter_map(|tag| tag.as_ref().first_chunk::<16>());
        if codes().any(|code| used.codes.contains(code)) {
            return Err(Unauthorized::Replayed);
        }
        if used.order.len() + tags.len() > Self::MAX {
            return Err(Unauthorized::TooMany);
        }
        for code in codes() {
            used.codes.insert(*code);
            used.order.push_back((now, *code));
        }
        Ok(())
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Bytes from hexadecimal.
fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

impl IntoResponse for Unauthorized {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        let scheme = match self {
            Self::Replayed => return (StatusCode::CONFLICT, text).into_response(),
            Self::TooMany => return (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
            Self::Token | Self::Neither => "Bearer",
            _ => "Aileron-Signature",
        };
        (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, scheme)], text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_decoded() {
        assert_eq!(decode("00fFa1"), Some(vec![0, 255, 161]));
        assert_eq!(decode(""), Some(vec![]));
        for bad in ["0", "0g", "+1", "é0"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_signature_is_in_time_or_refused() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let parse = |text: &str| Signature::parse(&HeaderValue::from_str(text).unwrap(), now);
        for text in [
            "t=1000000,v1=00",
            "t=999700,v1=00",
            "v1=00, t=1000300, v2=x",
            "t=1000000,v1=00,v1=01",
            "t=1000000.123456,v1=00",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for (text, refusal) in [
            ("t=999699,v1=00", Unauthorized::Time),
            ("t=1000301,v1=00", Unauthorized::Time),
            ("t=18446744073709551615,v1=00", Unauthorized::Time),
            ("t=1000000", Unauthorized::Malformed),
            ("v1=00", Unauthorized::Malformed),
            ("t=-1,v1=00", Unauthorized::Malformed),
            ("t=now,v1=00", Unauthorized::Malformed),
            ("t=nan,v1=00", Unauthorized::Malformed),
            ("t=1e6,v1=00", Unauthorized::Malformed),
            ("t=1.000.000,v1=00", Unauthorized::Malformed),
            ("t=,v1=00", Unauthorized::Malformed),
            ("", Unauthorized::Malformed),
        ] {
            assert_eq!(parse(text).unwrap_err(), refusal, "{text}");
        }
    }

    #[test]
    fn a_signature_is_used_once_for_as_long_as_it_is_good() {
        let used = UsedSignatures::default();
        let tag = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"request");
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        let add = |keys: &[&[u8]], seconds| {
            let tags: Vec<_> = keys.iter().map(|key| tag(key)).collect();
            used.add(&tags, at(seconds))
        };
        assert_eq!(add(&[b"old"], 0), Ok(()));
        assert_eq!(add(&[b"old"], 600), Err(Unauthorized::Replayed));
        assert_eq!(
            add(&[b"new", b"old"], 1),
            Err(Unauthorized::Replayed),
            "while keys are exchanged"
        );
        assert_eq!(add(&[b"old"], 601), Ok(()), "it would be refused for its time");
        assert_eq!(used.0.lock().unwrap().order.len(), 1);
    }
}
