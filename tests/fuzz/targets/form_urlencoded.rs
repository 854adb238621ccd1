//! A form in the encoding of URLs: what is read can be written and read again, and is what the URL standard makes of it.

#![no_main]

use aileron_plugin::form::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|form: &[u8]| {
    let fields = match decode(form) {
        Ok(fields) => fields,
        Err(error) => {
            assert!(error.position() < form.len(), "{error}");
            return;
        }
    };
    let size: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(size <= form.len(), "nothing is made up");

    let pairs: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()))
        .collect();
    assert_eq!(decode(encode(&pairs).as_bytes()).as_ref(), Ok(&fields));

    // The standard's reader puts replacement characters where this one keeps the bytes.
    let lossy =
        |(name, value): &(String, Vec<u8>)| (name.clone(), String::from_utf8_lossy(value).into_owned());
    let expected: Vec<(String, String)> = form_urlencoded::parse(form).into_owned().collect();
    assert_eq!(fields.iter().map(lossy).collect::<Vec<_>>(), expected);
});
