//! What a push must carry: a bearer token (RFC 6750), or a signature of the request as a whole.
//!
//! `Aileron-Signature: t=UNIX,v1=HEX`, where HEX is the HMAC-SHA256 of three lines, UNIX, the method, and path and query,
//! each ended by a line feed, and of the body behind them, by a key that both sides know. UNIX is the time in seconds. None
//! of the three can hold a line feed, so that no signature fits two requests. There may be several `v1`; other names are
//! left for what comes later.

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
    #[error("`Aileron-Signature` does not fit key, method, path and query, or body")]
    Signature,
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
        let seconds = signature.time.parse().map_err(|_| Unauthorized::Malformed)?;
        if signature.codes.is_empty() {
            return Err(Unauthorized::Malformed);
        }
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if now.abs_diff(Duration::from_secs(seconds)) > TOLERANCE {
            return Err(Unauthorized::Time);
        }
        Ok(signature)
    }

    /// Whether it was made with one of the keys, for this request.
    pub(super) fn check(&self, keys: &[Secret], head: &Parts, body: &[u8]) -> Result<(), Unauthorized> {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let signed = format!("{}\n{}\n{target}\n", self.time, head.method);
        let codes: Vec<_> = self.codes.iter().filter_map(|code| decode(code)).collect();
        let fits = |key: &Secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
            let mut context = hmac::Context::with_key(&key);
            context.update(signed.as_bytes());
            context.update(body);
            let right = context.sign();
            codes.iter().any(|code| right.as_ref().ct_eq(code).into())
        };
        if keys.iter().any(fits) {
            Ok(())
        } else {
            Err(Unauthorized::Signature)
        }
    }
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
        let scheme = match self {
            Self::Token | Self::Neither => "Bearer",
            _ => "Aileron-Signature",
        };
        let headers = [(WWW_AUTHENTICATE, scheme)];
        (StatusCode::UNAUTHORIZED, headers, format!("{self}\n")).into_response()
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
            ("", Unauthorized::Malformed),
        ] {
            assert_eq!(parse(text).unwrap_err(), refusal, "{text}");
        }
    }
}
