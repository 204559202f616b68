//! Which layers the caller leaves out.

use flow_model::Graph;
use regex::Regex;

use crate::error::QuantizeError;

/// For each node whether one of the patterns names it: the name of a layer, a type of operation, or a regular expression
/// that the whole name of a layer matches.
///
/// # Errors
/// If a pattern is no regular expression, or stands for no layer.
pub fn ignored(graph: &Graph, patterns: &[String]) -> Result<Vec<bool>, QuantizeError> {
    let mut ignored = vec![false; graph.nodes.len()];
    for pattern in patterns {
        let exact = |by: &dyn Fn(&flow_model::Node) -> bool| -> Vec<usize> {
            graph
                .nodes
                .iter()
                .enumerate()
                .filter(|(_, n)| by(n))
                .map(|(i, _)| i)
                .collect()
        };
        let mut found = exact(&|n| *n.name == **pattern);
        if found.is_empty() {
            found = exact(&|n| n.op.type_name() == pattern);
        }
        if found.is_empty() {
            let whole = Regex::new(&format!("^(?:{pattern})$")).map_err(|e| QuantizeError::Pattern {
                pattern: pattern.clone(),
                message: e.to_string(),
            })?;
            found = exact(&|n| whole.is_match(&n.name));
        }
        if found.is_empty() {
            return Err(QuantizeError::UnknownIgnored(pattern.clone()));
        }
        found.into_iter().for_each(|at| ignored[at] = true);
    }
    Ok(ignored)
}
