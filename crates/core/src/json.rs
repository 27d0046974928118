//! A lenient JSON reader for traces, which often hold invalid JSON: a lone surrogate where text was
//! cut inside an emoji, `NaN` from Python, `1e999`, duplicate keys, a byte-order mark, any depth.
//! It reads the requested values and skips whatever surrounds them.
//!
//! - A document may start with a byte-order mark. Anything after its first value is ignored.
//! - Reading stops where the structure breaks (missing quote, colon or comma, truncated text). The
//!   entries before that point count, including those of a truncated nested object.
//! - An unpaired surrogate such as `\ud83d` becomes U+FFFD, an unknown escape stands for itself,
//!   and control characters are allowed in strings.
//! - `NaN`, `Infinity` and `-Infinity` are numbers. A number beyond the range of a double is
//!   infinite.
//!
//! Nothing here recurses, so depth uses no stack.

use std::borrow::Cow;

use memchr::memchr2;

/// A value, parsed no deeper than callers need.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// `null`, or no value at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as a double.
    Number(f64),
    /// A string, without quotes and escapes.
    Text(Cow<'a, str>),
    /// The source of an object, to be read by [`entries`].
    Object(&'a str),
    /// An array, or any other token.
    Other,
}

/// Parses the first value in `text`.
pub fn value(text: &str) -> Value<'_> {
    match raw(begun(text)) {
        Some((raw, whole)) if whole || !raw.starts_with('"') => parse(raw),
        Some(_) => Value::Other,
        None => Value::Null,
    }
}

/// Parses a value whose source came from [`entries`].
pub fn parse(raw: &str) -> Value<'_> {
    match raw.as_bytes().first() {
        Some(b'{') => Value::Object(raw),
        Some(b'[') => Value::Other,
        Some(b'"') => Value::Text(unescaped(raw.get(1..raw.len() - 1).unwrap_or_default())),
        _ => scalar(raw),
    }
}

/// The string, if the document is exactly one JSON string.
pub fn whole_text(document: &str) -> Option<Cow<'_, str>> {
    let document = begun(document).trim_end();
    let (raw, whole) = raw(document)?;
    (whole && raw.len() == document.len() && raw.starts_with('"'))
        .then(|| unescaped(&raw[1..raw.len() - 1]))
}

/// The keys of the object in `text` with the source of their values, in order and including
/// duplicates. Empty if `text` is not an object.
pub fn entries(text: &str) -> Entries<'_> {
    let text = begun(text);
    match text.strip_prefix('{') {
        Some(rest) => Entries { rest, state: State::First },
        None => Entries { rest: text, state: State::Broken },
    }
}

/// Iterator over the entries of an object.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    rest: &'a str,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    First,
    Next,
    Ended,
    Broken,
}

impl Entries<'_> {
    /// Whether the object has been read to its closing brace.
    pub fn is_whole(&self) -> bool {
        self.state == State::Ended
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (Cow<'a, str>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.rest.trim_start_matches(WHITE);
        match (self.state, rest.as_bytes().first()) {
            (State::First | State::Next, Some(b'}')) => {
                self.state = State::Ended;
                return None;
            }
            (State::Next, Some(b',')) => rest = rest[1..].trim_start_matches(WHITE),
            (State::First, Some(_)) => {}
            (State::Ended, _) => return None,
            _ => return self.broken(),
        }
        let Some((key, true)) = raw(rest).filter(|(key, _)| key.starts_with('"')) else {
            return self.broken();
        };
        let Some(after) = rest[key.len()..].trim_start_matches(WHITE).strip_prefix(':') else {
            return self.broken();
        };
        let after = after.trim_start_matches(WHITE);
        let Some((value, whole)) = raw(after) else { return self.broken() };
        // A truncated string or number has no known value; a truncated object may hold complete
        // entries.
        if !whole && !value.starts_with('{') {
            return self.broken();
        }
        (self.rest, self.state) = (&after[value.len()..], State::Next);
        Some((unescaped(&key[1..key.len() - 1]), value))
    }
}

impl<'a> Entries<'a> {
    fn broken(&mut self) -> Option<(Cow<'a, str>, &'a str)> {
        self.state = State::Broken;
        None
    }
}

const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

fn begun(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text).trim_start_matches(WHITE)
}

