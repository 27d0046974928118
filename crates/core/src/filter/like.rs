//! Patterns of `like`: `%` matches any text, `_` any one character; a backslash escapes either of
//! them and itself.
//!
//! Matching takes time linear in the text: the parts between two `%` are found one after the other,
//! each at its first occurrence after the part before it. Text without `_` is found by `memmem`; text
//! with `_` by a bit-parallel search (Baeza-Yates and Gonnet, "A new approach to text searching",
//! 1992) that costs one operation per 64 characters of the pattern and character of the text.

use std::collections::HashMap;

use memchr::memmem;

/// Longest pattern, in characters. Bounds the cost of a character of text.
pub const MAX_PATTERN: usize = 1024;

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What stands between the `%`, at least one, each possibly empty. A pattern without `%` has one
    /// part.
    parts: Vec<Part>,
}

/// Characters without `%` between them; `None` stands for any one.
type Part = Vec<Option<char>>;

impl Pattern {
    /// Parses a pattern. A backslash before any other character is literal.
    pub fn parse(text: &str) -> Self {
        let mut parts = vec![Part::new()];
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let one = match character {
                '%' => {
                    if parts.len() == 1 || parts.last().is_some_and(|part| !part.is_empty()) {
                        parts.push(Part::new());
                    }
                    continue;
                }
                '_' => None,
                '\\' => Some(
                    characters.next_if(|next| matches!(next, '%' | '_' | '\\')).unwrap_or('\\'),
                ),
                plain => Some(plain),
            };
            if let Some(part) = parts.last_mut() {
                part.push(one);
            }
        }
        Self { parts }
    }

    /// Whether the pattern matches all of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let [first, between @ .., last] = self.parts.as_slice() else {
            let whole = self.parts.first().map(Vec::as_slice).unwrap_or_default();
            return behind(whole, text).is_some_and(str::is_empty);
        };
        let rest = behind(first, text).and_then(|rest| before(last, rest));
        let found =
            rest.and_then(|rest| between.iter().try_fold(rest, |rest, part| find(part, rest)));
        found.is_some()
    }
}

/// What follows `part` at the start of `text`.
fn behind<'a>(part: &[Option<char>], text: &'a str) -> Option<&'a str> {
    let mut rest = text.chars();
    let fits = |wanted: &Option<char>| {
        rest.next().is_some_and(|found| wanted.is_none_or(|wanted| wanted == found))
    };
    part.iter().all(fits).then_some(rest.as_str())
}

/// What precedes `part` at the end of `text`.
fn before<'a>(part: &[Option<char>], text: &'a str) -> Option<&'a str> {
    let mut rest = text.chars();
    let fits = |wanted: &Option<char>| {
        rest.next_back().is_some_and(|found| wanted.is_none_or(|wanted| wanted == found))
    };
    part.iter().rev().all(fits).then_some(rest.as_str())
}

/// What follows the first occurrence of `part` in `text`.
fn find<'a>(part: &[Option<char>], text: &'a str) -> Option<&'a str> {
    match part.iter().copied().collect::<Option<String>>() {
        Some(plain) => {
            let at = memmem::find(text.as_bytes(), plain.as_bytes())?;
            text.get(at + plain.len()..)
        }
        None => find_with_gaps(part, text),
    }
}

