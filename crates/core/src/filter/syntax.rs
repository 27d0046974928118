//! Parses a filter's text into a tree of calls with positions, and prints it back.
//!
//! This module knows the grammar, not the operators and fields. Nesting is bounded, so no input
//! overflows the stack.

use std::fmt::{self, Write as _};

use super::FilterError;

/// Maximum length of a filter, in bytes.
pub const MAX_LENGTH: usize = 32 << 10;
/// Maximum nesting of calls.
pub const MAX_DEPTH: usize = 64;

/// A part of a filter. Equality ignores positions.
#[derive(Debug, Clone)]
pub struct Expression {
    /// First character, counted from 1.
    pub at: usize,
    /// The kind of expression.
    pub kind: Kind,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// The kinds of expressions.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `operator(arguments)`
    Call(String, Vec<Expression>),
    /// An unquoted word.
    Field(String),
    /// Text in single or double quotes.
    Text(String),
    /// A number as it was written.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// `null`
    Null,
    /// `[a, b]`
    List(Vec<Expression>),
}

/// Parses a whole text as one call.
pub fn parse(text: &str) -> Result<Expression, FilterError> {
    if text.len() > MAX_LENGTH {
        return Err(FilterError::at(1, format!("a filter must have at most {MAX_LENGTH} bytes")));
    }
    let characters: Vec<char> = text.chars().collect();
    // Not every database and protocol that carries the text accepts them.
    let control =
        |character: &char| character.is_ascii_control() && !character.is_ascii_whitespace();
    if let Some(control) = characters.iter().position(control) {
        return Err(FilterError::at(
            control + 1,
            "a filter must not hold control characters as such; write \\u0000",
        ));
    }
    let mut parser = Parser { characters, next: 0, depth: 0 };
    parser.space();
    let whole = match parser.peek() {
        Some(first) if begins_word(first) => parser.word()?,
        _ => return Err(parser.expected("a condition such as eq(run_type, \"llm\")")),
    };
    if !matches!(whole.kind, Kind::Call(..)) {
        return Err(FilterError::at(
            whole.at,
            format!("expected a condition such as eq(run_type, \"llm\"), found {whole}"),
        ));
    }
    parser.space();
    match parser.peek() {
        None => Ok(whole),
        Some(_) => Err(parser.expected("the end of the filter")),
    }
}

/// Whether the text is a number in the filter language.
pub fn is_number(text: &str) -> bool {
    let mut parser = Parser { characters: text.chars().collect(), next: 0, depth: 0 };
    parser.number().is_ok() && parser.peek().is_none()
}

struct Parser {
    characters: Vec<char>,
    next: usize,
    depth: usize,
}

