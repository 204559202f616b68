//! Values in brackets, for one input or by name: `[1,3,224,224]`, `data[1,3,224,224],info[1,4]`.

use flow_model::PartialShape;

/// What one name, or all inputs, is given: one or more bracketed values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bracketed {
    /// The input; `None` for all of them.
    pub name: Option<String>,
    /// What is in each pair of brackets.
    pub values: Vec<String>,
}

/// Parses the argument of a flag.
///
/// # Errors
/// Says what is wrong with it.
pub fn bracketed(flag: &str, text: &str) -> Result<Vec<Bracketed>, String> {
    let fault = |what: &str| {
        Err(format!(
            "-{flag} `{text}`: {what}; expected [..], or name[..],other[..]"
        ))
    };
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let Some((name, after)) = rest.split_once('[') else {
            return fault("brackets are missing");
        };
        let mut values = Vec::new();
        let mut after = after;
        loop {
            let Some((value, behind)) = after.split_once(']') else {
                return fault("a closing bracket is missing");
            };
            if value.contains('[') {
                return fault("brackets are nested");
            }
            values.push(value.trim().to_owned());
            rest = behind.trim_start();
            match rest.strip_prefix('[') {
                Some(next) => after = next,
                None => break,
            }
        }
        rest = match rest.strip_prefix(',') {
            Some(next) if next.trim().is_empty() => return fault("it ends in a comma"),
            Some(next) => next.trim_start(),
            None if rest.is_empty() => rest,
            None => return fault("a comma is missing between two inputs"),
        };
        let name = name.trim();
        found.push(Bracketed {
            name: (!name.is_empty()).then(|| name.to_owned()),
            values,
        });
    }
    if found.is_empty() {
        return fault("it is empty");
    }
    if found.len() > 1 && found.iter().any(|b| b.name.is_none()) {
        return fault("a name is missing before a bracket");
    }
    Ok(found)
}

/// Axis lengths; `?`, `-1` and `low..up` are open.
///
/// # Errors
/// Names the axis that is no length.
pub fn shape(flag: &str, text: &str) -> Result<PartialShape, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let open = |dim: &str| {
        let mut ends = dim.split("..").map(str::trim);
        let (Some(low), Some(high), None) = (ends.next(), ends.next(), ends.next()) else {
            return false;
        };
        [low, high]
            .iter()
            .all(|e| e.is_empty() || e.parse::<usize>().is_ok())
    };
    text.split(',')
        .map(|dim| match dim.trim() {
            "?" | "-1" => Ok(None),
            dim if open(dim) => Ok(None),
            dim => match dim.parse::<u32>() {
                Ok(length) if length > 0 => Ok(Some(length as usize)),
                _ => Err(format!(
                    "-{flag} `[{text}]`: `{dim}` is no axis length; expected a whole number above 0, `?`, `-1` or low..up"
                )),
            },
        })
        .collect()
}

/// `[1,3,?,?]`.
pub fn display(shape: &[Option<usize>]) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|d| d.map_or("?".to_owned(), |d| d.to_string()))
        .collect();
    format!("[{}]", dims.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_for_all_inputs_and_names_are_for_one() {
        let all = bracketed("shape", "[1,3,224,224]").unwrap();
        assert_eq!(all[0].name, None);
        assert_eq!(all[0].values, ["1,3,224,224"]);
        let named = bracketed("data_shape", "a:0[1,2][3,4], b/c[5]").unwrap();
        assert_eq!(named[0].name.as_deref(), Some("a:0"));
        assert_eq!(named[0].values, ["1,2", "3,4"]);
        assert_eq!(named[1].name.as_deref(), Some("b/c"));
    }

    #[test]
    fn axes_are_fixed_or_open() {
        assert_eq!(
            shape("shape", "1, 3,?,-1,16..32").unwrap(),
            [Some(1), Some(3), None, None, None]
        );
        assert_eq!(display(&[Some(1), None]), "[1,?]");
        for text in ["1,x", "1,,3", "0", "1,-2", "1.5", "99999999999", "a..b"] {
            assert!(
                shape("shape", text).unwrap_err().contains("axis length"),
                "{text}"
            );
        }
    }

    #[test]
    fn faults_say_what_was_expected() {
        for (text, words) in [
            ("", "empty"),
            ("1,3,224,224", "brackets are missing"),
            ("[1,3", "closing"),
            ("a[1],[2]", "name is missing"),
            ("a[1]b[2]", "comma"),
            ("a[1],", "ends in a comma"),
            ("[[1]]", "nested"),
        ] {
            let error = bracketed("shape", text).unwrap_err();
            assert!(
                error.contains(words) && error.contains("name[..]"),
                "{text}: {error}"
            );
        }
    }
}
