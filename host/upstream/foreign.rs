//! Answers that the script did not write: pages of web servers, what PHP-FPM says without a script, and errors that PHP shows
//! in place of an answer. They are failures: whoever asked has not been heard.

use crate::message::{Payload, Response};

/// How much of a shown error is repeated, in bytes.
const EXCERPT: usize = 300;

/// What such an answer is, and what to do about it. None: the script may have written it.
pub(super) fn cause(response: &Response) -> Option<String> {
    let Payload::Text(body) = &response.body else {
        return None;
    };
    let status = response.status;
    if status == 404 && body.as_str() == "File not found.\n" {
        return Some(
            "php-fpm found no script where the web server sent it (does the path of `url` exist?)".to_owned(),
        );
    }
    if status >= 300 && !is_php(response) && is_page_of_server(status, body) {
        let cure = cure(response);
        return Some(format!(
            "the web server answered in place of PHP, with status {status}: {cure}"
        ));
    }
    if status < 500
        && let Some(error) = shown_error(body)
    {
        let end = error.floor_char_boundary(EXCERPT);
        let error = error.get(..end).unwrap_or(error);
        return Some(format!(
            "PHP shows an error in place of an answer, with status {status} (without `display_errors` it would be 500): \
             {error:?}"
        ));
    }
    None
}

/// Whether it says that it is of PHP, or of this application.
fn is_php(response: &Response) -> bool {
    response
        .headers
        .iter()
        .any(|(name, _)| name == "x-powered-by" || name.starts_with("aileron-"))
}

/// nginx, Apache, lighttpd and HAProxy all begin the title or the heading of their own pages with the status.
fn is_page_of_server(status: u16, body: &str) -> bool {
    let begins_with_status = |tag: &str| {
        body.split_once(tag).is_some_and(|(_, rest)| {
            rest.strip_prefix(&status.to_string())
                .is_some_and(|rest| rest.starts_with(' '))
        })
    };
    body.trim_start().starts_with('<') && (begins_with_status("<title>") || begins_with_status("<h1>"))
}

fn cure(response: &Response) -> String {
    let cure = match response.status {
        301..=308 => {
            let mut headers = response.headers.iter();
            let location = headers.find_map(|(name, value)| (name == "location").then_some(value.as_str()));
            return format!(
                "it redirects to `{}`, which `url` should name",
                location.unwrap_or_default()
            );
        }
        401 => "it wants a user and a password, which `url` may contain",
        403 => "it does not let the gateway in, or may not read the file",
        404 | 405 => "`url` must name a path that it hands on to PHP",
        413 => {
            "it takes no body of this size, and a form is up to three times as long as its message (nginx: \
             `client_max_body_size`)"
        }
        502..=504 => "it gets no answer of PHP (is php-fpm running, and has it free children?)",
        _ => "its error log tells why",
    };
    cure.to_owned()
}

/// An error that ended the script is the last thing that PHP shows, with HTML around it or without. Only the end of an answer
/// is looked at, unless it is that of an error.
fn shown_error(body: &str) -> Option<&str> {
    const HTML: [&str; 2] = ["<b>Fatal error</b>: ", "<b>Parse error</b>: "];
    const PLAIN: [&str; 2] = ["\nFatal error: ", "\nParse error: "];
    let (end, before_line, starts) = match body.strip_suffix("</b><br />\n") {
        Some(end) => (end, " on line <b>", HTML),
        None => (body.strip_suffix('\n')?, " on line ", PLAIN),
    };
    let before = end.trim_end_matches(|c: char| c.is_ascii_digit());
    if before.len() == end.len() {
        return None;
    }
    let before = before.strip_suffix(before_line)?;
    let start = starts.iter().filter_map(|start| before.rfind(start)).max()?;
    body.get(start..).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(status: u16, headers: &[(&str, &str)], body: &str) -> Option<String> {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        cause(&Response {
            status,
            headers: headers.collect(),
            body: Payload::Text(body.into()),
        })
    }

    #[test]
    fn pages_of_web_servers_are_no_answers() {
        let nginx = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n";
        let apache = "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n<html><head>\n<title>403 Forbidden</title>";
        let haproxy = "<html><body><h1>503 Service Unavailable</h1>\nNo server is available";
        let moved = "<html>\r\n<head><title>301 Moved Permanently</title></head>";
        for (status, headers, body, words) in [
            (413, &[][..], nginx, "client_max_body_size"),
            (403, &[], apache, "does not let the gateway in"),
            (503, &[], haproxy, "is php-fpm running"),
            (
                301,
                &[("location", "https://x/")],
                moved,
                "redirects to `https://x/`",
            ),
            (404, &[], "File not found.\n", "found no script"),
        ] {
            let cause = found(status, headers, body).unwrap_or_default();
            assert!(cause.contains(words), "{status}: {cause}");
        }
    }

    #[test]
    fn what_a_script_may_have_written_is_an_answer() {
        for (status, headers, body) in [
            (404, &[][..], "File not found."),
            (404, &[], "<title>Not Found</title>"),
            (404, &[], "<title>4040 things</title>"),
            (
                403,
                &[("x-powered-by", "PHP/8.2")],
                "<title>403 Forbidden</title>",
            ),
            (403, &[("aileron-close", "4001")], "<title>403 Forbidden</title>"),
            (404, &[], "<title>403 Forbidden</title>"),
            (200, &[], "<title>200 ways to fly</title>"),
            (403, &[], "no <title>403 Forbidden</title>"),
            (302, &[("location", "/login")], ""),
            (200, &[], "Fatal error: on line 3\n"),
            (200, &[], "see on line 3\n"),
            (200, &[], "<b>Fatal error</b>: x on line <b>three</b><br />\n"),
            (500, &[], "\nFatal error: x on line 3\n"),
        ] {
            assert_eq!(found(status, headers, body), None, "{status} {body}");
        }
    }

    #[test]
    fn an_error_that_is_shown_is_no_answer() {
        let html = "half<br />\n<b>Fatal error</b>:  Uncaught Error: x in /a.php:3\nStack trace:\n#0 {main}\n  thrown in \
                    <b>/a.php</b> on line <b>3</b><br />\n";
        let plain = "half\nFatal error: Uncaught Error: x in /a.php:3\n  thrown in /a.php on line 3\n";
        let parse = "<br />\n<b>Parse error</b>:  syntax error in <b>/a.php</b> on line <b>3</b><br />\n";
        for body in [html, plain, parse] {
            let cause = found(200, &[], body).unwrap_or_default();
            assert!(
                cause.contains("display_errors") && cause.contains("rror"),
                "{body}: {cause}"
            );
        }
    }
}
