//! A push in JSON: an object, or a list of objects.

use std::collections::BTreeMap;

use aileron_plugin::Payload;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::item::Item;

/// How many items a push may have.
const MAX_ITEMS: usize = 1000;

/// Reads the items. The error is for the sender.
pub fn items(body: &[u8]) -> Result<Vec<Item>, String> {
    let objects = objects(body).map_err(|error| format!("this is no JSON: {error}"))?;
    if objects.len() > MAX_ITEMS {
        return Err(format!("a push may have {MAX_ITEMS} items"));
    }
    let items = (1..).zip(objects);
    items
        .map(|(number, object)| item(object).map_err(|problem| format!("item {number}: {problem}")))
        .collect()
}

fn objects(body: &[u8]) -> Result<Vec<&RawValue>, serde_json::Error> {
    if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body)
    } else {
        serde_json::from_slice(body).map(|object| vec![object])
    }
}

fn item(object: &RawValue) -> Result<Item, String> {
    let members: BTreeMap<String, &RawValue> = read(object).ok_or("must be an object")?;
    let mut item = Item::default();
    for (name, value) in members {
        // A member that is null is as good as none.
        if value.get() != "null" {
            set(&mut item, &name, value).map_err(|problem| format!("{name}: {problem}"))?;
        }
    }
    Ok(item)
}

fn set(item: &mut Item, name: &str, value: &RawValue) -> Result<(), &'static str> {
    match name {
        "client_id" => item.clients = Some(one_or_many(value)?),
        "topic" => item.topics = Some(one_or_many(value)?),
        "everyone" => item.everyone = read(value).ok_or("must be true or false")?,
        "except" => item.except = one_or_many(value)?,
        "subscribe" => item.subscribe = one_or_many(value)?,
        "unsubscribe" => item.unsubscribe = one_or_many(value)?,
        "message" | "binary" if item.message.is_some() => return Err("there is a message already"),
        "message" => item.message = Some(Payload::Text(message(value)?)),
        "binary" => item.message = Some(Payload::Binary(binary(value).ok_or("must be base64")?)),
        "attributes" => {
            item.attributes = attributes(value).ok_or("must be an object of strings")?;
        }
        "close" => {
            let Close { code, reason } =
                read(value).ok_or("must be an object with a code and, if there is one, a reason")?;
            item.close = Some((code, reason));
        }
        _ => return Err("no such member"),
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Close {
    code: u16,
    #[serde(default)]
    reason: String,
}

/// PHP's `json_encode()` makes `[]` of an empty array.
fn attributes(value: &RawValue) -> Option<Vec<(String, Option<String>)>> {
    match read::<[(); 0]>(value) {
        Some([]) => Some(Vec::new()),
        None => read::<BTreeMap<_, _>>(value).map(|attributes| attributes.into_iter().collect()),
    }
}

fn one_or_many(value: &RawValue) -> Result<Vec<String>, &'static str> {
    read(value)
        .or_else(|| read(value).map(|one| vec![one]))
        .ok_or("must be a string or a list of strings")
}

/// A string as it is, anything else as it was written.
fn message(value: &RawValue) -> Result<String, &'static str> {
    let json = value.get();
    if json.starts_with('"') {
        read(value).ok_or("must be a string of Unicode")
    } else {
        Ok(json.to_owned())
    }
}

fn binary(value: &RawValue) -> Option<Vec<u8>> {
    let text: String = read(value)?;
    STANDARD.decode(text).ok()
}

fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn every_member_is_read() {
        let one = r#"{"client_id": "a", "except": "b", "message": "é", "subscribe": "s", "unsubscribe": "u",
            "attributes": {"user": "ann", "old": null}, "close": {"code": 4001, "reason": "bye"}}"#;
        let expected = Item {
            clients: Some(owned(&["a"])),
            except: owned(&["b"]),
            message: Some(Payload::Text("é".into())),
            subscribe: owned(&["s"]),
            unsubscribe: owned(&["u"]),
            attributes: vec![("old".into(), None), ("user".into(), Some("ann".into()))],
            close: Some((4001, "bye".into())),
            ..Item::default()
        };
        assert_eq!(items(one.as_bytes()), Ok(vec![expected]));

        let many = r#" [{"topic": ["x", "y"], "except": ["a", "b"]},
            {"everyone": true, "binary": "AP8=", "client_id": null}, {"client_id": [], "close": {"code": 1000}}]"#;
        let expected = [
            Item {
                topics: Some(owned(&["x", "y"])),
                except: owned(&["a", "b"]),
                ..Item::default()
            },
            Item {
                everyone: true,
                message: Some(Payload::Binary(vec![0, 0xff])),
                ..Item::default()
            },
            Item {
                clients: Some(Vec::new()),
                close: Some((1000, String::new())),
                ..Item::default()
            },
        ];
        assert_eq!(items(many.as_bytes()), Ok(expected.into()));
        assert_eq!(items(b"[]"), Ok(Vec::new()));
        let empty = items(br#"{"client_id": "a", "message": "", "attributes": []}"#).unwrap();
        assert_eq!(empty[0].attributes, []);
    }

    #[test]
    fn a_message_is_a_string_or_json_as_it_was_written() {
        for (json, message) in [
            (r#""a\n\u00e9""#, "a\né"),
            (
                r#"{"n": 12345678901234567890123}"#,
                r#"{"n": 12345678901234567890123}"#,
            ),
            ("[ 1 ]", "[ 1 ]"),
            ("1.50", "1.50"),
            ("false", "false"),
        ] {
            let read = items(format!(r#"{{"message":{json}}}"#).as_bytes()).unwrap();
            assert_eq!(read[0].message, Some(Payload::Text(message.into())));
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_item() {
        for (json, error) in [
            ("{", "this is no JSON: EOF while parsing an object"),
            ("\"\u{1}\"", "this is no JSON: control character"),
            ("[{}] x", "this is no JSON: trailing characters"),
            ("1", "item 1: must be an object"),
            ("[{}, []]", "item 2: must be an object"),
            (r#"[{}, {"clientid": "a"}]"#, "item 2: clientid: no such member"),
            (
                r#"{"client_id": 5}"#,
                "item 1: client_id: must be a string or a list of strings",
            ),
            (
                r#"{"topic": ["a", 5]}"#,
                "item 1: topic: must be a string or a list",
            ),
            (r#"{"everyone": 1}"#, "item 1: everyone: must be true or false"),
            (
                r#"{"message": "\ud800"}"#,
                "item 1: message: must be a string of Unicode",
            ),
            (r#"{"binary": "AP8"}"#, "item 1: binary: must be base64"),
            (
                r#"{"binary": "", "message": ""}"#,
                "item 1: message: there is a message already",
            ),
            (
                r#"{"attributes": {"a": 5}}"#,
                "item 1: attributes: must be an object of strings",
            ),
            (
                r#"{"attributes": ["a"]}"#,
                "item 1: attributes: must be an object of strings",
            ),
            (
                r#"{"close": 4001}"#,
                "item 1: close: must be an object with a code",
            ),
            (
                r#"{"close": {"code": 70000}}"#,
                "item 1: close: must be an object",
            ),
        ] {
            let problem = items(json.as_bytes()).unwrap_err();
            assert!(problem.starts_with(error), "{problem}");
        }
        assert!(items(b"{\"message\":\"\xff\"}").is_err());
    }

    #[test]
    fn there_may_be_a_thousand_items() {
        let list = |length| format!("[{}]", vec!["{}"; length].join(","));
        assert_eq!(items(list(1000).as_bytes()).map(|items| items.len()), Ok(1000));
        assert_eq!(
            items(list(1001).as_bytes()),
            Err("a push may have 1000 items".into())
        );
    }
}
