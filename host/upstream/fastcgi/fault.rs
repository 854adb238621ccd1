//! What goes wrong between here and PHP-FPM, and the words for it: where, why, and what to do about it.

use std::io::{Error, ErrorKind};

use super::record::{Malformed, ProtocolStatus};
use super::response::Unusable;
use super::{Address, Settings};
use crate::message::Failure;

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Fault {
    CannotConnect(Error),
    /// Nothing of the request could be sent.
    Unsent(Error),
    /// The connection ended before the answer did.
    Closed,
    /// The connection failed in another way.
    Broken(Error),
    Malformed(Malformed),
    /// The status is not `Complete`.
    Rejected(ProtocolStatus),
    Unusable(Unusable),
    /// FPM itself answered with this status: it did not run the script.
    NotRun(u16),
    /// Nobody waits for an answer any more.
    GivenUp,
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Unusable> for Fault {
    fn from(unusable: Unusable) -> Self {
        Self::Unusable(unusable)
    }
}

impl Fault {
    /// Whether nothing of the request went out, so that it can be sent again.
    pub(super) fn is_unsent(&self) -> bool {
        matches!(self, Self::CannotConnect(_) | Self::Unsent(_))
    }

    pub(super) fn describe(self, settings: &Settings) -> Failure {
        let Settings {
            address,
            script,
            max_answer,
            ..
        } = settings;
        match self {
            Self::CannotConnect(error) => {
                let (cause, cure) = (cause(&error), cure(&error, address));
                Failure::Unreachable(format!("cannot connect to {address}: {cause}{cure}"))
            }
            Self::Unsent(error) => {
                Failure::Unreachable(format!("cannot send to {address}: {}", cause(&error)))
            }
            Self::Closed => Failure::Unreachable(format!(
                "{address} closed the connection before its answer was complete (php-fpm's log tells if a child \
                 crashed or was killed)"
            )),
            Self::Broken(error) => Failure::Unreachable(format!(
                "the connection to {address} broke before the answer was complete: {}",
                cause(&error)
            )),
            Self::Malformed(malformed) => bad_answer(format!(
                "{address} sent {malformed}, which is not a fastcgi answer (does php-fpm listen there?)"
            )),
            Self::Rejected(ProtocolStatus::Overloaded) => {
                Failure::Overloaded(format!("{address} says that it is overloaded"))
            }
            Self::Rejected(status) => bad_answer(format!("{address} rejected the request: {status:?}")),
            Self::NotRun(403) => bad_answer(format!(
                "php-fpm at {address} may not run `{script}` (`security.limit_extensions` of its pool names the endings \
                 that it runs)"
            )),
            Self::NotRun(_) => bad_answer(format!(
                "php-fpm at {address} finds no script `{script}` (`script` must be the absolute path as php-fpm sees it, \
                 and its user must be allowed to read the file)"
            )),
            Self::GivenUp => Failure::Timeout(format!("nobody waits for the answer of {address} any more")),
            Self::Unusable(Unusable::TooLarge) => Failure::TooLarge(format!(
                "the answer of {address} is over {max_answer} bytes (max-answer)"
            )),
            Self::Unusable(Unusable::Bad(problem)) => {
                bad_answer(format!("the answer of {address} is not a cgi answer: {problem}"))
            }
        }
    }
}

/// Empty if there is nothing to suggest.
fn cure(error: &Error, address: &Address) -> &'static str {
    match (error.kind(), address) {
        (ErrorKind::ConnectionRefused, _) => " (is php-fpm running and listening there?)",
        (ErrorKind::NotFound, Address::Unix(_)) => " (is php-fpm running, with this `listen`?)",
        (ErrorKind::PermissionDenied, Address::Unix(_)) => {
            " (`listen.owner`, `listen.group` and `listen.mode` of the php-fpm pool must let this user in)"
        }
        // With a Unix socket, connections do not wait for room in the backlog (connect(2)).
        (ErrorKind::WouldBlock, Address::Unix(_)) => {
            " (its backlog is full: php-fpm needs a higher `pm.max_children` or `listen.backlog`)"
        }
        _ => "",
    }
}

/// The text of the operating system, without the error number that the standard library adds.
fn cause(error: &Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn bad_answer(problem: String) -> Failure {
    Failure::Other("bad-answer".to_owned(), problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_connection_from_being_made_comes_with_its_cure() {
        let tcp = Address::Tcp("127.0.0.1:9000".to_owned());
        let unix = Address::Unix("/run/php/fpm.sock".into());
        // The numbers are Linux's: ECONNREFUSED, ENOENT, EACCES, EAGAIN, ENETUNREACH.
        let table = [
            (
                &tcp,
                111,
                "fastcgi://127.0.0.1:9000: Connection refused (is php-fpm running and listening there?)",
            ),
            (
                &unix,
                2,
                "fastcgi+unix:///run/php/fpm.sock: No such file or directory \
                 (is php-fpm running, with this `listen`?)",
            ),
            (
                &unix,
                13,
                "fastcgi+unix:///run/php/fpm.sock: Permission denied (`listen.owner`, `listen.group` and \
                 `listen.mode` of the php-fpm pool must let this user in)",
            ),
            (
                &unix,
                11,
                "fastcgi+unix:///run/php/fpm.sock: Resource temporarily unavailable (its backlog is full: php-fpm \
                 needs a higher `pm.max_children` or `listen.backlog`)",
            ),
            (&tcp, 101, "fastcgi://127.0.0.1:9000: Network is unreachable"),
        ];
        for (address, number, expected) in table {
            let settings = Settings {
                address: address.clone(),
                script: String::new(),
                keep: 0,
                max_answer: 0,
                timeout: std::time::Duration::ZERO,
                name: "php".into(),
                metrics: crate::metrics::Metrics::default().upstream("php"),
                log_limit: Default::default(),
                inbound: crate::budget::Budget::new(usize::MAX),
                resolve_links: false,
                root: None,
                path: None,
                params: Vec::new(),
            };
            let failure = Fault::CannotConnect(Error::from_raw_os_error(number)).describe(&settings);
            assert_eq!(
                failure,
                Failure::Unreachable(format!("cannot connect to {expected}"))
            );
        }
    }
}
