//! What PHP finds in `$_SERVER`: the meta-variables of CGI (RFC 3875 section 4.1) and those that web servers add for
//! PHP-FPM.

use std::borrow::Cow;

use super::record::{MAX_CONTENT, PairTooLong, ParamsWriter, put_pair};
use crate::message::{Connection, Failure, Request};

const SOFTWARE: &str = concat!("aileron/", env!("CARGO_PKG_VERSION"));

/// Headers that do not become `HTTP_` variables.
const LEFT_OUT: [&str; 12] = [
    // They have variables of their own, and the real size counts (RFC 3875 section 4.1.18).
    "content-length",
    "content-type",
    // They are about the connection that the request came over (RFC 9110 section 7.6.1).
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // HTTP clients in PHP would take HTTP_PROXY for the setting of that name (CVE-2016-5385, "httpoxy").
    "proxy",
];

/// The PHP file to run, and the variables that are the same for all requests.
#[derive(Debug)]
pub(super) struct Script {
    /// The path that a browser would ask for: that of the file below the document root.
    name: String,
    /// What requests ask for that name no path.
    path: String,
    query: String,
    /// Those variables, encoded once; or why they cannot be sent.
    variables: Result<Vec<u8>, Failure>,
    /// The variables of the configuration. They come last, since PHP takes the last of a name.
    configured: Result<Vec<u8>, Failure>,
}

/// What a script is made from.
#[derive(Default)]
pub(super) struct Place<'a> {
    /// The absolute path of the file.
    pub(super) filename: &'a str,
    /// The document root; none for the directory of the file.
    pub(super) root: Option<&'a str>,
    /// The path, perhaps with a query, of requests that name none; none for that of the file below the root.
    pub(super) path: Option<&'a str>,
    /// Variables beside the usual ones, or in place of them.
    pub(super) params: &'a [(String, String)],
}

impl Script {
    pub(super) fn new(place: &Place<'_>) -> Self {
        let Place {
            filename,
            root,
            path,
            params,
        } = *place;
        let (directory, _) = filename.rsplit_once('/').unwrap_or(("", filename));
        // A script that a link leads out of it has the directory that it is in.
        let is_below = |root: &&str| {
            filename
                .strip_prefix(root)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let root = root.filter(is_below);
        let root = root.unwrap_or(directory);
        let name = filename.strip_prefix(root).unwrap_or(filename);
        let name = format!("/{}", name.trim_start_matches('/'));
        let root = if root.is_empty() { "/" } else { root };
        let variables = [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_SOFTWARE", SOFTWARE),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SCRIPT_FILENAME", filename),
            ("SCRIPT_NAME", &name),
            ("DOCUMENT_ROOT", root),
            // php-fpm asks for it when PHP was built with `--enable-force-cgi-redirect`, as in web servers' own lists.
            ("REDIRECT_STATUS", "200"),
            ("SERVER_ADDR", "127.0.0.1"),
            // No header becomes a variable of this name, so the browser of a web server in front of the same PHP cannot set
            // it: PHP knows by it who asks.
            ("AILERON_REQUEST", "1"),
        ];
        let configured = params.iter().map(|(name, value)| (&**name, &**value));
        let path = path.unwrap_or(&name);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Self {
            path: path.to_owned(),
            query: query.to_owned(),
            variables: encoded(variables.into_iter()),
            configured: encoded(configured),
            name,
        }
    }
}

fn encoded<'a>(mut variables: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Vec<u8>, Failure> {
    let mut encoded = Vec::new();
    variables.try_for_each(|(name, value)| {
        check(name, value)?;
        put_pair(&mut encoded, name, value).map_err(|PairTooLong| too_long(name, value))?;
        let fits = encoded.len() <= MAX_CONTENT;
        fits.then_some(()).ok_or_else(|| too_long(name, value))
    })?;
    Ok(encoded)
}

/// Writes all variables of a request. A request that does not fit into them is refused as `bad-request`.
pub(super) fn put_params(
    out: &mut Vec<u8>,
    script: &Script,
    request: &Request,
    client: Option<&Connection>,
) -> Result<(), Failure> {
    let mut params = ParamsWriter::new(out);
    params.put_encoded(script.variables.as_ref().map_err(Failure::clone)?);
    put_variables(&mut params, script, request)?;
    put_client(&mut params, request, client)?;
    put_headers(&mut params, request)?;
    params.put_encoded(script.configured.as_ref().map_err(Failure::clone)?);
    params.end();
    Ok(())
}