/// The source of the value at the start of `text`, and whether it is complete; `None` if no value
/// starts there.
fn raw(text: &str) -> Option<(&str, bool)> {
    let bytes = text.as_bytes();
    let end = match bytes.first()? {
        b'"' => end_of_text(bytes, 0),
        b'{' | b'[' => end_of_nested(bytes),
        _ => {
            let end = bytes
                .iter()
                .position(|byte| b",:}]\" \t\n\r".contains(byte))
                .unwrap_or(bytes.len());
            return (end > 0).then(|| (&text[..end], true));
        }
    };
    Some(end.map_or((text, false), |end| (&text[..end], true)))
}

/// Offset just after the string whose opening quote is at `start`.
fn end_of_text(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Offset just after the object or array at the start of `bytes`.
fn end_of_nested(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = end_of_text(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

fn scalar(raw: &str) -> Value<'static> {
    match raw {
        "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "NaN" => Value::Number(f64::NAN),
        "Infinity" => Value::Number(f64::INFINITY),
        "-Infinity" => Value::Number(f64::NEG_INFINITY),
        _ if raw.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) => {
            raw.parse().map_or(Value::Other, Value::Number)
        }
        _ => Value::Other,
    }
}

/// Decodes the escapes of a string without its quotes.
fn unescaped(source: &str) -> Cow<'_, str> {
    let Some(first) = source.find('\\') else { return Cow::Borrowed(source) };
    let mut text = String::with_capacity(source.len());
    text.push_str(&source[..first]);
    let mut rest = &source[first..];
    while let Some(after) = rest.strip_prefix('\\') {
        let (character, length) = escape(after);
        match character {
            Some(character) => text.push(character),
            None => text.push_str(&rest[..=length]),
        }
        rest = &after[length..];
        let plain = rest.find('\\').unwrap_or(rest.len());
        text.push_str(&rest[..plain]);
        rest = &rest[plain..];
    }
    Cow::Owned(text)
}

/// The character an escape stands for and its length in bytes after the backslash; `None` for the
/// character if the escape stands for itself.
fn escape(after: &str) -> (Option<char>, usize) {
    let Some(kind) = after.chars().next() else { return (None, 0) };
    let plain = match kind {
        '"' | '\\' | '/' => kind,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return unit(after).map_or((None, 1), |high| from_units(high, &after[5..])),
        other => return (None, other.len_utf8()),
    };
    (Some(plain), 1)
}

/// The four hexadecimal digits after a `u`.
fn unit(after: &str) -> Option<u32> {
    let digits = after
        .strip_prefix('u')?
        .get(..4)
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}

