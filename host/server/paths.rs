//! Paths that mean something else to a proxy in front than to the gateway.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What those hear who ask for one with dot segments.
pub(super) const DOT_SEGMENTS: &str = "the path may not have the segments `.` and `..`, in any spelling";

/// Whether a path has a segment `.` or `..` (RFC 3986 section 3.3), in whatever spelling: `%2e`, `..%2f`, `..\\`. A proxy that
/// lets `/public/` through resolves them, or does not, and passes the path on as it came, so that it would reach another
/// route than the one that the proxy has let in. Browsers and HTTP libraries resolve them before they ask.
pub(super) fn has_dot_segments(path: &str) -> bool {
    let decoded: Cow<'_, [u8]> = percent_decode_str(path).into();
    decoded
        .split(|byte| matches!(byte, b'/' | b'\\'))
        .any(|segment| matches!(segment, b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_found_in_every_spelling() {
        for path in [
            "/admin/../ws",
            "/admin/%2e%2e/ws",
            "/admin/%2E./ws",
            "/admin/..%2fws",
            "/admin/..%2Fws",
            "/admin/..%5cws",
            "/admin/..\\ws",
            "/admin%2f..%2fws",
            "/./ws",
            "/ws/..",
            "..",
        ] {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in [
            "/ws",
            "/",
            "",
            "/..ws",
            "/ws...",
            "/a.b/..c",
            "/%2e%2e%2e/",
            "/50%",
        ] {
            assert!(!has_dot_segments(path), "{path}");
        }
    }
}
