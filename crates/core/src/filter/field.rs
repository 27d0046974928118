//! The vocabulary of the filter language: operators with their arity, and fields with the operators
//! they accept.

use super::condition::{Family, IdField, NumberField, Part, TextField, TimeField};

macro_rules! operators {
    ($($variant:ident $word:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Operator { $($variant),* }

        impl Operator {
            const ALL: &[Self] = &[$(Self::$variant),*];

            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

operators! {
    Eq "eq",
    Neq "neq",
    Gt "gt",
    Gte "gte",
    Lt "lt",
    Lte "lte",
    Has "has",
    Search "search",
    And "and",
    Or "or",
    In "in",
    Like "like",
    NotLike "notlike",
    Exists "exists",
    Not "not",
}

impl Operator {
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operator| operator.name() == name)
    }

    /// The number of arguments, for error messages.
    pub(super) fn arguments(self) -> &'static str {
        match self {
            Self::And | Self::Or => "at least 1",
            Self::Search | Self::Exists | Self::Not => "1",
            _ => "2",
        }
    }

    pub(super) fn takes(self, arguments: usize) -> bool {
        match self {
            Self::And | Self::Or => arguments > 0,
            Self::Search | Self::Exists | Self::Not => arguments == 1,
            _ => arguments == 2,
        }
    }
}

/// What a condition can test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Id(IdField),
    Text(TextField),
    Time(TimeField),
    Number(NumberField),
    Root,
    Tags,
    Thread,
    Entry(Family, Part),
}

const OTHERS: [(&str, Field); 12] = [
    ("is_root", Field::Root),
    ("tags", Field::Tags),
    ("thread_id", Field::Thread),
    ("feedback_key", Field::Entry(Family::Feedback, Part::Key)),
    ("feedback_score", Field::Entry(Family::Feedback, Part::Score)),
    ("feedback_value", Field::Entry(Family::Feedback, Part::Value)),
    ("metadata_key", Field::Entry(Family::Metadata, Part::Key)),
    ("metadata_value", Field::Entry(Family::Metadata, Part::Value)),
    ("input_key", Field::Entry(Family::Input, Part::Key)),
    ("input_value", Field::Entry(Family::Input, Part::Value)),
    ("output_key", Field::Entry(Family::Output, Part::Key)),
    ("output_value", Field::Entry(Family::Output, Part::Value)),
];

fn all() -> impl Iterator<Item = (&'static str, Field)> {
    let ids = IdField::ALL.iter().map(|(name, field)| (*name, Field::Id(*field)));
    let texts = TextField::ALL.iter().map(|(name, field)| (*name, Field::Text(*field)));
    let times = TimeField::ALL.iter().map(|(name, field)| (*name, Field::Time(*field)));
    let numbers = NumberField::ALL.iter().map(|(name, field)| (*name, Field::Number(*field)));
    ids.chain(texts).chain(times).chain(numbers).chain(OTHERS)
}

pub(super) fn all_fields() -> String {
    all().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

pub(super) fn all_operators() -> String {
    Operator::ALL.iter().map(|operator| operator.name()).collect::<Vec<_>>().join(", ")
}

impl Field {
    pub(super) fn named(name: &str) -> Option<Self> {
        all().find(|(known, _)| *known == name).map(|(_, field)| field)
    }

    /// The operators that the field accepts.
    pub(super) fn operators(self) -> &'static [Operator] {
        use Operator::{Eq, Exists, Gt, Gte, Has, In, Like, Lt, Lte, Neq, NotLike};
        match self {
            Self::Id(_) => &[Eq, Neq, In, Exists],
            Self::Text(TextField::Inputs | TextField::Outputs) => &[Like, NotLike, Exists, Eq, Neq],
            Self::Text(_)
            | Self::Thread
            | Self::Entry(_, Part::Key)
            | Self::Entry(Family::Feedback, Part::Value) => &[Eq, Neq, In, Like, NotLike, Exists],
            Self::Time(_) | Self::Number(_) | Self::Entry(_, Part::Score) => {
                &[Eq, Neq, Gt, Gte, Lt, Lte, In, Exists]
            }
            Self::Entry(_, Part::Value) => &[Eq, Neq, Gt, Gte, Lt, Lte, In, Like, NotLike, Exists],
            Self::Root => &[Eq, Neq, Exists],
            Self::Tags => &[Has, Exists, Eq, Neq],
        }
    }
}