/// The same for a part with `_`. Bit `i` of the state is set while the last `i + 1` characters fit
/// the first `i + 1` of the part.
fn find_with_gaps<'a>(part: &[Option<char>], text: &'a str) -> Option<&'a str> {
    let words = part.len().div_ceil(64);
    let bits = |fits: &dyn Fn(Option<char>) -> bool| {
        let mut bits = vec![0_u64; words];
        for (index, _) in part.iter().enumerate().filter(|(_, wanted)| fits(**wanted)) {
            bits[index / 64] |= 1 << (index % 64);
        }
        bits
    };
    let gaps = bits(&|wanted| wanted.is_none());
    let masks: HashMap<char, Vec<u64>> = part
        .iter()
        .flatten()
        .map(|one| (*one, bits(&|wanted| wanted.is_none_or(|wanted| wanted == *one))))
        .collect();
    let (last, mut state) = (part.len() - 1, vec![0_u64; words]);
    for (at, character) in text.char_indices() {
        let mut carry = 1;
        for (word, mask) in state.iter_mut().zip(masks.get(&character).unwrap_or(&gaps)) {
            let next = *word >> 63;
            *word = (*word << 1 | carry) & mask;
            carry = next;
        }
        if state[last / 64] >> (last % 64) & 1 == 1 {
            return text.get(at + character.len_utf8()..);
        }
    }
    None
}

impl std::fmt::Display for Pattern {
    /// In the syntax of SQL's LIKE.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "%" })?;
            part.iter().try_for_each(|one| match one {
                None => f.write_str("_"),
                Some(special @ ('%' | '_' | '\\')) => write!(f, "\\{special}"),
                Some(plain) => write!(f, "{plain}"),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_is_about_the_whole_text() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("%", "", true),
            ("%%", "", true),
            ("_", "é", true),
            ("_", "", false),
            ("a", "ab", false),
            ("ab%bc", "abc", false),
            ("%b", "aab", true),
            ("a%b%c", "a1b2b3c", true),
            ("a%b%c", "a1c2b", false),
            ("%a_c%", "xxabxabcx", true),
            ("100\\%", "100%", true),
            ("100\\%", "1000", false),
            ("a\\b", "a\\b", true),
            ("a\\", "a\\", true),
            ("%\n%", "a\nb", true),
            ("A", "a", false),
        ] {
            assert_eq!(Pattern::parse(pattern).matches(text), matches, "{pattern} {text}");
        }
    }

    /// With a search that starts again behind each mismatch, one of these takes hours.
    #[test]
    fn the_longest_pattern_is_found_or_not_in_a_text_of_megabytes_at_once() {
        let (text, run) = ("a".repeat(4 << 20), "a".repeat(MAX_PATTERN - 5));
        for (pattern, matches) in [
            (format!("%{run}b%"), false),
            (format!("%_{run}b%"), false),
            (format!("%{run}_b_%"), false),
            (format!("%{run}_%"), true),
            ("%a_".repeat(MAX_PATTERN / 3) + "%b%", false),
        ] {
            assert_eq!(Pattern::parse(&pattern).matches(&text), matches);
        }
    }

    /// The definition, in exponential time.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            (['%', rest @ ..], _) => (0..=text.len()).any(|skipped| slow(rest, &text[skipped..])),
            (['_', rest @ ..], [_, text @ ..]) => slow(rest, text),
            (['\\', wanted @ ('%' | '_' | '\\'), rest @ ..], [found, text @ ..]) => {
                wanted == found && slow(rest, text)
            }
            (['\\', '%' | '_' | '\\', ..] | ['_', ..], []) => false,
            ([wanted, rest @ ..], [found, text @ ..]) => wanted == found && slow(rest, text),
            ([_, ..], []) => false,
        }
    }

    fn characters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(pattern in "[abé%_\\\\]{0,10}", text in "[abé%_]{0,10}") {
            let parsed = Pattern::parse(&pattern);
            prop_assert_eq!(parsed.matches(&text), slow(&characters(&pattern), &characters(&text)));
            prop_assert_eq!(Pattern::parse(&parsed.to_string()), parsed);
        }

        #[test]
        fn a_part_of_any_length_is_found_where_it_first_occurs(
            before in "[ab]{0,100}", part in "[ab_]{60,140}", behind in "[ab]{0,9}",
        ) {
            let there = before + &part.replace('_', "b") + &behind;
            let matches = |pattern: String| Pattern::parse(&pattern).matches(&there);
            let (found, more) = (matches(format!("%{part}%")), matches(format!("%{part}c%")));
            prop_assert!(found && !more);
        }
    }
}
