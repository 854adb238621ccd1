//! A request that becomes variables of CGI. The first three lines of the input are method, path and query, the others are
//! headers. Whatever they say, PHP reads the same variables as were written, each once, and none that a client must not
//! set.

#![no_main]
#![allow(dead_code, reason = "a target uses a part of what it includes")]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;

#[path = "../../../host"]
mod host {
    #[allow(unused_imports, reason = "a target uses a part of what it includes")]
    pub mod message;
}
#[path = "../../../host/upstream/fastcgi/params.rs"]
mod params;
// Seen from here its tests are elsewhere, which rustfmt does not forgive.
#[rustfmt::skip]
#[path = "../../../host/upstream/fastcgi/record.rs"]
mod record;

use host::message;
use message::{Payload, Request};

const SCRIPT: &str = "/srv/www/index.php";

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n').map(str::to_owned);
    let mut line = || lines.next().unwrap_or_default();
    let (method, path, query) = (line(), line(), line());
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let request = Request {
        method,
        path,
        query,
        headers: headers.collect(),
        body: Payload::Text("body".into()),
    };
    let mut stream = Vec::new();
    let script = params::Script::new(&params::Place {
        filename: SCRIPT,
        ..params::Place::default()
    });
    if params::put_params(&mut stream, &script, &request, None).is_err() {
        return;
    }
    let variables = read(&stream);
    assert_eq!(variables["SCRIPT_FILENAME"], SCRIPT);
    assert_eq!(variables["CONTENT_LENGTH"], "4");
    assert_eq!(variables["QUERY_STRING"], request.query);
    for (name, value) in &variables {
        let is_usual = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.bytes().all(is_usual), "{name}");
        assert!(!value.contains(['\0', '\r', '\n']), "{name}: {value:?}");
    }
    for forbidden in ["HTTP_PROXY", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"] {
        assert!(!variables.contains_key(forbidden), "{forbidden}");
    }
});

/// Reads a stream of PARAMS as PHP does: the pairs of each record by themselves. A variable that comes twice is wrong.
fn read(mut stream: &[u8]) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    loop {
        let (header, rest) = stream.split_first_chunk().expect("a header");
        let [1, 4, 0, 1, length1, length0, 0, 0] = *header else {
            panic!("{header:?}");
        };
        let length = usize::from(u16::from_be_bytes([length1, length0]));
        let (mut pairs, rest) = rest.split_at(length);
        if length == 0 {
            assert!(rest.is_empty(), "nothing is behind the end");
            return variables;
        }
        while !pairs.is_empty() {
            let (name, value) = (take_length(&mut pairs), take_length(&mut pairs));
            let (name, value) = (take_text(&mut pairs, name), take_text(&mut pairs, value));
            let before = variables.insert(name.clone(), value);
            assert_eq!(before, None, "{name} comes twice");
        }
        stream = rest;
    }
}

fn take_length(pairs: &mut &[u8]) -> usize {
    let size = if pairs[0] < 128 { 1 } else { 4 };
    let (bytes, rest) = pairs.split_at(size);
    *pairs = rest;
    match *bytes {
        [one] => usize::from(one),
        [a, b, c, d] => u32::from_be_bytes([a & 0x7f, b, c, d]) as usize,
        _ => unreachable!(),
    }
}

fn take_text(pairs: &mut &[u8], length: usize) -> String {
    let (text, rest) = pairs.split_at(length);
    *pairs = rest;
    str::from_utf8(text).expect("text").to_owned()
}
