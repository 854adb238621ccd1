//! The values of the headers.

use aileron_plugin::form;

/// The elements of a list with commas.
pub fn list(value: &str) -> Vec<&str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
        .collect()
}

/// An element of a list, which may be percent-encoded. So whatever a name has in it that comes from a user, a comma or the
/// `*` of everyone, it stays one name.
pub fn element(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "a percent sign must begin an encoded byte, as by rawurlencode()";
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    // What has a meaning in a form has none here.
    let form = format!("element={}", text.replace('&', "%26").replace('+', "%2B"));
    let fields = form::decode(form.as_bytes()).map_err(|_| EXPECTED)?;
    let [(_, bytes)] = <[_; 1]>::try_from(fields).map_err(|_| EXPECTED)?;
    match String::from_utf8(bytes) {
        Ok(name) if name == "*" => Err("an encoded * does not mean everyone"),
        name => name.map_err(|_| "the name is not UTF-8"),
    }
}

/// `user=ann`: the name, and the value unless it is forgotten.
pub fn attribute(value: &str) -> Result<(String, Option<String>), &'static str> {
    const EXPECTED: &str = "must be NAME=VALUE, the value as by urlencode()";
    let fields = form::decode(value.as_bytes()).map_err(|_| EXPECTED)?;
    // `=` is what tells a value that is empty from one that is not there.
    let [(name, bytes)] = <[_; 1]>::try_from(fields).map_err(|_| EXPECTED)?;
    if name.is_empty() || !value.contains('=') {
        return Err(EXPECTED);
    }
    let text = String::from_utf8(bytes).map_err(|_| "the value is not UTF-8")?;
    Ok((name, Some(text).filter(|text| !text.is_empty())))
}

/// `reminder=30s`: the name, and the milliseconds unless it is stopped.
pub fn timer(value: &str) -> Result<(String, Option<u32>), &'static str> {
    const EXPECTED: &str = "must be NAME=TIME, the time such as 500ms, 30s, 5m or 1h";
    let (name, time) = value.split_once('=').ok_or(EXPECTED)?;
    let (name, time) = (name.trim(), time.trim());
    if name.is_empty() {
        return Err(EXPECTED);
    }
    let delay = if time.is_empty() {
        None
    } else {
        Some(milliseconds(time).ok_or(EXPECTED)?)
    };
    Ok((element(name)?, delay))
}

fn milliseconds(time: &str) -> Option<u32> {
    let unit = time.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = time.split_at(unit);
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(factor)
}

/// `4001 reason`: the code, and the reason, which may be empty. Which codes may be sent is for the host to say.
pub fn closing(value: &str) -> Result<(u16, String), &'static str> {
    let (code, reason) = value.split_once(' ').unwrap_or((value, ""));
    let code = code.parse().map_err(|_| "must be a close code and a reason")?;
    Ok((code, reason.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_commas() {
        assert_eq!(list("a, b,,c ,"), ["a", "b", "c"]);
        assert_eq!(list(""), [""; 0]);
    }

    #[test]
    fn elements_may_be_encoded() {
        for (text, name) in [
            ("room.1", "room.1"),
            ("*", "*"),
            ("a+b&c=d", "a+b&c=d"),
            ("room.1%2C%20%2A", "room.1, *"),
            ("%C3%A9+%26%3d", "é+&="),
            ("a&b%20c", "a&b c"),
        ] {
            assert_eq!(element(text).as_deref(), Ok(name), "{text}");
        }
        for text in ["%2A", "%2a", "50%", "%zz", "%ff"] {
            assert!(element(text).is_err(), "{text}");
        }
    }

    #[test]
    fn attributes() {
        for (value, name, expected) in [
            ("user=ann", "user", Some("ann")),
            ("user=ann+b%26%C3%A9%3D", "user", Some("ann b&é=")),
            ("a=b=c", "a", Some("b=c")),
            ("user=", "user", None),
        ] {
            let expected = (name.to_owned(), expected.map(str::to_owned));
            assert_eq!(attribute(value), Ok(expected), "{value}");
        }
        for value in ["", "user", "=ann", "a=1&b=2", "a=%", "a=%ff"] {
            assert!(attribute(value).is_err(), "{value}");
        }
    }

    #[test]
    fn timers() {
        for (value, name, expected) in [
            ("tea=500ms", "tea", Some(500)),
            ("tea=30s", "tea", Some(30_000)),
            ("tea = 5m", "tea", Some(300_000)),
            ("tea=1h", "tea", Some(3_600_000)),
            ("tea=", "tea", None),
        ] {
            assert_eq!(timer(value), Ok((name.to_owned(), expected)), "{value}");
        }
        for value in [
            "",
            "tea",
            "=1s",
            "tea=1",
            "tea=s",
            "tea=-1s",
            "tea=1.5s",
            "tea=1d",
            "tea=1194h",
        ] {
            assert!(timer(value).is_err(), "{value}");
        }
    }

    #[test]
    fn closings() {
        for (value, code, reason) in [
            ("4001 signed out, bye", 4001, "signed out, bye"),
            ("1000", 1000, ""),
            ("1005", 1005, ""),
        ] {
            assert_eq!(closing(value), Ok((code, reason.to_owned())), "{value}");
        }
        for value in ["", "bye", "70000 bye", "-1"] {
            assert!(closing(value).is_err(), "{value}");
        }
    }
}
