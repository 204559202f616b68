//! Which edges tell of packets that will not come: those on the ways from a fan-out to its join.

use std::collections::BTreeSet;

use crate::config::plan::Pipeline;

/// By component and input: whether a join must hear of what is dropped on that way.
///
/// An edge from which all inputs of a join can be reached lies before the fan-out: what is dropped there is dropped on
/// all ways alike. One from which only some can be reached lies behind it.
pub(crate) fn marked(pipeline: &Pipeline) -> Vec<Vec<bool>> {
    let components = &pipeline.components;
    let mut marks: Vec<Vec<bool>> = components.iter().map(|c| vec![false; c.inputs.len()]).collect();
    for (join, component) in components.iter().enumerate() {
        if component.join.is_none() {
            continue;
        }
        // Inputs of this join that each component leads to; consumers stand behind their producers.
        let mut leads: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); components.len()];
        for to in (0..=join).rev() {
            let Some(inputs) = components.get(to).map(|c| &c.inputs) else {
                continue;
            };
            for (number, input) in inputs.iter().enumerate() {
                let mut reached = leads.get(to).cloned().unwrap_or_default();
                if to == join {
                    reached.insert(number);
                }
                let some = !reached.is_empty() && reached.len() < component.inputs.len();
                if let Some(mark) = marks.get_mut(to).and_then(|of| of.get_mut(number)) {
                    *mark |= some;
                }
                if let Some(leads) = leads.get_mut(input.from) {
                    leads.extend(reached);
                }
            }
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::plan::{Component, InputEdge, Join};
    use crate::registry::Role;

    #[test]
    fn only_edges_between_a_fan_out_and_its_join_tell_of_drops() {
        let component = |role, inputs: &[usize], join: bool| {
            let mut component = Component::new("c", role, "test", Arc::new(()));
            component.inputs = inputs.iter().map(|from| InputEdge::new(*from)).collect();
            component.join = join.then_some(Join::All);
            component
        };
        let pipeline = Pipeline::new(
            "test",
            vec![
                component(Role::Source, &[], false),
                component(Role::Stage, &[0], false),
                component(Role::Stage, &[1], false),
                component(Role::Stage, &[2], false),
                component(Role::Stage, &[1, 3], true),
                component(Role::Sink, &[4], false),
                component(Role::Sink, &[3], false),
            ],
        );
        let marks = marked(&pipeline);
        let expected: [&[bool]; 7] = [&[], &[false], &[true], &[true], &[true, true], &[false], &[false]];
        assert_eq!(marks, expected);
    }
}
