//! The conditions of a valid filter: values have the types of their fields, and negation is pushed
//! down to the leaves.

use uuid::Uuid;

use super::like::Pattern;
use crate::{column::Column, time::Timestamp};

/// A Boolean combination of conditions. Only leaves are negated.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree<L> {
    /// All of them hold; true if empty.
    And(Vec<Tree<L>>),
    /// At least one holds.
    Or(Vec<Tree<L>>),
    /// A single condition.
    Leaf(L),
}

/// A condition, possibly negated.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// Whether the condition must be false.
    pub negated: bool,
    /// The condition.
    pub condition: Condition,
}

/// A condition on one field or entry. A missing value satisfies only [`Condition::Absent`].
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// The field has no value.
    Absent(Plain),
    /// The id is one of these.
    Id(IdField, Vec<Uuid>),
    /// The text passes the test; missing text counts as empty.
    Text(TextField, TextTest),
    /// The time passes the test.
    Time(TimeField, Test<Timestamp>),
    /// The number passes the test, in the field's units.
    Number(NumberField, Test<i128>),
    /// `is_root` equals this.
    Root(bool),
    /// The row has this tag, or any tag for `None`.
    Tag(Option<String>),
    /// Some entry passes all of the tests.
    Entry(Family, Vec<EntryTest>),
}

/// Fields that are not text and can be compared with null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// An id field.
    Id(IdField),
    /// A time field.
    Time(TimeField),
    /// A number field.
    Number(NumberField),
    /// `is_root`, which is never null.
    Root,
}

macro_rules! fields {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is named as the field it stands for")]
        pub enum $name { $($variant),* }

        impl $name {
            pub(super) const ALL: &[(&str, Self)] = &[$(($word, Self::$variant)),*];

            /// The field's name in the filter language.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

fields! {
    /// Fields that hold a UUID.
    IdField { Id "id", TraceId "trace_id", ParentRunId "parent_run_id", }
}

fields! {
    /// Fields that hold text.
    TextField { Name "name", RunType "run_type", Status "status", Error "error", Inputs "inputs", Outputs "outputs", }
}

fields! {
    /// Fields that hold a time.
    TimeField { StartTime "start_time", EndTime "end_time", }
}

fields! {
    /// Numeric fields: latency in microseconds, cost in 10^-12 dollars, token counts as they are.
    NumberField {
        Latency "latency",
        PromptTokens "prompt_tokens",
        CompletionTokens "completion_tokens",
        TotalTokens "total_tokens",
        TotalCost "total_cost",
    }
}

impl NumberField {
    /// Decimal places between the unit that filters use and the field's own unit.
    pub fn scale(self) -> usize {
        match self {
            Self::Latency => 6,
            Self::TotalCost => 12,
            Self::PromptTokens | Self::CompletionTokens | Self::TotalTokens => 0,
        }
    }
}

/// Collections of key-value entries on a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// The entries of `metadata` in `extra`.
    Metadata,
    /// The entries of `inputs`.
    Input,
    /// The entries of `outputs`.
    Output,
    /// Rows of the feedback table.
    Feedback,
}

/// A test of one part of an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryTest {
    /// The part to test.
    pub part: Part,
    /// Whether the test must fail.
    pub negated: bool,
    /// The test.
    pub test: ValueTest,
}

/// A part of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what it says")]
pub enum Part {
    Key,
    Value,
    Score,
}

/// A test of a key, value or score.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueTest {
    /// Present and not null.
    Present,
    /// Equals one of these: a string with that text, or a number or boolean written like that.
    Is(Vec<String>),
    /// A string that matches the pattern.
    Like(Pattern),
    /// A number that passes the test.
    Number(Test<f64>),
}

/// A test of a text field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextTest {
    /// Equals one of these.
    Is(Vec<String>),
    /// Matches the pattern.
    Like(Pattern),
    /// Contains this text, ignoring the case of ASCII letters.
    Contains(String),
}

/// A comparison of ordered values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test<T> {
    /// Equals one of these.
    Is(Vec<T>),
    /// Less than.
    Below(T),
    /// Less than or equal.
    AtMost(T),
    /// Greater than.
    Above(T),
    /// Greater than or equal.
    AtLeast(T),
}

impl<T: PartialOrd> Test<T> {
    /// Whether `value` passes the test.
    pub fn holds(&self, value: &T) -> bool {
        match self {
            Self::Is(any) => any.contains(value),
            Self::Below(limit) => value < limit,
            Self::AtMost(limit) => value <= limit,
            Self::Above(limit) => value > limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl<L> Tree<L> {
    /// Evaluates the tree, given the value of each leaf; `None` if the result depends on a leaf
    /// that is unknown.
    pub fn decide(&self, leaf: &impl Fn(&L) -> Option<bool>) -> Option<bool> {
        let (all, end) = match self {
            Self::Leaf(one) => return leaf(one),
            Self::And(all) => (all, false),
            Self::Or(all) => (all, true),
        };
        let mut known = Some(!end);
        for tree in all {
            match tree.decide(leaf) {
                Some(decided) if decided == end => return Some(end),
                Some(_) => {}
                None => known = None,
            }
        }
        known
    }

    /// All leaves, left to right.
    pub fn leaves(&self) -> Vec<&L> {
        match self {
            Self::Leaf(one) => vec![one],
            Self::And(all) | Self::Or(all) => all.iter().flat_map(Self::leaves).collect(),
        }
    }
}

impl Tree<Leaf> {
    pub(super) fn one(negated: bool, condition: Condition) -> Self {
        Self::Leaf(Leaf { negated, condition })
    }

    /// The logical complement.
    pub(super) fn negate(self) -> Self {
        match self {
            Self::And(all) => Self::Or(all.into_iter().map(Self::negate).collect()),
            Self::Or(all) => Self::And(all.into_iter().map(Self::negate).collect()),
            Self::Leaf(Leaf { negated, condition }) => {
                Self::Leaf(Leaf { negated: !negated, condition })
            }
        }
    }
}

impl Condition {
    /// The offloadable column that the condition reads, if any.
    pub fn content(&self) -> Option<Column> {
        match self {
            Self::Text(field, _) => field.content(),
            Self::Entry(family, _) => family.content(),
            _ => None,
        }
    }
}

impl TextField {
    /// The field's column, if it is offloadable.
    pub fn content(self) -> Option<Column> {
        match self {
            Self::Error => Some(Column::Error),
            Self::Inputs => Some(Column::Inputs),
            Self::Outputs => Some(Column::Outputs),
            Self::Name | Self::RunType | Self::Status => None,
        }
    }
}

impl Family {
    /// The column that holds the entries; `None` for feedback, which has a table of its own.
    pub fn content(self) -> Option<Column> {
        match self {
            Self::Metadata => Some(Column::Extra),
            Self::Input => Some(Column::Inputs),
            Self::Output => Some(Column::Outputs),
            Self::Feedback => None,
        }
    }
}

/// Splits a key that may be a path into nested objects: `a.b` is `b` within `a`. Empty if the key
/// has a single part.
pub fn path(key: &str) -> Vec<&str> {
    let parts: Vec<_> = key.split('.').collect();
    if parts.len() > 1 && parts.iter().all(|part| !part.is_empty()) { parts } else { Vec::new() }
}
