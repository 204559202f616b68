//! Arguments that are the keys of a stage: a mapping, a file that holds one, or a pipeline that has the stage.

use std::path::Path;

use flow::registry::{AnyConfig, Role};
use serde_json::{Map, Value};

use super::pipeline::{self, Around};
use crate::failure::Failure;
use crate::kinds;

/// What an argument holds.
pub enum Keys {
    /// Keys of a stage, with its `type`.
    Mapping(Map<String, Value>),
    /// A pipeline.
    Pipeline(Box<Around>),
}

impl Keys {
    /// Reads the value of `option`. In a pipeline, `${MODEL}` is `model`.
    pub fn read(option: &str, argument: &str, model: &Path) -> Result<Self, Failure> {
        let text = if argument.trim_start().starts_with('{') {
            argument.to_owned()
        } else {
            pipeline::text(argument)?
        };
        let fault = |what: String| Failure::usage(format!("{option} {argument}: {what}"));
        let parsed: Value = serde_yaml::from_str(&text).map_err(|e| fault(e.to_string()))?;
        let Value::Object(mapping) = parsed else {
            return Err(fault("expected a mapping of keys such as `type: resize`".into()));
        };
        if mapping.contains_key("stages") {
            return Ok(Self::Pipeline(Box::new(Around::read(
                Path::new(argument),
                model,
            )?)));
        }
        Ok(Self::Mapping(mapping))
    }
}

/// The configuration that a mapping of keys is: of a stage of one of `kinds`, `default` where it does not say.
pub fn configured(mut keys: Map<String, Value>, wanted: &[&str], default: &str) -> Result<AnyConfig, String> {
    keys.remove("inputs");
    let kind = keys.remove("type");
    let kind = kind.as_ref().and_then(Value::as_str).unwrap_or(default);
    if !wanted.contains(&kind) {
        let wanted: Vec<String> = wanted.iter().map(|kind| format!("`{kind}`")).collect();
        return Err(format!("type `{kind}`; expected {}", wanted.join(" or ")));
    }
    let registry = kinds::registry();
    let found = registry
        .get(Role::Stage, kind)
        .ok_or("this build has no such stage")?;
    let config = found
        .parse(&Value::Object(keys))
        .map_err(|e| match e.key.as_str() {
            "" | "." => e.message,
            key => format!("`{key}`: {}", e.message),
        })?;
    match found.check(&config).into_iter().next() {
        None => Ok(config),
        Some(issue) => {
            let help = issue.help.map_or_else(String::new, |help| format!("; {help}"));
            Err(format!("`{}`: {}{help}", issue.key, issue.message))
        }
    }
}