fn begins_word(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.next).copied()
    }

    fn take(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.next += 1;
        Some(character)
    }

    fn take_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        if self.peek().is_some_and(wanted) { self.take() } else { None }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        std::iter::from_fn(|| self.take_if(&wanted)).collect()
    }

    fn space(&mut self) {
        while self.take_if(char::is_whitespace).is_some() {}
    }

    fn expected(&self, what: &str) -> FilterError {
        let found =
            self.peek().map_or_else(|| "the end".to_owned(), |character| format!("{character:?}"));
        FilterError::at(self.next + 1, format!("expected {what}, found {found}"))
    }

    fn expression(&mut self) -> Result<Expression, FilterError> {
        match self.peek() {
            Some(first) if begins_word(first) => self.word(),
            Some('[') => self.list(),
            _ => self.value("a condition, a field or a value"),
        }
    }

    /// A call, a field, or a literal word.
    fn word(&mut self) -> Result<Expression, FilterError> {
        let at = self.next + 1;
        let word =
            self.take_while(|character| begins_word(character) || character.is_ascii_digit());
        self.space();
        let kind = match (self.peek(), word.as_str()) {
            (Some('('), _) => Kind::Call(word, self.arguments()?),
            (_, "true") => Kind::Bool(true),
            (_, "false") => Kind::Bool(false),
            (_, "null") => Kind::Null,
            _ => Kind::Field(word),
        };
        Ok(Expression { at, kind })
    }

    fn arguments(&mut self) -> Result<Vec<Expression>, FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FilterError::at(
                self.next + 1,
                format!("a filter must not have more than {MAX_DEPTH} calls within each other"),
            ));
        }
        let arguments = self.items(')', "\",\" or \")\"", Self::expression)?;
        self.depth -= 1;
        Ok(arguments)
    }

    fn list(&mut self) -> Result<Expression, FilterError> {
        let at = self.next + 1;
        let items = self.items(']', "\",\" or \"]\"", |parser| parser.value("a value"))?;
        Ok(Expression { at, kind: Kind::List(items) })
    }

    /// Parses a bracketed list, starting at the opening bracket.
    fn items(
        &mut self,
        end: char,
        or_end: &str,
        item: impl Fn(&mut Self) -> Result<Expression, FilterError>,
    ) -> Result<Vec<Expression>, FilterError> {
        self.take();
        self.space();
        let mut items = Vec::new();
        if self.take_if(|character| character == end).is_some() {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            self.space();
            if self.take_if(|character| character == end).is_some() {
                return Ok(items);
            }
            if self.take_if(|character| character == ',').is_none() {
                return Err(self.expected(or_end));
            }
            self.space();
        }
    }

    fn value(&mut self, expected: &str) -> Result<Expression, FilterError> {
        let at = self.next + 1;
        let kind = match self.peek() {
            Some(quote @ ('"' | '\'')) => Kind::Text(self.text(quote)?),
            Some('-' | '0'..='9') => Kind::Number(self.number()?),
            Some(first) if begins_word(first) => match self.word()? {
                Expression { kind: kind @ (Kind::Bool(_) | Kind::Null), .. } => kind,
                other => {
                    return Err(FilterError::at(
                        at,
                        format!("expected {expected}, found {}", short(&other.to_string())),
                    ));
                }
            },
            _ => return Err(self.expected(expected)),
        };
        Ok(Expression { at, kind })
    }

    fn number(&mut self) -> Result<String, FilterError> {
        let mut number = String::new();
        number.extend(self.take_if(|character| character == '-'));
        self.digits(&mut number)?;
        if let Some(point) = self.take_if(|character| character == '.') {
            number.push(point);
            self.digits(&mut number)?;
        }
        if self.take_if(|character| matches!(character, 'e' | 'E')).is_some() {
            number.push('e');
            number.extend(self.take_if(|character| matches!(character, '+' | '-')));
            self.digits(&mut number)?;
        }
        Ok(number)
    }

    fn digits(&mut self, number: &mut String) -> Result<(), FilterError> {
        let digits = self.take_while(|character| character.is_ascii_digit());
        if digits.is_empty() {
            return Err(self.expected("a digit"));
        }
        number.push_str(&digits);
        Ok(())
    }

    fn text(&mut self, quote: char) -> Result<String, FilterError> {
        let begin = self.next + 1;
        self.take();
        let mut text = String::new();
        loop {
            match self.take() {
                None => {
                    return Err(FilterError::at(
                        begin,
                        format!("expected {quote} at the end of this text, found the end"),
                    ));
                }
                Some(end) if end == quote => return Ok(text),
                Some('\\') => self.escape(&mut text)?,
                Some(character) => text.push(character),
            }
        }
    }

    /// Parses what follows a backslash. Before any other character the backslash is literal, so
    /// that a pattern can contain `\%`.
    fn escape(&mut self, text: &mut String) -> Result<(), FilterError> {
        let Some(escaped) = self.take() else { return Ok(()) }; // reported as an unterminated text
        match escaped {
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            '\\' | '"' | '\'' | '/' => text.push(escaped),
            'u' => text.push(self.unicode()?),
            other => text.extend(['\\', other]),
        }
        Ok(())
    }

    /// Parses `\u00e9`, or a surrogate pair for a character beyond U+FFFF.
    fn unicode(&mut self) -> Result<char, FilterError> {
        let at = self.next - 1;
        let broken = || FilterError::at(at, "expected a character's four hexadecimal digits");
        let first = self.hex().ok_or_else(broken)?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).ok_or_else(broken);
        }
        let escaped = self.take() == Some('\\') && self.take() == Some('u');
        let second = escaped
            .then(|| self.hex())
            .flatten()
            .filter(|second| (0xdc00..0xe000).contains(second))
            .ok_or_else(broken)?;
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or_else(broken)
    }

    fn hex(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |value, _| Some(value * 16 + self.take()?.to_digit(16)?))
    }
}

/// Truncates text for quoting in an error.
pub(super) fn short(text: &str) -> String {
    const MOST: usize = 64;
    if text.chars().nth(MOST).is_none() {
        text.to_owned()
    } else {
        text.chars().take(MOST).chain(['…']).collect()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Call(operator, arguments) => {
                f.write_str(operator)?;
                bracketed(f, '(', arguments, ')')
            }
            Kind::List(items) => bracketed(f, '[', items, ']'),
            Kind::Field(text) | Kind::Number(text) => f.write_str(text),
            Kind::Bool(value) => write!(f, "{value}"),
            Kind::Null => f.write_str("null"),
            Kind::Text(text) => quoted(f, text),
        }
    }
}

