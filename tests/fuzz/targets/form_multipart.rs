//! A form of parts. The first line of the input is the `content-type`, the rest is the body. What is read can be written
//! and read again, and no part reaches beyond its delimiter.

#![no_main]

use aileron_plugin::form::{Part, boundary, multipart};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let (Some(content_type), Some(body)) = (lines.next(), lines.next()) else {
        return;
    };
    let Some(boundary) = str::from_utf8(content_type).ok().and_then(boundary) else {
        return;
    };
    let parts = match multipart(&boundary, body) {
        Ok(parts) => parts,
        Err(error) => {
            assert!(error.position() <= body.len(), "{error}");
            return;
        }
    };
    let size: usize = parts.iter().map(|part| part.name.len() + part.data.len()).sum();
    assert!(size <= body.len(), "nothing is made up");
    for delimiter in [format!("\r\n--{boundary}\r\n"), format!("\r\n--{boundary}--")] {
        let holds = |part: &Part<'_>| {
            let mut windows = part.data.windows(delimiter.len());
            windows.any(|window| window == delimiter.as_bytes())
        };
        assert!(!parts.iter().any(holds), "a part holds a delimiter");
    }
    assert_eq!(multipart(&boundary, &write(&boundary, &parts)), Ok(parts));
});

fn write(boundary: &str, parts: &[Part<'_>]) -> Vec<u8> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut body = Vec::new();
    for part in parts {
        let mut head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name={}",
            quoted(&part.name)
        );
        if let Some(name) = &part.file_name {
            head += &format!("; filename={}", quoted(name));
        }
        if let Some(content_type) = &part.content_type {
            head += &format!("\r\nContent-Type: {content_type}");
        }
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(part.data);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--").as_bytes());
    body
}
