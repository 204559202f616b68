//! Did-you-mean suggestions.

/// The candidate most like `word`, if one is like it enough to be a slip of the keyboard.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing is quadratic in the length; nothing long is a typing slip.
    if word.chars().count() > 64 {
        return None;
    }
    let folded = word.to_lowercase().replace('-', "_");
    let allowed = match folded.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        n => n / 3 + 1,
    };
    candidates
        .into_iter()
        .map(|c| {
            let target = c.to_lowercase().replace('-', "_");
            let mut distance = strsim::damerau_levenshtein(&folded, &target);
            // Half a word, or a word and a half, is a likely slip too.
            if distance > allowed
                && folded.len() >= 3
                && (target.starts_with(&folded) || folded.starts_with(&target))
            {
                distance = allowed;
            }
            (distance, c)
        })
        .filter(|(distance, c)| *distance <= allowed && *distance < c.chars().count().max(2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// `did you mean `x`?`, or nothing.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, candidates).map_or_else(String::new, |c| format!("did you mean `{c}`?"))
}

/// `` `a`, `b` and `c` ``.
pub fn list<'a>(words: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let words: Vec<String> = words.into_iter().map(|w| format!("`{w}`")).collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let kinds = ["decode", "resize", "infer", "overlay", "jsonl"];
        assert_eq!(closest("decod", kinds), Some("decode"));
        assert_eq!(closest("reszie", kinds), Some("resize"));
        assert_eq!(closest("Infer", kinds), Some("infer"));
        assert_eq!(closest("json", kinds), Some("jsonl"));
        assert_eq!(closest("inference", kinds), Some("infer"));
        assert_eq!(closest("max-weight", ["max_weight"]), Some("max_weight"));
        assert_eq!(closest("tracker", kinds), None);
        assert_eq!(closest("x", kinds), None);
        assert_eq!(closest("", kinds), None);
    }

    #[test]
    fn lists_read_as_prose() {
        assert_eq!(list(["a"], "or"), "`a`");
        assert_eq!(list(["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }
}
