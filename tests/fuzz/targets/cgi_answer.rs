//! The answer of a CGI script. The first byte of the input is the size of the pieces that the rest arrives in: what is read
//! does not depend on it. What is taken keeps to the limits, and no header can smuggle in another.

#![no_main]
#![allow(dead_code, reason = "a target uses a part of what it includes")]

use libfuzzer_sys::fuzz_target;

#[path = "../../../host"]
mod host {
    #[allow(unused_imports, reason = "a target uses a part of what it includes")]
    pub mod message;
}
#[path = "../../../host/upstream/fastcgi/response.rs"]
mod response;

use host::message;
use message::Response;
use response::{Answer, Unusable};

/// Short, so that it is reached.
const MAX_BODY: usize = 256;

fuzz_target!(|input: &[u8]| {
    let Some((size, answer)) = input.split_first() else {
        return;
    };
    let whole = read(answer, answer.len().max(1));
    assert_eq!(read(answer, usize::from(*size) + 1), whole);
    let Ok(response) = whole else {
        return;
    };
    assert!((100..600).contains(&response.status), "{}", response.status);
    assert!(response.body.len() <= MAX_BODY);
    assert!(answer.ends_with(&response.body.into_bytes()));
    for (name, value) in response.headers {
        assert!(!name.is_empty() && name != "status");
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b':' && !byte.is_ascii_uppercase())
        );
        assert!(!value.contains('\n'), "{name}: {value:?}");
    }
});

fn read(answer: &[u8], size: usize) -> Result<Response, Unusable> {
    let mut read = Answer::new(MAX_BODY);
    for piece in answer.chunks(size) {
        read.push(piece.into())?;
    }
    read.finish()
}
