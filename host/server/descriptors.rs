//! File descriptors: every connection takes one, and so does everything else. They are shared out at the start, so that
//! clients cannot take those that upstreams, pushes and plugins need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For files that are opened now and then: plugins, certificates, the configuration, standard streams of children.
const FILES: usize = 64;

/// How the descriptors are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// As many as the process may have open.
    pub limit: usize,
    /// Clients that can be connected.
    pub clients: usize,
    /// Connections of one listener that have no request under way: before their handshake, and between pushes.
    pub waiting: usize,
}

impl Descriptors {
    /// More connections than these need not wait at a time; each may hold some 32 KB.
    const MOST_WAITING: usize = 4096;

    /// Raises the limit as far as it goes without privileges, and shares out what is left beside those that are open
    /// already. `requests` is how many requests to upstreams may be under way.
    pub fn prepare(requests: usize) -> Self {
        let mut limits = getrlimit(Resource::Nofile);
        let highest = Rlimit {
            current: limits.maximum,
            maximum: limits.maximum,
        };
        match setrlimit(Resource::Nofile, highest) {
            Ok(()) => limits = highest,
            Err(error) => tracing::warn!(%error, "the limit of file descriptors cannot be raised"),
        }
        let limit = limits
            .current
            .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self::share_out(limit, limit.saturating_sub(open), requests)
    }

    fn share_out(limit: usize, free: usize, requests: usize) -> Self {
        let waiting = (free / 64 + 48).min(free / 12).clamp(4, Self::MOST_WAITING);
        let others = requests.saturating_add(FILES).min(free / 3);
        Self {
            limit,
            // There may be two listeners.
            clients: free.saturating_sub(others + 2 * waiting).max(1),
            waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_some() {
        let share = |limit, requests| Descriptors::share_out(limit, limit - 20, requests);
        for (limit, requests, clients, waiting) in [
            (60, 128, 19, 4),
            (1024, 128, 686, 63),
            (1024, 1, 813, 63),
            (20_000, 128, 19_068, 360),
            (1_048_576, 128, 1_040_172, 4096),
            (1_048_576, usize::MAX, 690_846, 4096),
        ] {
            let shared = share(limit, requests);
            assert_eq!(
                (shared.clients, shared.waiting),
                (clients, waiting),
                "{limit} {requests}"
            );
        }
    }
}
