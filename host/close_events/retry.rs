//! Which requests are sent again.

use crate::message::{Failure, Outcome};

/// Why a request must be sent again. A status below 500 counts as an answer, whatever it says; a request that cannot be sent
/// at all will not do better the next time.
pub(super) fn failure(outcome: &Outcome) -> Option<String> {
    match outcome {
        Ok(response) if response.status >= 500 => Some(format!("status {}", response.status)),
        Ok(_) | Err(Failure::TooLarge(_)) => None,
        Err(Failure::Other(kind, _)) if kind == "bad-request" => None,
        Err(failure) => Some(failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Payload, Response};

    #[test]
    fn what_php_has_answered_is_not_sent_again() {
        let status = |status| {
            Ok(Response {
                status,
                headers: Vec::new(),
                body: Payload::Text("".into()),
            })
        };
        for outcome in [
            status(200),
            status(404),
            Err(Failure::TooLarge(String::new())),
            Err(Failure::Other("bad-request".to_owned(), String::new())),
        ] {
            assert_eq!(failure(&outcome), None, "{outcome:?}");
        }
        for outcome in [
            status(500),
            status(503),
            Err(Failure::Timeout(String::new())),
            Err(Failure::Unreachable(String::new())),
            Err(Failure::Other("bad-answer".to_owned(), String::new())),
        ] {
            assert!(failure(&outcome).is_some(), "{outcome:?}");
        }
    }
}
