//! A push as a form. PHP's `http_build_query()` names the elements of a list `client_id[0]`, browsers `client_id[]`.

use aileron_plugin::{Delivery, Payload};

use super::item::Item;

/// The fields of a form.
type Fields = Vec<(String, Vec<u8>)>;

/// Whether the form is one that the default plugin takes: at most `client_id` and `message`.
pub fn is_plain(fields: &Fields) -> bool {
    fields.iter().all(|(name, _)| match base(name) {
        "client_id" => name == "client_id",
        base => !matches!(base, "topic" | "everyone" | "except"),
    })
}

/// The message of a plain form. None if it does not say for whom. Of fields that come twice, the first one counts.
pub fn delivery(mut fields: Fields) -> Option<Delivery> {
    let connection = String::from_utf8(take(&mut fields, "client_id")?).ok()?;
    let message = take(&mut fields, "message").unwrap_or_default();
    (!connection.is_empty()).then(|| Delivery {
        connection,
        message: Payload::from_bytes(message),
    })
}

fn take(fields: &mut Fields, name: &str) -> Option<Vec<u8>> {
    let index = fields.iter().position(|(key, _)| key == name)?;
    Some(fields.remove(index).1)
}

/// Any other form. The error is for the sender.
pub fn item(fields: Fields) -> Result<Item, String> {
    let mut item = Item::default();
    for (name, value) in fields {
        set(&mut item, &name, value).map_err(|problem| format!("item 1: {name}: {problem}"))?;
    }
    Ok(item)
}

/// Fields that mean nothing are no error, as for a plain form.
fn set(item: &mut Item, name: &str, value: Vec<u8>) -> Result<(), &'static str> {
    let text = |value| String::from_utf8(value).map_err(|_| "must be UTF-8");
    match base(name) {
        "client_id" => item.clients.get_or_insert_default().push(text(value)?),
        "topic" => item.topics.get_or_insert_default().push(text(value)?),
        "except" => item.except.push(text(value)?),
        "everyone" => {
            item.everyone = match value.as_slice() {
                b"1" => true,
                b"0" | b"" => false,
                _ => return Err("must be 1"),
            }
        }
        "message" if item.message.is_none() => item.message = Some(Payload::from_bytes(value)),
        _ => {}
    }
    Ok(())
}

/// The name of a field, without what makes it an element of a list.
fn base(name: &str) -> &str {
    match name.split_once('[') {
        Some((base, index)) if index.ends_with(']') => base,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(form: &str) -> Fields {
        aileron_plugin::form::decode(form.as_bytes()).unwrap()
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_plain_form_is_one_message_for_one_client() {
        for (form, plain) in [
            ("client_id=a&message=1&type=client", true),
            ("client_id=a&client_id=b", true),
            ("message=1", true),
            ("", true),
            ("client_id[]=a&message=1", false),
            ("client_id[0]=a&message=1", false),
            ("client_id=a&except=b", false),
            ("topic=a", false),
            ("topic[]=a", false),
            ("everyone=0&client_id=a", false),
        ] {
            assert_eq!(is_plain(&fields(form)), plain, "{form}");
        }
    }

    #[test]
    fn the_first_value_counts() {
        let delivered = delivery(fields("client_id=a&message=1&client_id=b&message=2"));
        let expected = Delivery {
            connection: "a".into(),
            message: Payload::Text("1".into()),
        };
        assert_eq!(delivered, Some(expected));
        for form in ["message=1", "client_id=&message=1", "client_id=%FF&message=1"] {
            assert_eq!(delivery(fields(form)), None, "{form}");
        }
    }

    #[test]
    fn every_field_is_read() {
        let message = Some(Payload::Binary(vec![0xff]));
        let clients = Item {
            clients: Some(owned(&["a", "b"])),
            except: owned(&["c"]),
            message: message.clone(),
            ..Item::default()
        };
        let form = "client_id[]=a&client_id[1]=b&except=c&message=%FF&everyone=0&type=client&message=2";
        assert_eq!(item(fields(form)), Ok(clients));
        let topics = Item {
            topics: Some(owned(&["x", "y"])),
            except: owned(&["a", "b"]),
            message: message.clone(),
            ..Item::default()
        };
        let form = "topic=x&topic[]=y&message=%FF&except[]=a&except[]=b";
        assert_eq!(item(fields(form)), Ok(topics));
        let everyone = Item {
            everyone: true,
            message,
            ..Item::default()
        };
        assert_eq!(item(fields("everyone=1&message=%FF")), Ok(everyone));
    }

    #[test]
    fn a_mistake_is_named() {
        for (form, error) in [
            ("everyone=yes", "item 1: everyone: must be 1"),
            ("topic[]=%FF", "item 1: topic[]: must be UTF-8"),
        ] {
            assert_eq!(item(fields(form)), Err(error.to_owned()));
        }
    }
}
