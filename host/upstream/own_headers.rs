//! The headers that the gateway adds to a request: those of the configuration, unless the plugin has set them, and its own.
//! Whatever a plugin has passed on under the names of the latter, perhaps from a client, never reaches the application.

use std::time::{Duration, SystemTime};

use ring::hmac;

use crate::config::Secret;
use crate::message::Request;

/// When the gateway stops waiting for the answer: seconds since 1970, with milliseconds.
const DEADLINE: &str = "aileron-deadline";
/// The proof that the request comes from the gateway: `t=UNIX,v1=HEX`, where UNIX is the time in seconds, and HEX the
/// HMAC-SHA256 of UNIX, a line feed and the body.
const SIGNATURE: &str = "aileron-signature";

pub(super) struct OwnHeaders {
    key: Option<hmac::Key>,
    configured: Vec<(String, String)>,
}

impl OwnHeaders {
    /// Requests are signed if there is a secret.
    pub(super) fn new(secret: Option<&Secret>, configured: Vec<(String, String)>) -> Self {
        let key = |secret: &Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Self {
            key: secret.map(key),
            configured,
        }
    }

    /// Sets them on a request that is sent now, and whose answer is waited for so long.
    pub(super) fn set(&self, request: &mut Request, now: SystemTime, patience: Duration) {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let signature = self
            .key
            .as_ref()
            .map(|key| signature(key, now.as_secs(), request));
        let headers = &mut request.headers;
        headers.retain(|(name, _)| !is_spelling_of(name, DEADLINE) && !is_spelling_of(name, SIGNATURE));
        for (name, value) in &self.configured {
            if !headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                headers.push((name.clone(), value.clone()));
            }
        }
        let deadline = now + patience;
        let deadline = format!("{}.{:03}", deadline.as_secs(), deadline.subsec_millis());
        headers.push((DEADLINE.to_owned(), deadline));
        headers.extend(signature.map(|signature| (SIGNATURE.to_owned(), signature)));
    }
}

fn signature(key: &hmac::Key, time: u64, request: &Request) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{time}\n").as_bytes());
    context.update(&request.body.clone().into_bytes());
    let code: String = context
        .sign()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={time},v1={code}")
}

/// Whether a header would be the same variable in PHP, where web servers differ in what becomes a `_`.
fn is_spelling_of(name: &str, own: &str) -> bool {
    let same = |(a, b): (u8, u8)| a.eq_ignore_ascii_case(&b) || (b == b'-' && !a.is_ascii_alphanumeric());
    name.len() == own.len() && name.bytes().zip(own.bytes()).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Headers, Payload};

    fn set(own_headers: &OwnHeaders, names: &[&str]) -> Headers {
        let mut request = Request {
            method: String::new(),
            path: String::new(),
            query: String::new(),
            headers: names
                .iter()
                .map(|name| ((*name).to_owned(), "9".to_owned()))
                .collect(),
            body: Payload::Text("type=server&message=hello".into()),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_110_000_007);
        own_headers.set(&mut request, now, Duration::from_secs(10));
        request.headers
    }

    #[test]
    fn nobody_else_sets_them_in_any_spelling() {
        let names = [
            "Aileron-Deadline",
            "aileron_deadline",
            "AILERON_SIGNATURE",
            "aileron-signature",
            "aileron.signature",
        ];
        let deadline = ("aileron-deadline".to_owned(), "1764110010.007".to_owned());
        assert_eq!(
            set(&OwnHeaders::new(None, Vec::new()), &names),
            std::slice::from_ref(&deadline)
        );

        let others = set(
            &OwnHeaders::new(None, Vec::new()),
            &["aileron-signatures", "aileronxsignature"],
        );
        assert_eq!(others.len(), 3);

        let signed = set(
            &OwnHeaders::new(Some(&Secret::new("secret".to_owned())), Vec::new()),
            &names,
        );
        // printf '1764110000\ntype=server&message=hello' | openssl dgst -sha256 -hmac secret
        let signature = "t=1764110000,v1=5db490a26a62982293b1f69a0dfab293734533d4ccb9ff0464ebf6d9767bd426";
        assert_eq!(
            signed,
            [deadline, ("aileron-signature".to_owned(), signature.to_owned())]
        );
    }

    #[test]
    fn those_of_the_configuration_are_added_where_the_plugin_has_set_none() {
        let configured = [("accept", "application/json"), ("x-site", "shop")];
        let configured = configured.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = set(&OwnHeaders::new(None, configured.into()), &["Accept"]);
        let found: Vec<_> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(found[..2], [("Accept", "9"), ("x-site", "shop")]);
    }
}
