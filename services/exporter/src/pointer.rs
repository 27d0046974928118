//! Decodes pointers to offloaded fields in all their forms. Pure.
//!
//! - in a column with one pointer: `{"ROOT": "<key>"}` and
//!   `{"ROOT": {"s3_url": "<key or s3://bucket/key>"}}`,
//! - in a column with several, by column name: `{"extra": "<key>"}` and
//!   `{"extra": {"s3_url": "…"}}`.
//!
//! Entries are read independently: an invalid one does not affect the others. Which column holds
//! which pointer is a fact of the [source's schema](crate::source::schema).

use tracelift_core::{
    column::Column,
    json::{self, Value},
};

use crate::source::schema::{PointerEntry, SourceSchema};

/// The location of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pointer {
    /// `None` means the configured blob bucket.
    pub(crate) bucket: Option<String>,
    pub(crate) key: String,
}

/// The pointer of `column` in `text`; `Ok(None)` if there is none, `Err` if it is invalid.
pub(crate) fn decode(
    schema: &SourceSchema,
    column: Column,
    text: &str,
) -> Result<Option<Pointer>, &'static str> {
    let Some(held) = schema.runs.pointer_column(column) else { return Ok(None) };
    let name = match held.entry {
        PointerEntry::Root => "ROOT",
        PointerEntry::ColumnName => column.name(),
    };
    let (mut entries, mut others) = (json::entries(text), false);
    for (key, raw) in entries.by_ref() {
        if key == name {
            return value(raw);
        }
        others = true;
    }
    match json::value(text) {
        Value::Null => Ok(None),
        Value::Object(_) if !entries.is_whole() => Err("the pointer cannot be read"),
        Value::Object(_) if held.entry == PointerEntry::Root && others => {
            Err("the pointer has no ROOT")
        }
        Value::Object(_) => Ok(None),
        _ => Err("the pointer is not a JSON object"),
    }
}

/// Parses the value of an entry.
fn value(raw: &str) -> Result<Option<Pointer>, &'static str> {
    match json::parse(raw) {
        Value::Null => Ok(None),
        Value::Text(url) => place(&url).map(Some),
        Value::Object(inner) => match json::entries(inner)
            .find(|(key, _)| key == "s3_url")
            .map(|(_, raw)| json::parse(raw))
        {
            Some(Value::Text(url)) => place(&url).map(Some),
            _ => Err("the pointer has no s3_url"),
        },
        _ => Err("the pointer is neither a key nor an object with s3_url"),
    }
}

/// Longest key that S3 and similar stores accept, in bytes.
const LONGEST_KEY: usize = 1024;

fn place(url: &str) -> Result<Pointer, &'static str> {
    let (bucket, key) = match url.strip_prefix("s3://") {
        Some(rest) => {
            let (bucket, key) =
                rest.split_once('/').ok_or("the pointer names a bucket but no key")?;
            (Some(bucket.to_owned()), key)
        }
        None if url.contains("://") => return Err("the pointer is not an S3 address"),
        None => (None, url.trim_start_matches('/')),
    };
    if key.len() > LONGEST_KEY {
        return Err("the pointer's key is longer than any store takes");
    }
    if key.is_empty() || bucket.as_deref() == Some("") {
        return Err("the pointer is empty");
    }
    Ok(Pointer { bucket, key: key.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(column: Column, text: &str) -> Result<Option<Pointer>, &'static str> {
        super::decode(&SourceSchema::reference("runs", "feedbacks"), column, text)
    }

    fn key(key: &str) -> Result<Option<Pointer>, &'static str> {
        Ok(Some(Pointer { bucket: None, key: key.to_owned() }))
    }

    #[test]
    fn every_form_is_read() {
        let elsewhere = Ok(Some(Pointer { bucket: Some("b".into()), key: "ttl_s/k".into() }));
        assert_eq!(decode(Column::Inputs, r#"{"ROOT": "ttl_s/k"}"#), key("ttl_s/k"));
        assert_eq!(decode(Column::Outputs, r#"{"ROOT": {"s3_url": "ttl_l/k"}}"#), key("ttl_l/k"));
        assert_eq!(decode(Column::Outputs, r#"{"ROOT": {"s3_url": "s3://b/ttl_s/k"}}"#), elsewhere);
        assert_eq!(decode(Column::Inputs, r#"{"ROOT": "s3://b/ttl_s/k"}"#), elsewhere);
        assert_eq!(decode(Column::Extra, r#"{"extra": "k", "error": "e"}"#), key("k"));
        assert_eq!(decode(Column::Error, r#"{"extra": "k", "error": {"s3_url": "e"}}"#), key("e"));
    }

    #[test]
    fn no_pointer_is_no_fault() {
        for (column, text) in [
            (Column::Inputs, ""),
            (Column::Inputs, "{}"),
            (Column::Inputs, "null"),
            (Column::Events, r#"{"extra": "k"}"#),
            (Column::Extra, r#"{"extra": null}"#),
        ] {
            assert_eq!(decode(column, text), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_broken_entry_does_not_take_the_others_with_it() {
        let map = r#"{"error": 7, "attachment.a": "caf\ud83d", "attachment.b": NaN, "extra": "k", "events": "e"#;
        assert_eq!(decode(Column::Extra, map), key("k"));
        assert!(decode(Column::Error, map).is_err());
        assert_eq!(decode(Column::Events, map), Err("the pointer cannot be read"), "it was cut");
        assert_eq!(decode(Column::Inputs, "{\"ROOT\": \"k\"}\0"), key("k"));
    }

    #[test]
    fn a_broken_pointer_is_a_fault() {
        for text in [
            "{",
            "[]",
            "7",
            r#"{"ROOT": 7}"#,
            r#"{"ROOT": {}}"#,
            r#"{"root": "k"}"#,
            r#"{"ROOT": ""}"#,
            r#"{"ROOT": "https://x/y"}"#,
            r#"{"ROOT": "s3://b"}"#,
        ] {
            assert!(decode(Column::Inputs, text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            for column in Column::ALL {
                let _ = decode(*column, &text);
            }
        }
    }
}
