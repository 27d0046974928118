//! Decides whether a row matches a filter on offloaded content, once the content has been fetched.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use arrow::array::{Array as _, AsArray as _, BooleanArray, RecordBatch, StringArray};
use tracelift_core::{
    column::Column,
    failure::Failure,
    filter::{Content, Open, Tree},
};

use super::{Cell, named, unexpected};
use crate::source::{
    Slice,
    query::{UNDECIDED, answer},
};

/// Decides the rows of one source batch. Content can be large and a filter costly, so rows are decided
/// off the reactor, until [`Abandoned`].
#[derive(Debug)]
pub(crate) struct ContentFilter {
    undecided: BooleanArray,
    answers: Vec<BooleanArray>,
    open: Tree<Open>,
    /// The content that the filter reads, as far as the table holds it.
    inline: Vec<(Column, StringArray)>,
    abandoned: Abandoned,
}

/// Tells decisions that run off the reactor that nobody waits for them any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abandoned(Arc<AtomicBool>);

/// Abandons the decisions on drop.
#[derive(Debug)]
pub(super) struct AbandonOnDrop(pub(super) Abandoned);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Relaxed);
    }
}

impl ContentFilter {
    /// `None` if every row of the batch matches, which the query has ensured.
    pub(super) fn of(
        slice: &Slice,
        batch: &RecordBatch,
        abandoned: &Abandoned,
    ) -> Result<Option<Self>, Failure> {
        let Some(filter) = slice.filter.as_ref().filter(|filter| filter.reads_content()) else {
            return Ok(None);
        };
        let boolean = |name: &str| {
            Ok::<_, Failure>(
                named(batch, name)?.as_boolean_opt().ok_or_else(|| unexpected(batch))?.clone(),
            )
        };
        let (open, questions) = filter.split();
        let answers =
            (0..questions.len()).map(|index| boolean(&answer(index))).collect::<Result<_, _>>()?;
        let inline = filter.content().into_iter().map(|column| {
            let texts =
                named(batch, column.name())?.as_string_opt().ok_or_else(|| unexpected(batch))?;
            Ok::<_, Failure>((column, texts.clone()))
        });
        Ok(Some(Self {
            undecided: boolean(UNDECIDED)?,
            answers,
            open,
            inline: inline.collect::<Result<_, _>>()?,
            abandoned: abandoned.clone(),
        }))
    }

    /// Whether the filter reads this offloadable column.
    pub(super) fn reads(&self, column: &str) -> bool {
        self.inline.iter().any(|(read, _)| read.name() == column)
    }

    /// Whether a row matches, before any of its offloaded fields is known; `None` if that depends
    /// on them.
    pub(super) fn at_first(&self, row: usize, offloaded: &[&Cell]) -> Option<bool> {
        self.decide(row, &|column| {
            offloaded.iter().any(|cell| cell.column == column).then_some(None)
        })
    }

    /// Whether a row matches, given the text of each fetched field, or nothing for a miss; `None`
    /// if that depends on a miss.
    pub(super) fn at_last<'a>(
        &self,
        row: usize,
        filled: &impl Fn(Column) -> Option<Option<&'a str>>,
    ) -> Option<bool> {
        self.decide(row, filled)
    }

    /// `offloaded` returns `None` for a field that is not offloaded, and `Some(None)` for one whose
    /// text is unknown.
    fn decide<'a>(
        &self,
        row: usize,
        offloaded: &dyn Fn(Column) -> Option<Option<&'a str>>,
    ) -> Option<bool> {
        if !self.undecided.value(row) {
            return Some(true);
        }
        let texts = self.inline.iter().map(|(column, texts)| {
            let inline = || Some(if texts.is_valid(row) { texts.value(row) } else { "" });
            (*column, offloaded(*column).unwrap_or_else(inline))
        });
        let fields = Fields { texts: texts.collect(), abandoned: &self.abandoned };
        self.open.decide(&|open| match open {
            Open::Answered(index) => Some(self.answers[*index].value(row)),
            Open::Content(leaf) => leaf.of_content(&fields),
        })
    }
}

/// The content of one row, as far as it is known.
struct Fields<'a> {
    texts: Vec<(Column, Option<&'a str>)>,
    abandoned: &'a Abandoned,
}

impl Content for Fields<'_> {
    fn text(&self, column: Column) -> Option<&str> {
        self.texts.iter().find(|field| field.0 == column)?.1
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.0.load(Relaxed)
    }
}
