//! What the operator may set.

use aileron_plugin::OnFailure;

/// The settings of this plugin.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    /// The path of the push listener that sends messages.
    pub push_path: String,
    /// Whether an answer with a status of 5xx goes to the client.
    pub relay_errors: bool,
    /// What the client hears when its message was not handled.
    pub on_failure: OnFailure,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            push_path: "/send".to_owned(),
            relay_errors: false,
            on_failure: OnFailure::Silent,
        }
    }
}

impl Settings {
    /// Reads the settings as the host hands them over. The error is for the operator.
    pub fn parse(settings: Vec<(String, String)>) -> Result<Self, String> {
        let mut parsed = Self::default();
        for (name, value) in settings {
            match (name.as_str(), value.as_str()) {
                ("push-path", path) if path.starts_with('/') => parsed.push_path = value,
                ("push-path", _) => {
                    return Err(format!("push-path = {value:?}: must begin with \"/\""));
                }
                ("relay-errors", "true") => parsed.relay_errors = true,
                ("relay-errors", "false") => parsed.relay_errors = false,
                ("relay-errors", _) => {
                    return Err(format!("relay-errors = {value:?}: must be true or false"));
                }
                ("on-failure", value) => parsed.on_failure = OnFailure::parse(value)?,
                _ => {
                    return Err(format!(
                        "{name}: no such setting; there are on-failure (what a client hears), push-path (a path) and \
                         relay-errors (true or false)"
                    ));
                }
            }
        }
        Ok(parsed)
    }
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
            push_path: "/push".into(),
            relay_errors: true,
            on_failure: OnFailure::Close,
        };
        let settings = [
            ("push-path", "/push"),
            ("relay-errors", "true"),
            ("on-failure", "close"),
        ];
        assert_eq!(parse(&settings), Ok(expected));
    }

    #[test]
    fn a_mistake_is_named_with_what_is_allowed() {
        for (name, value, allowed) in [
            ("push-path", "send", "must begin with \"/\""),
            ("push-path", "", "must begin with \"/\""),
            ("relay-errors", "yes", "true or false"),
            ("on-failure", "ignore", "\"silent\", \"close\" or \"answer:TEXT\""),
            ("relay_errors", "true", "push-path (a path) and relay-errors"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err();
            assert!(error.starts_with(name), "{error}");
            assert!(error.contains(allowed), "{error}");
        }
    }
}