fn put_variables(params: &mut ParamsWriter<'_>, script: &Script, request: &Request) -> Result<(), Failure> {
    let method = if request.method.is_empty() {
        "POST"
    } else {
        &request.method
    };
    let (path, query) = if request.path.is_empty() {
        (&script.path, &script.query)
    } else {
        (&request.path, &String::new())
    };
    let query = match (query.as_str(), request.query.as_str()) {
        (own, "") => Cow::Borrowed(own),
        ("", more) => Cow::Borrowed(more),
        (own, more) => Cow::Owned(format!("{own}&{more}")),
    };
    let uri = match &*query {
        "" => Cow::Borrowed(path.as_str()),
        query => Cow::Owned(format!("{path}?{query}")),
    };
    // What is behind the script's own path is for the script (RFC 3875 section 4.1.5). PHP makes PHP_SELF of both.
    let path_info = path
        .strip_prefix(&script.name)
        .filter(|rest| rest.starts_with('/'));
    let document = format!("{}{}", script.name, path_info.unwrap_or_default());
    let length = request.body.len().to_string();
    let variables = [
        ("REQUEST_METHOD", method),
        ("REQUEST_URI", &uri),
        ("QUERY_STRING", &query),
        ("DOCUMENT_URI", &document),
        // Always there, as it is under nginx, though RFC 3875 section 4.1.2 has it only with a body.
        ("CONTENT_LENGTH", &length),
    ];
    let content_type = header(request, "content-type").map(|value| ("CONTENT_TYPE", value));
    let path_info = path_info.map(|path_info| ("PATH_INFO", path_info));
    for (name, value) in variables.into_iter().chain(content_type).chain(path_info) {
        put(params, name, value)?;
    }
    Ok(())
}

/// As a web server would that the client has asked itself. Without one the gateway is the client.
fn put_client(
    params: &mut ParamsWriter<'_>,
    request: &Request,
    client: Option<&Connection>,
) -> Result<(), Failure> {
    let is_encrypted = client.is_some_and(Connection::is_encrypted);
    let asked = client.and_then(Connection::host);
    let own = header(request, "host");
    let (name, port) = host_and_port(own.or(asked).unwrap_or_default(), is_encrypted);
    let (address, remote_port) = match client {
        Some(client) => {
            // A proxy tells the address, and not the port.
            let is_direct = client.remote_address.ip().to_canonical() == client.client_address;
            let port = if is_direct {
                client.remote_address.port()
            } else {
                0
            };
            (client.client_address.to_string(), port.to_string())
        }
        None => ("127.0.0.1".to_owned(), "0".to_owned()),
    };
    let variables = [
        ("SERVER_NAME", name),
        ("SERVER_PORT", port),
        ("REMOTE_ADDR", &*address),
        ("REMOTE_PORT", &*remote_port),
        ("REQUEST_SCHEME", if is_encrypted { "https" } else { "http" }),
    ];
    let https = is_encrypted.then_some(("HTTPS", "on"));
    // A header of the request itself becomes this variable, too.
    let host = asked.filter(|_| own.is_none()).map(|host| ("HTTP_HOST", host));
    for (name, value) in variables.into_iter().chain(https).chain(host) {
        put(params, name, value)?;
    }
    Ok(())
}

fn put_headers(params: &mut ParamsWriter<'_>, request: &Request) -> Result<(), Failure> {
    let mut headers = Vec::with_capacity(request.headers.len());
    for (name, value) in &request.headers {
        if has_variable(name)? {
            headers.push((name.as_str(), value.as_str()));
        }
    }
    // A stable sort: fields of one name stay in order. PHP would keep only the last of them.
    headers.sort_by(|(a, _), (b, _)| lower_case(a).cmp(lower_case(b)));
    let mut variable = String::new();
    for fields in headers.chunk_by(|(a, _), (b, _)| a.eq_ignore_ascii_case(b)) {
        let [(name, first), others @ ..] = fields else {
            continue;
        };
        let mut value = Cow::Borrowed(*first);
        for (_, other) in others {
            // Cookies are joined differently from lists (RFC 9110 section 5.3, RFC 9113 section 8.2.3).
            value += if name.eq_ignore_ascii_case("cookie") {
                "; "
            } else {
                ", "
            };
            value += *other;
        }
        variable.clear();
        variable.push_str("HTTP_");
        variable.extend(
            name.chars()
                .map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() }),
        );
        put(params, &variable, &value)?;
    }
    Ok(())
}

fn put(params: &mut ParamsWriter<'_>, name: &str, value: &str) -> Result<(), Failure> {
    check(name, value)?;
    params
        .put(name, value)
        .map_err(|PairTooLong| too_long(name, value))
}

/// FastCGI could carry them, but what PHP does with such values (a header, a log, a path in C) would break.
fn check(name: &str, value: &str) -> Result<(), Failure> {
    if value.bytes().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n')) {
        return Err(bad_request(format!(
            "`{name}` has a NUL or a line break in it and cannot be sent"
        )));
    }
    Ok(())
}

fn too_long(name: &str, value: &str) -> Failure {
    bad_request(format!(
        "`{name}` has {} bytes; php-fpm takes less than 64 KiB",
        value.len()
    ))
}

/// Whether a header becomes a variable.
///
/// Names with a `_` and other unusual ones are left out, as in nginx and Apache: `a_b` and `a-b` would be the same variable,
/// so a client could fake a header of the plugin that PHP trusts.
fn has_variable(name: &str) -> Result<bool, Failure> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
        return Err(bad_request(format!("{name:?} is not a header name")));
    }
    let is_usual = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    Ok(is_usual
        && !LEFT_OUT
            .iter()
            .any(|left_out| name.eq_ignore_ascii_case(left_out)))
}