/// The character of one UTF-16 unit, or of a surrogate pair if the second half follows.
fn from_units(high: u32, behind: &str) -> (Option<char>, usize) {
    if let (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) =
        (high, behind.strip_prefix('\\').and_then(unit))
    {
        let both = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return (Some(char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER)), 11);
    }
    (Some(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)), 5)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(text: &str) -> Vec<(String, String)> {
        entries(text).map(|(key, value)| (key.into_owned(), value.to_owned())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_asked_for_is_read_whatever_stands_beside_it() {
        for beside in [
            r#""caf\ud83d""#,
            "NaN",
            "-Infinity",
            "1e999",
            "\"tab\there\"",
            r#""\x41""#,
            r"[[{},{}]]",
            "undefined",
            "[1,]",
        ] {
            assert_eq!(
                listed(&format!(r#"{{"odd": {beside}, "env": "prod"}}"#)),
                pairs(&[("odd", beside), ("env", r#""prod""#)]),
                "{beside}"
            );
            assert_eq!(
                listed(&format!(r#"{{"env": "prod", "odd": {beside}}}"#))[0],
                pairs(&[("env", r#""prod""#)])[0],
                "{beside}"
            );
        }
        assert_eq!(listed("\u{feff} {\"a\": 1} and more"), pairs(&[("a", "1")]));
        assert_eq!(
            listed(r#"{"a":1,"a":2}"#),
            pairs(&[("a", "1"), ("a", "2")]),
            "a key that is there twice"
        );
    }

    #[test]
    fn depth_costs_nothing() {
        let deep =
            format!(r#"{{"deep": {}{}, "a": 1}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(entries(&deep).nth(1).map(|(_, value)| value), Some("1"));
        let deep = format!(r#"{{"a": 1, "deep": {}"#, r#"{"a":"#.repeat(1_000_000));
        assert_eq!(entries(&deep).next().map(|(_, raw)| value(raw)), Some(Value::Number(1.0)));
    }

    #[test]
    fn what_was_cut_counts_as_far_as_it_is_whole() {
        for (cut, whole) in [
            (r#"{"a": 1, "b": "pro"#, &[("a", "1")][..]),
            (r#"{"a": 1, "b""#, &[("a", "1")]),
            (r#"{"a": 1, "b": {"c": 2, "#, &[("a", "1"), ("b", r#"{"c": 2, "#)]),
            (r#"{"a": 1; "b": 2}"#, &[("a", "1;")]),
            (r#"{'a': 1}"#, &[]),
            ("plain text", &[]),
            (r#"[{"a": 1}]"#, &[]),
            ("", &[]),
        ] {
            let mut read = entries(cut);
            assert_eq!(listed(cut), pairs(whole), "{cut}");
            read.by_ref().for_each(drop);
            assert!(!read.is_whole(), "{cut}");
        }
        let mut read = entries(" { } ");
        assert!(read.next().is_none() && read.is_whole());
    }

    #[test]
    fn values_are_read_as_they_are_meant() {
        assert_eq!(value(" null"), Value::Null);
        assert_eq!(value(""), Value::Null);
        assert_eq!(value("true"), Value::Bool(true));
        assert_eq!(value("-1.5e1"), Value::Number(-15.0));
        assert_eq!(value("1e999"), Value::Number(f64::INFINITY));
        assert_eq!(value("18446744073709551615"), Value::Number(18_446_744_073_709_551_615.0));
        assert!(matches!(value("NaN"), Value::Number(number) if number.is_nan()));
        assert_eq!(value("-Infinity"), Value::Number(f64::NEG_INFINITY));
        assert_eq!(value("nope"), Value::Other);
        assert_eq!(value("[1]"), Value::Other);
        assert_eq!(value(r#"{"a": 1}"#), Value::Object(r#"{"a": 1}"#));
        let text = |text: &'static str| Value::Text(text.into());
        assert_eq!(value(r#""\u00e9\ud83d\ude00\n\/""#), text("é😀\n/"));
        assert_eq!(value(r#""a\ud83d""#), text("a\u{fffd}"));
        assert_eq!(value(r#""\ude00\ud83dx""#), text("\u{fffd}\u{fffd}x"));
        assert_eq!(value(r#""\x41\u12""#), text(r"\x41\u12"));
    }

    #[test]
    fn a_document_that_is_one_text_is_that_text() {
        assert_eq!(whole_text(r#" "ValueError: \"x\"" "#).as_deref(), Some("ValueError: \"x\""));
        assert_eq!(whole_text(r#""cut \ud83d""#).as_deref(), Some("cut \u{fffd}"));
        for other in ["ValueError", r#""a" is wrong"#, r#""a"#, r#"{"a": "b"}"#, ""] {
            assert_eq!(whole_text(other), None, "{other}");
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>()
                .prop_filter("JSON has no others", |number| number.is_finite())
                .prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::hash_map(any::<String>(), inner, 0..4)
                    .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    fn same(read: &Value<'_>, meant: &serde_json::Value) -> bool {
        match (read, meant) {
            (Value::Null, serde_json::Value::Null)
            | (Value::Other, serde_json::Value::Array(_)) => true,
            (Value::Bool(read), serde_json::Value::Bool(meant)) => read == meant,
            (Value::Number(read), serde_json::Value::Number(meant)) => {
                Some(*read) == meant.as_f64()
            }
            (Value::Text(read), serde_json::Value::String(meant)) => read == meant,
            (Value::Object(read), serde_json::Value::Object(meant)) => {
                let mut read = entries(read);
                let all = read
                    .by_ref()
                    .zip(meant)
                    .all(|((key, raw), (name, meant))| key == *name && same(&value(raw), meant));
                all && read.next().is_none() && read.is_whole()
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn valid_json_is_read_as_a_strict_reader_reads_it(document in json()) {
            prop_assert!(same(&value(&document.to_string()), &document));
            let spaced = format!("{document:#}");
            prop_assert!(same(&value(&spaced), &document));
        }

        #[test]
        fn no_text_makes_it_panic(text: String, cut in 0..200_usize, document in json()) {
            let document = document.to_string();
            let cut = (0..=cut.min(document.len())).rev().find(|at| document.is_char_boundary(*at)).unwrap_or_default();
            for text in [text.as_str(), &document[..cut], &document[cut..]] {
                value(text);
                whole_text(text);
                entries(text).for_each(|(_, raw)| drop(value(raw)));
            }
        }
    }
}
