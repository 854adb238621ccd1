//! How a push went: what the host reports of its actions, target by target.

use aileron_plugin::{Effect, Payload, Response, log};
use serde::{Deserialize, Serialize};

use super::{error, json_response};

/// Who something was done to, as the item named it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    ClientId(String),
    Topic(String),
    Everyone(bool),
}

/// What the report must know: the targets in the order of the actions, each with the number of its actions.
pub fn context(targets: &[(Target, usize)]) -> Payload {
    Payload::Text(serde_json::to_string(targets).unwrap_or_default())
}

/// The answer to the push.
pub fn answer(context: &Payload, effects: &[Effect]) -> Response {
    let targets: Vec<(Target, usize)> = serde_json::from_slice(context.as_bytes()).unwrap_or_default();
    match results(&targets, effects) {
        Some(results) => json_response(200, &Results { results }),
        None => {
            log::error("the effects reported are not those of the actions of a push");
            error(500, "Internal Server Error\n")
        }
    }
}

#[derive(Serialize)]
struct Results<'a> {
    results: Vec<Outcome<'a>>,
}

#[derive(Serialize)]
struct Outcome<'a> {
    #[serde(flatten)]
    target: &'a Target,
    result: &'a str,
    #[serde(flatten)]
    facts: Facts<'a>,
}

/// More about the result, as far as there is more.
#[derive(Serialize)]
struct Facts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipients: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    congested: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

/// A result for each target. None if there is not an effect for each action.
fn results<'a>(targets: &'a [(Target, usize)], mut effects: &'a [Effect]) -> Option<Vec<Outcome<'a>>> {
    let mut results = Vec::with_capacity(targets.len());
    for (target, count) in targets {
        let (own, rest) = effects.split_at_checked(*count)?;
        results.push(outcome(target, own)?);
        effects = rest;
    }
    effects.is_empty().then_some(results)
}

/// The first that went wrong, or else the one that says most.
fn outcome<'a>(target: &'a Target, effects: &'a [Effect]) -> Option<Outcome<'a>> {
    let rank = |effect: &&Effect| match effect.outcome.as_str() {
        "done" => 3,
        "sent" => 2,
        "closed" => 1,
        _ => 0,
    };
    let effect = effects.iter().min_by_key(rank)?;
    let number = |name| effect.fact(name)?.parse().ok();
    Some(Outcome {
        target,
        result: &effect.outcome,
        facts: Facts {
            cause: effect.fact("cause"),
            recipients: number("recipients"),
            congested: number("congested"),
            epoch: effect.fact("epoch"),
            offset: number("offset"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(outcome: &str, facts: &[(&str, &str)]) -> Effect {
        Effect {
            outcome: outcome.into(),
            facts: facts
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
        }
    }

    fn answered(targets: &[(Target, usize)], effects: &[Effect]) -> String {
        let response = answer(&context(targets), effects);
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), Some("application/json"));
        String::from_utf8(response.body.into_bytes()).unwrap()
    }

    fn client() -> Target {
        Target::ClientId("a".into())
    }

    #[test]
    fn there_is_a_result_for_each_target_in_order() {
        let targets = [
            (Target::Topic("x".into()), 1),
            (client(), 1),
            (Target::Everyone(true), 1),
        ];
        let effects = [
            effect(
                "sent",
                &[
                    ("recipients", "2"),
                    ("congested", "0"),
                    ("epoch", "18f"),
                    ("offset", "17"),
                ],
            ),
            effect("not-found", &[]),
            effect("refused", &[("cause", "no \"such\" thing")]),
        ];
        assert_eq!(
            answered(&targets, &effects),
            concat!(
                r#"{"results":[{"topic":"x","result":"sent","recipients":2,"congested":0,"epoch":"18f","offset":17},"#,
                r#"{"client_id":"a","result":"not-found"},"#,
                r#"{"everyone":true,"result":"refused","cause":"no \"such\" thing"}]}"#
            )
        );
        assert_eq!(answered(&[], &[]), r#"{"results":[]}"#);
    }

    #[test]
    fn of_several_effects_the_one_that_matters_counts() {
        for (outcomes, result) in [
            (&["done"][..], "done"),
            (&["done", "sent", "done"], "sent"),
            (&["sent", "closed"], "closed"),
            (&["sent", "congested", "not-found"], "congested"),
            (&["closed", "unheard-of"], "unheard-of"),
        ] {
            let effects: Vec<_> = outcomes.iter().map(|outcome| effect(outcome, &[])).collect();
            let answer = answered(&[(client(), effects.len())], &effects);
            assert_eq!(
                answer,
                format!(r#"{{"results":[{{"client_id":"a","result":"{result}"}}]}}"#)
            );
        }
    }

    #[test]
    fn a_report_of_something_else_is_a_fault() {
        for count in [0, 2] {
            let response = answer(&context(&[(client(), count)]), &[effect("sent", &[])]);
            assert_eq!(response.status, 500);
        }
        let nonsense = Payload::Text("nonsense".into());
        assert_eq!(answer(&nonsense, &[effect("sent", &[])]).status, 500);
    }
}
