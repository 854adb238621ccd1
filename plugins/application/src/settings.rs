//! What the operator may set.

use aileron_plugin::OnFailure;

/// The settings of this plugin.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether PHP is asked who may connect.
    pub open: bool,
    /// Whether PHP is told who has gone.
    pub close: bool,
    /// Whether an answer with a status of 5xx goes to the client.
    pub relay_errors: bool,
    /// What the client hears when its message was not handled.
    pub on_failure: OnFailure,
    /// The path of the push listener that sends messages.
    pub push_path: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            open: true,
            close: true,
            relay_errors: false,
            on_failure: OnFailure::Silent,
            push_path: "/send".to_owned(),
        }
    }
}

impl Settings {
    /// Reads the settings as the host hands them over. The error is for the operator.
    pub fn parse(settings: Vec<(String, String)>) -> Result<Self, String> {
        let mut parsed = Self::default();
        for (name, value) in settings {
            match name.as_str() {
                "open" => parsed.open = boolean(&name, &value)?,
                "close" => parsed.close = boolean(&name, &value)?,
                "relay-errors" => parsed.relay_errors = boolean(&name, &value)?,
                "on-failure" => parsed.on_failure = OnFailure::parse(&value)?,
                "push-path" if value.starts_with('/') => parsed.push_path = value,
                "push-path" => return Err(format!("push-path = {value:?}: must begin with \"/\"")),
                _ => {
                    return Err(format!(
                        "{name}: no such setting; there are open, close and relay-errors (true or false), on-failure \
                         (what a client hears) and push-path (a path)"
                    ));
                }
            }
        }
        Ok(parsed)
    }
}

fn boolean(name: &str, value: &str) -> Result<bool, String> {
    value
        .parse()
        .map_err(|_| format!("{name} = {value:?}: must be true or false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(settings: &[(&str, &str)]) -> Result<Settings, String> {
        let settings = settings
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        Settings::parse(settings.collect())
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(parse(&[]), Ok(Settings::default()));
    }

    #[test]
    fn every_setting_is_read() {
        let expected = Settings {
            open: false,
            close: false,
            relay_errors: true,
            on_failure: OnFailure::Answer("later".into()),
            push_path: "/push".into(),
        };
        let settings = [
            ("open", "false"),
            ("close", "false"),
            ("relay-errors", "true"),
            ("on-failure", "answer:later"),
            ("push-path", "/push"),
        ];
        assert_eq!(parse(&settings), Ok(expected));
    }

    #[test]
    fn a_mistake_is_named_with_what_is_allowed() {
        for (name, value, allowed) in [
            ("open", "yes", "true or false"),
            ("close", "", "true or false"),
            ("relay-errors", "1", "true or false"),
            ("on-failure", "ignore", "\"silent\", \"close\" or \"answer:TEXT\""),
            ("push-path", "send", "must begin with \"/\""),
            ("relay_errors", "true", "open, close and relay-errors"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err();
            assert!(error.starts_with(name), "{error}");
            assert!(error.contains(allowed), "{error}");
        }
    }
}
