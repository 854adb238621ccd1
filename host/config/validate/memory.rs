//! How much memory a plugin needs for what may come to it: `memory-limit`, `max-message` and `max-answer` belong together.

use super::Validator;
use crate::config::error::ConfigError;
use crate::config::raw;

const MIB: usize = 1024 * 1024;
/// The usual `memory-limit`.
const MEMORY: usize = 64 * MIB;
/// The usual `max-answer`.
const ANSWER: usize = 16 * MIB;

/// A plugin makes a form of a message, which is up to three times as long, in a buffer that grows by doubling. So many times
/// `max-message`, and `BASE` for the plugin itself, hold all of that.
const PER_MESSAGE: usize = 8;
const BASE: usize = 2 * MIB;
/// It takes an answer and perhaps changes it. So many times `max-answer` hold that.
const PER_ANSWER: usize = 4;

/// What follows for the keys that are not set.
pub(super) struct PluginMemory {
    pub(super) limit: usize,
    /// Where an upstream has none of its own.
    pub(super) max_answer: usize,
}

impl Validator<'_> {
    pub(super) fn plugin_memory(&self, raw: &raw::Config) -> Result<PluginMemory, ConfigError> {
        let message = raw.max_message.0.saturating_mul(PER_MESSAGE).saturating_add(BASE);
        let upstreams = raw.upstreams.values().map(toml::Spanned::get_ref);
        let upstreams = upstreams.chain([&raw.upstream]);
        let answers = upstreams.filter_map(|upstream| Some(upstream.max_answer.as_ref()?.get_ref().0));
        let answer = answers.max().unwrap_or(0).saturating_mul(PER_ANSWER);
        let limit = match &raw.plugins.memory_limit {
            None => MEMORY.max(message).max(answer),
            Some(limit) => {
                let (bytes, span) = (limit.get_ref().0, limit.span());
                let problem = if bytes < message {
                    format!(
                        "`memory-limit` must be at least {PER_MESSAGE} times `max-message` and 2 MiB, {message} bytes: \
                         a plugin needs that much to make a form of the longest message; raise it, or lower `max-message`"
                    )
                } else if bytes < answer {
                    format!(
                        "`memory-limit` must be at least {PER_ANSWER} times `max-answer`, {answer} bytes: a plugin needs \
                         that much to handle the longest answer; raise it, or lower `max-answer`"
                    )
                } else {
                    return Ok(PluginMemory::of(bytes));
                };
                return Err(self.source.error(Some(span), problem));
            }
        };
        Ok(PluginMemory::of(limit))
    }
}

impl PluginMemory {
    fn of(limit: usize) -> Self {
        Self {
            limit,
            max_answer: ANSWER.min(limit / PER_ANSWER),
        }
    }
}