fn lower_case(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| byte.to_ascii_lowercase())
}

fn header<'a>(request: &'a Request, wanted: &str) -> Option<&'a str> {
    let field = request
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    field.map(|(_, value)| value.as_str())
}

/// Splits the value of a `Host` header. An IPv6 address keeps its brackets (RFC 3875 section 4.1.14).
fn host_and_port(host: &str, is_encrypted: bool) -> (&str, &str) {
    let usual = if is_encrypted { "443" } else { "80" };
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() && !is_bare_ipv6(name) => {
            (name, port)
        }
        _ if host.is_empty() => ("localhost", usual),
        _ => (host, usual),
    }
}

fn is_bare_ipv6(name: &str) -> bool {
    name.contains(':') && !name.ends_with(']')
}

fn bad_request(problem: String) -> Failure {
    Failure::Other("bad-request".to_owned(), problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;

    fn request(headers: &[(&str, &str)]) -> Request {
        Request {
            method: String::new(),
            path: String::new(),
            query: String::new(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: Payload::Text("".into()),
        }
    }

    fn script(filename: &str) -> Script {
        Script::new(&Place {
            filename,
            ..Place::default()
        })
    }

    fn refusal(request: &Request) -> Option<String> {
        match put_params(&mut Vec::new(), &script("/srv/index.php"), request, None) {
            Err(Failure::Other(kind, problem)) if kind == "bad-request" => Some(problem),
            Err(other) => panic!("{other}"),
            Ok(()) => None,
        }
    }

    #[test]
    fn line_breaks_and_nul_are_refused_wherever_they_are() {
        for bad in ["a\nb", "a\rb", "a\0b"] {
            let whole = request(&[]);
            let requests = [
                Request {
                    method: bad.to_owned(),
                    ..whole.clone()
                },
                Request {
                    path: bad.to_owned(),
                    ..whole.clone()
                },
                Request {
                    query: bad.to_owned(),
                    ..whole
                },
                request(&[("x-a", bad)]),
                request(&[(bad, "x")]),
                request(&[("host", bad)]),
                request(&[("content-type", bad)]),
                request(&[("cookie", "a=1"), ("cookie", bad)]),
            ];
            for request in requests {
                assert!(refusal(&request).is_some(), "{request:?}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let long = "x".repeat(65_536);
        let problem = refusal(&request(&[("cookie", &long)])).expect("too long");
        assert_eq!(
            problem,
            "`HTTP_COOKIE` has 65536 bytes; php-fpm takes less than 64 KiB"
        );
    }

    #[test]
    fn names_that_collide_or_mislead_have_no_variable() {
        let table = [
            ("x-a", Ok(true)),
            ("X-A1", Ok(true)),
            ("x_a", Ok(false)),
            ("x.a", Ok(false)),
            ("Proxy", Ok(false)),
            ("CONTENT-LENGTH", Ok(false)),
            ("te", Ok(false)),
            ("", Err(())),
            ("x a", Err(())),
            ("x:a", Err(())),
            ("é", Err(())),
        ];
        for (name, expected) in table {
            assert_eq!(has_variable(name).map_err(drop), expected, "{name}");
        }
    }

    #[test]
    fn the_host_header_names_server_and_port() {
        let table = [
            ("", ("localhost", "80")),
            ("example.org", ("example.org", "80")),
            ("example.org:8080", ("example.org", "8080")),
            ("[::1]:8080", ("[::1]", "8080")),
            ("[::1]", ("[::1]", "80")),
            ("::1", ("::1", "80")),
            (":8080", (":8080", "80")),
            ("a:b", ("a:b", "80")),
            ("a:99999", ("a:99999", "80")),
        ];
        for (host, expected) in table {
            assert_eq!(host_and_port(host, false), expected, "{host}");
        }
        assert_eq!(host_and_port("a", true), ("a", "443"));
        assert_eq!(host_and_port("a:8443", true), ("a", "8443"));
    }

    #[test]
    fn a_script_has_a_name_and_a_directory() {
        let table = [
            ("/srv/www/index.php", "/index.php", "/srv/www"),
            ("/a.php", "/a.php", "/"),
        ];
        for (filename, name, root) in table {
            let script = script(filename);
            let pair = [&[13, root.len() as u8], &b"DOCUMENT_ROOT"[..], root.as_bytes()].concat();
            let variables = script.variables.unwrap();
            assert!(variables.windows(pair.len()).any(|window| window == pair));
            assert_eq!(script.name, name);
        }
    }

    #[test]
    fn a_script_that_cannot_be_named_is_refused_with_each_request() {
        let long = format!("/{}", "x".repeat(MAX_CONTENT / 2));
        for (filename, text) in [("/a\nb.php", "line break"), (long.as_str(), "less than 64 KiB")] {
            let result = put_params(&mut Vec::new(), &script(filename), &request(&[]), None);
            assert!(
                matches!(result, Err(Failure::Other(_, problem)) if problem.contains(text)),
                "{text}"
            );
        }
    }
}
