//! Export filters, such as `and(eq(run_type, "llm"), gt(latency, "5s"))`. `docs/filter.md` defines
//! the language.
//!
//! Text → [`syntax`] (positions, no meaning) → conditions ([`Tree`]) with negation pushed down to
//! the leaves. [`Row::decide`] defines their meaning; the SQL that the exporter generates must
//! agree with it.

mod check;
mod condition;
mod evaluate;
mod field;
mod like;
pub mod syntax;

use std::{fmt, sync::Arc};

pub use check::{MAX_CONDITIONS, MAX_VALUES};
pub use condition::{
    Condition, EntryTest, Family, IdField, Leaf, NumberField, Part, Plain, Test, TextField,
    TextTest, TimeField, Tree, ValueTest, path,
};
pub use evaluate::{Content, Feedback, Row, numbers};
pub use like::{MAX_PATTERN, Pattern};

use crate::{Invalid, column::Column};

/// An error in a filter, with its position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    /// First wrong character, counted from 1.
    pub position: usize,
    /// What is wrong, including the position.
    pub message: String,
}

impl FilterError {
    fn at(position: usize, words: impl fmt::Display) -> Self {
        Self { position, message: format!("at character {position}: {words}") }
    }

    /// Worded like LangSmith's error.
    fn arity(position: usize, operator: field::Operator, got: usize) -> Self {
        Self {
            position,
            message: format!(
                "\"{}\" requires {} arguments, got {got}",
                operator.name(),
                operator.arguments()
            ),
        }
    }
}

/// A valid filter. Filters with the same text are equal.
#[derive(Debug, Clone)]
pub struct Filter(Arc<(String, Tree<Leaf>)>);

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Filter {}

/// A leaf of a filter that is evaluated after the trace store has answered what it can.
#[derive(Debug, Clone, PartialEq)]
pub enum Open {
    /// Answered by the trace store: an index into the questions of [`Filter::split`].
    Answered(usize),
    /// Depends on content.
    Content(Leaf),
}

impl Filter {
    /// Parses a filter, or returns everything that is wrong with it.
    pub fn read(text: &str) -> Result<Self, Vec<FilterError>> {
        let tree = check::check(&syntax::parse(text).map_err(|error| vec![error])?)?;
        Ok(Self(Arc::new((text.to_owned(), tree))))
    }

    /// Like [`read`](Self::read), with errors on `field`; empty text means no filter.
    pub fn parse(field: &str, text: &str) -> Result<Option<Self>, Vec<Invalid>> {
        if text.is_empty() {
            return Ok(None);
        }
        let invalid = |error: FilterError| Invalid::new(field, error);
        Self::read(text).map(Some).map_err(|errors| errors.into_iter().map(invalid).collect())
    }

    /// The original text.
    pub fn text(&self) -> &str {
        &self.0.0
    }

    /// The conditions.
    pub fn tree(&self) -> &Tree<Leaf> {
        &self.0.1
    }

    /// The offloadable columns that the filter reads, without duplicates.
    pub fn content(&self) -> Vec<Column> {
        let read: Vec<_> =
            self.tree().leaves().into_iter().filter_map(|leaf| leaf.condition.content()).collect();
        Column::ALL.iter().copied().filter(|column| read.contains(column)).collect()
    }

    /// Whether it reads any offloadable column, so that the trace store alone cannot decide which
    /// rows match.
    pub fn reads_content(&self) -> bool {
        !self.content().is_empty()
    }

    /// Splits the filter into a tree to evaluate once the content is known, and the questions that
    /// the trace store must answer: the largest subtrees that read no content.
    pub fn split(&self) -> (Tree<Open>, Vec<Tree<Leaf>>) {
        let mut questions = Vec::new();
        let open = open(self.tree(), &mut questions);
        (open, questions)
    }

    /// Whether a row matches; `None` if that depends on unknown content.
    pub fn matches(&self, row: &Row<impl Content>) -> Option<bool> {
        self.tree().decide(&|leaf| row.decide(leaf))
    }
}

fn open(tree: &Tree<Leaf>, questions: &mut Vec<Tree<Leaf>>) -> Tree<Open> {
    if tree.leaves().into_iter().all(|leaf| leaf.condition.content().is_none()) {
        questions.push(tree.clone());
        return Tree::Leaf(Open::Answered(questions.len() - 1));
    }
    match tree {
        Tree::And(all) => Tree::And(opened(all, questions, Tree::And)),
        Tree::Or(all) => Tree::Or(opened(all, questions, Tree::Or)),
        Tree::Leaf(leaf) => Tree::Leaf(Open::Content(leaf.clone())),
    }
}

/// Siblings that read no content become a single question.
fn opened(
    all: &[Tree<Leaf>],
    questions: &mut Vec<Tree<Leaf>>,
    join: fn(Vec<Tree<Leaf>>) -> Tree<Leaf>,
) -> Vec<Tree<Open>> {
    let reads = |tree: &&Tree<Leaf>| {
        tree.leaves().into_iter().any(|leaf| leaf.condition.content().is_some())
    };
    let (content, plain): (Vec<_>, Vec<_>) = all.iter().partition(reads);
    let plain: Vec<_> = plain.into_iter().cloned().collect();
    let asked = (!plain.is_empty()).then(|| open(&join(plain), questions));
    asked
        .into_iter()
        .chain(content.into_iter().map(|tree| open(tree, questions)).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests;
