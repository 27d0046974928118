//! Whether a row matches a filter that reads content: what the table could not say, decided once the content is there.

use std::cell::OnceCell;

use arrow::array::{Array as _, AsArray as _, BooleanArray, RecordBatch, StringArray};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tracelift_core::{
    column::Column,
    failure::Failure,
    filter::{Content, Json, Open, Tree},
};

use super::{Cell, named, unexpected};
use crate::source::{
    Slice,
    query::{UNDECIDED, answer},
};

/// Decides the rows of one source batch.
#[derive(Debug)]
pub(crate) struct Decider {
    undecided: BooleanArray,
    answers: Vec<BooleanArray>,
    open: Tree<Open>,
    /// The content that the filter reads, as it lies in the table.
    inline: Vec<(Column, StringArray)>,
}

impl Decider {
    /// `None` when every row of the batch matches, as the query has made sure.
    pub(super) fn of(slice: &Slice, batch: &RecordBatch) -> Result<Option<Self>, Failure> {
        let Some(filter) = slice.filter.as_ref().filter(|filter| filter.reads_content()) else { return Ok(None) };
        let boolean = |name: &str| Ok::<_, Failure>(named(batch, name)?.as_boolean_opt().ok_or_else(|| unexpected(batch))?.clone());
        let (open, questions) = filter.split();
        let answers = (0..questions.len()).map(|index| boolean(&answer(index))).collect::<Result<_, _>>()?;
        let inline = filter.content().into_iter().map(|column| {
            let texts = named(batch, column.name())?.as_string_opt().ok_or_else(|| unexpected(batch))?;
            Ok::<_, Failure>((column, texts.clone()))
        });
        Ok(Some(Self { undecided: boolean(UNDECIDED)?, answers, open, inline: inline.collect::<Result<_, _>>()? }))
    }

    /// Whether a row matches, before any of its offloaded fields is there; `None` when that hangs on them.
    pub(super) fn at_first(&self, row: usize, offloaded: &[&Cell]) -> Option<bool> {
        self.decide(row, &|column| offloaded.iter().all(|cell| cell.column != column).then_some(None))
    }

    /// Whether it matches, given each field that has come: its text, or nothing for a miss.
    pub(super) fn at_last<'a>(&self, row: usize, filled: &impl Fn(Column) -> Option<Option<&'a str>>) -> bool {
        self.decide(row, &|column| Some(filled(column).flatten())).unwrap_or(false)
    }

    /// `fetched` says `None` for what is not there yet, and `Some(None)` where nothing was or will be.
    fn decide<'a>(&self, row: usize, fetched: &dyn Fn(Column) -> Option<Option<&'a str>>) -> Option<bool> {
        if !self.undecided.value(row) {
            return Some(true);
        }
        let texts = self.inline.iter().map(|(column, texts)| {
            let text = if texts.is_valid(row) { Some(texts.value(row)) } else { fetched(*column).map(Option::unwrap_or_default) };
            Field { column: *column, text, json: OnceCell::new() }
        });
        let fields = Fields(texts.collect());
        self.open.decide(&|open| match open {
            Open::Answered(index) => Some(self.answers[*index].value(row)),
            Open::Content(leaf) => leaf.of_content(&fields),
        })
    }
}

/// The content of one row.
struct Fields<'a>(Vec<Field<'a>>);

struct Field<'a> {
    column: Column,
    text: Option<&'a str>,
    /// Read when it is asked for: it may be large.
    json: OnceCell<Json>,
}

impl Fields<'_> {
    fn of(&self, column: Column) -> Option<&Field<'_>> {
        self.0.iter().find(|field| field.column == column)
    }
}

impl Content for Fields<'_> {
    fn text(&self, column: Column) -> Option<&str> {
        self.of(column)?.text
    }

    fn json(&self, column: Column) -> Option<&Json> {
        let field = self.of(column)?;
        let text = field.text?;
        Some(field.json.get_or_init(|| serde_json::from_str(text).map_or(Json::Null, |Read(json)| json)))
    }
}

/// JSON as a filter looks at it, without the lists.
struct Read(Json);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    #[allow(clippy::cast_precision_loss, reason = "a filter compares numbers as doubles")]
    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    #[allow(clippy::cast_precision_loss, reason = "a filter compares numbers as doubles")]
    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some((key, Read(value))) = entries.next_entry::<String, Read>()? {
            object.push((key, value));
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_far_as_a_filter_looks() {
        let read = |text| serde_json::from_str(text).map_or(Json::Null, |Read(json)| json);
        let entries = vec![("a".to_owned(), Json::Number(-1.5)), ("b".to_owned(), Json::Object(vec![("c".to_owned(), Json::Bool(true))]))];
        assert_eq!(read(r#" {"a": -1.5, "b": {"c": true}} "#), Json::Object(entries));
        assert_eq!(read(r#"["a", [null]]"#), Json::List);
        assert_eq!(read(r#""\u00e9""#), Json::Text("é".to_owned()));
        assert_eq!(read("18446744073709551615"), Json::Number(18_446_744_073_709_551_615.0));
        assert_eq!(read(r#"{"a": "#), Json::Null);
    }
}
