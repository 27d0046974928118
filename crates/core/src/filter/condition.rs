//! A filter that was understood: conditions whose values have the types of their fields, negation
//! pushed down to them.

use uuid::Uuid;

use super::like::Pattern;
use crate::{column::Column, time::Timestamp};

/// Conditions, joined. Negation stands at the leaves only.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree<L> {
    /// All of them hold; so it does without any.
    And(Vec<Tree<L>>),
    /// At least one holds.
    Or(Vec<Tree<L>>),
    /// One condition.
    Leaf(L),
}

/// A condition, or that it does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// Whether it must not hold.
    pub negated: bool,
    /// The condition.
    pub condition: Condition,
}

/// What one field, or one entry of many, must be like. An absent value meets none of them but
/// [`Condition::Absent`].
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// The field has no value.
    Absent(Plain),
    /// An id is one of these.
    Id(IdField, Vec<Uuid>),
    /// A text is as wanted; an absent text is the empty text.
    Text(TextField, TextTest),
    /// A time is as wanted.
    Time(TimeField, Test<Timestamp>),
    /// A number, in whole units of its field, is as wanted.
    Number(NumberField, Test<i128>),
    /// `is_root` is that.
    Root(bool),
    /// That tag is there; without one, any tag.
    Tag(Option<String>),
    /// There is an entry for which all of the tests hold.
    Entry(Family, Vec<EntryTest>),
}

/// Fields that are no text and may be absent, or are compared with null all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// An id.
    Id(IdField),
    /// A time.
    Time(TimeField),
    /// A number.
    Number(NumberField),
    /// `is_root`, which is never absent.
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

            /// The word of the filter language.
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
    /// Fields that hold a number: latency in microseconds, cost in 10^-12 dollars, tokens as they are.
    NumberField {
        Latency "latency",
        PromptTokens "prompt_tokens",
        CompletionTokens "completion_tokens",
        TotalTokens "total_tokens",
        TotalCost "total_cost",
    }
}

impl NumberField {
    /// Digits behind the point of what a filter writes that make one unit.
    pub fn scale(self) -> usize {
        match self {
            Self::Latency => 6,
            Self::TotalCost => 12,
            Self::PromptTokens | Self::CompletionTokens | Self::TotalTokens => 0,
        }
    }
}

/// What has entries: keys with values, many to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// `metadata` within `extra`.
    Metadata,
    /// Keys of `inputs`.
    Input,
    /// Keys of `outputs`.
    Output,
    /// Rows of the table of feedback.
    Feedback,
}

/// A test of one part of an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryTest {
    /// Of what.
    pub part: Part,
    /// Whether it must not hold.
    pub negated: bool,
    /// What it must be like.
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

/// What a part of an entry must be like.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueTest {
    /// It is there and not null.
    Present,
    /// It is one of these: a text that is the same; a number or a truth value whose text it is.
    Is(Vec<String>),
    /// It is a text of that form.
    Like(Pattern),
    /// It is a number in that relation.
    Number(Test<f64>),
}

/// What a text must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextTest {
    /// One of these.
    Is(Vec<String>),
    /// Of that form.
    Like(Pattern),
    /// This stands in it somewhere; letters A to Z in either case.
    Contains(String),
}

/// How a value that has an order compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test<T> {
    /// It is one of these.
    Is(Vec<T>),
    /// It is smaller.
    Below(T),
    /// It is not larger.
    AtMost(T),
    /// It is larger.
    Above(T),
    /// It is not smaller.
    AtLeast(T),
}

impl<T: PartialOrd> Test<T> {
    /// Whether it holds for `value`.
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
    /// Whether it holds when `leaf` says so of each leaf; `None` when that hangs on a leaf of which
    /// it does not know.
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

    /// Every leaf, from left to right.
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

    /// The opposite.
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
    /// The column it reads, when that may lie in an object.
    pub fn content(&self) -> Option<Column> {
        match self {
            Self::Text(field, _) => field.content(),
            Self::Entry(family, _) => family.content(),
            _ => None,
        }
    }
}

impl TextField {
    /// Its column, when that may lie in an object.
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
    /// The column that holds the entries; feedback has a table of its own.
    pub fn content(self) -> Option<Column> {
        match self {
            Self::Metadata => Some(Column::Extra),
            Self::Input => Some(Column::Inputs),
            Self::Output => Some(Column::Outputs),
            Self::Feedback => None,
        }
    }
}

/// The parts of a key that may name a value within values: `a.b` is `b` within `a`. Empty when it
/// has but one.
pub fn path(key: &str) -> Vec<&str> {
    let parts: Vec<_> = key.split('.').collect();
    if parts.len() > 1 && parts.iter().all(|part| !part.is_empty()) { parts } else { Vec::new() }
}