fn bracketed(
    f: &mut fmt::Formatter<'_>,
    open: char,
    items: &[Expression],
    close: char,
) -> fmt::Result {
    f.write_char(open)?;
    for (index, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if index > 0 { ", " } else { "" })?;
    }
    f.write_char(close)
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            control if control.is_control() => write!(f, "\\u{:04x}", u32::from(control))?,
            other => f.write_char(other)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(kind: Kind) -> Expression {
        Expression { at: 0, kind }
    }

    fn value() -> impl Strategy<Value = Expression> {
        let number = (
            any::<bool>(),
            "[0-9]{1,5}",
            prop::option::of("[0-9]{1,4}"),
            prop::option::of("[+-]?[0-9]{1,2}"),
        );
        let number = number.prop_map(|(minus, digits, fraction, exponent)| {
            let minus = if minus { "-" } else { "" };
            let fraction = fraction.map(|fraction| format!(".{fraction}")).unwrap_or_default();
            let exponent = exponent.map(|exponent| format!("e{exponent}")).unwrap_or_default();
            Kind::Number(format!("{minus}{digits}{fraction}{exponent}"))
        });
        let text =
            prop_oneof![any::<String>(), "[\\\\\"'%_nrtu0-9\n\t\u{0}]{0,12}"].prop_map(Kind::Text);
        prop_oneof![text, number, any::<bool>().prop_map(Kind::Bool), Just(Kind::Null)].prop_map(at)
    }

    fn argument() -> impl Strategy<Value = Expression> {
        let word = "[a-z_][a-z0-9_]{0,9}"
            .prop_filter("is a value", |word| !matches!(word.as_str(), "true" | "false" | "null"));
        let list = prop::collection::vec(value(), 0..4).prop_map(Kind::List).prop_map(at);
        prop_oneof![value(), list, word.prop_map(Kind::Field).prop_map(at)]
    }

    fn call(arguments: impl Strategy<Value = Expression>) -> impl Strategy<Value = Expression> {
        ("[a-z]{1,6}", prop::collection::vec(arguments, 0..4))
            .prop_map(|(operator, arguments)| at(Kind::Call(operator, arguments)))
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same(tree in call(argument().prop_recursive(6, 40, 4, call))) {
            prop_assert_eq!(parse(&tree.to_string()), Ok(tree));
        }

        #[test]
        fn no_text_makes_the_parser_fall_over(text in any::<String>(), pieces in "([a-z]{0,3}[()\\[\\],\"'\\\\ 0-9.eu-]{0,3}){0,20}") {
            for text in [text, pieces] {
                if let Ok(tree) = parse(&text) {
                    prop_assert_eq!(parse(&tree.to_string()), Ok(tree));
                }
            }
        }
    }

    fn told(text: &str) -> String {
        parse(text).map_or_else(|error| error.to_string(), |tree| tree.to_string())
    }

    #[test]
    fn either_quote_holds_the_other_and_every_escape() {
        assert_eq!(
            told(r#"eq(name,'a"b\'\u00e9\ud83d\ude00\n\/\\\%')"#),
            r#"eq(name, "a\"b'é😀\n/\\\\%")"#
        );
    }

    #[test]
    fn a_mistake_is_named_with_its_place_and_what_was_expected() {
        let deep = "and(".repeat(MAX_LENGTH / 4);
        let long = format!("eq(name,\"{}\")", "x".repeat(MAX_LENGTH));
        let cases = [
            "",
            "  ",
            "name",
            "true",
            "eq",
            "eq(",
            "eq(name",
            "eq(name,",
            "eq(name \"x\")",
            "eq(name,\"x",
            "eq(name,\"x\"))",
            "eq(,)",
            "in(id,[eq(a,b)])",
            "in(id,[a])",
            "in(id,[1 2])",
            "gt(latency,1.)",
            "gt(latency,-)",
            "gt(latency,1e)",
            "eq(ä,1)",
            "eq(name,\"a\0\")",
            "eq(name,\"\\u12\")",
            "eq(name,\"\\ud83d\")",
            "eq(näme,\"ä\")",
            "eq(a,b) eq(c,d)",
            &deep,
            &long,
        ];
        let table: Vec<_> = cases
            .iter()
            .map(|case| format!("{}\n    {}", short(case).replace('\0', "NUL"), told(case)))
            .collect();
        insta::assert_snapshot!(table.join("\n"));
    }
}
