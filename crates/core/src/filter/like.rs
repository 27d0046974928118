//! Patterns of `like`: `%` matches any text, `_` any one character; a backslash escapes either of
//! them and itself.

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Any,
    One,
    Plain(char),
}

impl Pattern {
    /// Parses a pattern. A backslash before any other character is literal.
    pub fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            pieces.push(match character {
                '%' if pieces.last() == Some(&Piece::Any) => continue,
                '%' => Piece::Any,
                '_' => Piece::One,
                '\\' => Piece::Plain(
                    characters.next_if(|next| matches!(next, '%' | '_' | '\\')).unwrap_or('\\'),
                ),
                plain => Piece::Plain(plain),
            });
        }
        Self(pieces)
    }

    /// Whether the pattern matches all of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let (mut piece, mut rest) = (0, text);
        // Where to resume after a mismatch: after the last `%`, one character later than last time.
        let mut retry: Option<(usize, &str)> = None;
        loop {
            let mut characters = rest.chars();
            let fits = match (self.0.get(piece), characters.next()) {
                (Some(Piece::Any), _) => {
                    retry = Some((piece + 1, rest));
                    piece += 1;
                    continue;
                }
                (Some(Piece::One), Some(_)) => true,
                (Some(Piece::Plain(wanted)), Some(found)) => *wanted == found,
                (None, None) => return true,
                _ => false,
            };
            if fits {
                (piece, rest) = (piece + 1, characters.as_str());
                continue;
            }
            let Some((behind, from)) = retry else { return false };
            let mut skipped = from.chars();
            if skipped.next().is_none() {
                return false;
            }
            (piece, rest) = (behind, skipped.as_str());
            retry = Some((behind, rest));
        }
    }
}

impl std::fmt::Display for Pattern {
    /// In the syntax of SQL's LIKE.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Any => f.write_str("%"),
            Piece::One => f.write_str("_"),
            Piece::Plain(special @ ('%' | '_' | '\\')) => write!(f, "\\{special}"),
            Piece::Plain(plain) => write!(f, "{plain}"),
        })
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
            ("_", "é", true),
            ("_", "", false),
            ("a", "ab", false),
            ("%b", "aab", true),
            ("a%b%c", "a1b2b3c", true),
            ("a%b%c", "a1c2b", false),
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

    /// The definition, in exponential time.
    fn slow(pattern: &[Piece], text: &[char]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([Piece::Any, rest @ ..], _) => {
                (0..=text.len()).any(|skipped| slow(rest, &text[skipped..]))
            }
            ([Piece::One, rest @ ..], [_, text @ ..]) => slow(rest, text),
            ([Piece::Plain(wanted), rest @ ..], [found, text @ ..]) => {
                wanted == found && slow(rest, text)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(pattern in "[ab%_\\\\]{0,8}", text in "[ab%_]{0,8}") {
            let pattern = Pattern::parse(&pattern);
            prop_assert_eq!(pattern.matches(&text), slow(&pattern.0, &text.chars().collect::<Vec<_>>()));
            prop_assert_eq!(Pattern::parse(&pattern.to_string()), pattern);
        }
    }
}
