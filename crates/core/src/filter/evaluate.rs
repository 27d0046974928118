//! Evaluates a filter on a row. This is the reference semantics that every other implementation,
//! above all the SQL, must agree with.

use uuid::Uuid;

use super::{
    check::named_paths,
    condition::{
        Condition, EntryTest, Family, IdField, Leaf, NumberField, Part, Plain, TextField, TextTest,
        TimeField, ValueTest, path,
    },
    syntax::is_number,
};
use crate::{
    column::Column,
    json::{self, Value},
    time::Timestamp,
};

/// A row's offloadable columns.
pub trait Content {
    /// The text of `inputs`, `outputs`, `extra` or `error`, empty if there is none; `None` if it is
    /// unknown.
    fn text(&self, column: Column) -> Option<&str>;

    /// Whether nobody waits for the answer any more: then what is asked stays unknown. Looked at
    /// often, because content can be large.
    fn is_abandoned(&self) -> bool {
        false
    }
}

/// A feedback entry of a row.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each is named as the column it stands for; data.md describes them")]
pub struct Feedback {
    pub key: String,
    pub score: Option<f64>,
    pub value: String,
}

/// A trace row, reduced to what filters read.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each is named as the column it stands for; data.md describes them")]
pub struct Row<C> {
    pub id: Uuid,
    pub trace_id: Uuid,
    pub parent_run_id: Option<Uuid>,
    pub name: String,
    pub run_type: String,
    pub status: String,
    pub start_time: Timestamp,
    pub end_time: Option<Timestamp>,
    pub is_root: bool,
    pub tags: Vec<String>,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
    /// In 10^-12 dollars.
    pub total_cost: Option<i128>,
    pub feedbacks: Vec<Feedback>,
    pub content: C,
}

impl<C: Content> Row<C> {
    fn id_of(&self, field: IdField) -> Option<Uuid> {
        match field {
            IdField::Id => Some(self.id),
            IdField::TraceId => Some(self.trace_id),
            IdField::ParentRunId => self.parent_run_id,
        }
    }

    fn time_of(&self, field: TimeField) -> Option<Timestamp> {
        match field {
            TimeField::StartTime => Some(self.start_time),
            TimeField::EndTime => self.end_time,
        }
    }

    fn number_of(&self, field: NumberField) -> Option<i128> {
        match field {
            NumberField::Latency => self
                .end_time
                .map(|end| i128::from(end.micros()) - i128::from(self.start_time.micros())),
            NumberField::PromptTokens => Some(self.prompt_tokens.into()),
            NumberField::CompletionTokens => Some(self.completion_tokens.into()),
            NumberField::TotalTokens => Some(self.total_tokens.into()),
            NumberField::TotalCost => self.total_cost,
        }
    }

    /// Evaluates a condition on this row; `None` if it depends on unknown content.
    pub fn decide(&self, leaf: &Leaf) -> Option<bool> {
        let holds = match &leaf.condition {
            Condition::Absent(Plain::Id(field)) => self.id_of(*field).is_none(),
            Condition::Absent(Plain::Time(field)) => self.time_of(*field).is_none(),
            Condition::Absent(Plain::Number(field)) => self.number_of(*field).is_none(),
            Condition::Absent(Plain::Root) => false,
            Condition::Id(field, any) => self.id_of(*field).is_some_and(|id| any.contains(&id)),
            Condition::Time(field, test) => {
                self.time_of(*field).is_some_and(|time| test.holds(&time))
            }
            Condition::Number(field, test) => {
                self.number_of(*field).is_some_and(|number| test.holds(&number))
            }
            Condition::Root(root) => self.is_root == *root,
            Condition::Tag(Some(tag)) => self.tags.contains(tag),
            Condition::Tag(None) => !self.tags.is_empty(),
            Condition::Text(TextField::Name, test) => test.holds(&self.name),
            Condition::Text(TextField::RunType, test) => test.holds(&self.run_type),
            Condition::Text(TextField::Status, test) => test.holds(&self.status),
            Condition::Entry(Family::Feedback, tests) => {
                self.feedbacks.iter().any(|entry| tests.iter().all(|test| test.of_feedback(entry)))
            }
            Condition::Text(..) | Condition::Entry(..) => return leaf.of_content(&self.content),
        };
        Some(holds != leaf.negated)
    }
}

impl Leaf {
    /// Evaluates a condition on content; `None` if the content is unknown, or if the condition
    /// reads no content.
    pub fn of_content(&self, content: &impl Content) -> Option<bool> {
        let text = content.text(self.condition.content()?)?;
        let holds = match &self.condition {
            _ if content.is_abandoned() => return None,
            Condition::Text(_, test) => test.holds(text),
            Condition::Entry(family, tests) => there_is(*family, text, tests, content)?,
            _ => return None,
        };
        Some(holds != self.negated)
    }
}

/// Whether an entry of the family passes all tests: a top-level key of the object (or of its
/// `metadata`), or a nested one if a test names a dotted path. `None` if the answer is abandoned.
fn there_is(
    family: Family,
    text: &str,
    tests: &[EntryTest],
    content: &impl Content,
) -> Option<bool> {
    let within = if family == Family::Metadata { at(text, "metadata") } else { Some(text) };
    let Some(object) = within else { return Some(false) };
    let numbers: Vec<_> = tests.iter().map(EntryTest::numbers).collect();
    let holds = |key: &str, raw: &str| {
        tests.iter().zip(&numbers).all(|(test, numbers)| test.of_json(key, raw, numbers))
    };
    for (key, raw) in json::entries(object) {
        if content.is_abandoned() {
            return None;
        }
        if holds(&key, raw) {
            return Some(true);
        }
    }
    Some(named_paths(tests).into_iter().any(|key| {
        let found = path(key).into_iter().try_fold(object, at);
        found.is_some_and(|raw| holds(key, raw))
    }))
}

/// The source of the first value with this key.
fn at<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    json::entries(object).find(|(name, _)| name == key).map(|(_, raw)| raw)
}

impl TextTest {
    /// Whether `text` passes the test.
    pub fn holds(&self, text: &str) -> bool {
        match self {
            Self::Is(any) => any.iter().any(|wanted| wanted == text),
            Self::Like(pattern) => pattern.matches(text),
            Self::Contains(part) => text.to_ascii_lowercase().contains(&part.to_ascii_lowercase()),
        }
    }
}

impl EntryTest {
    /// Whether a key passes the test; true if the test is not about keys.
    pub fn of_key(&self, key: &str) -> bool {
        self.part != Part::Key || self.test.of_text(key) != self.negated
    }

    /// The numbers among the values that it compares with.
    fn numbers(&self) -> Vec<f64> {
        if let ValueTest::Is(any) = &self.test { numbers(any) } else { Vec::new() }
    }

    fn of_json(&self, key: &str, raw: &str, numbers: &[f64]) -> bool {
        match self.part {
            Part::Key => self.of_key(key),
            Part::Value => self.test.of_json(&json::parse(raw), numbers) != self.negated,
            Part::Score => self.negated,
        }
    }

    fn of_feedback(&self, feedback: &Feedback) -> bool {
        let holds = match (self.part, &self.test) {
            (Part::Key, test) => test.of_text(&feedback.key),
            (Part::Value, test) => !feedback.value.is_empty() && test.of_text(&feedback.value),
            (Part::Score, ValueTest::Number(test)) => {
                feedback.score.is_some_and(|score| test.holds(&score))
            }
            (Part::Score, _) => feedback.score.is_some(),
        };
        holds != self.negated
    }
}

impl ValueTest {
    fn of_text(&self, text: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Is(any) => any.iter().any(|wanted| wanted == text),
            Self::Like(pattern) => pattern.matches(text),
            Self::Number(_) => false,
        }
    }

    fn of_json(&self, value: &Value<'_>, numbers: &[f64]) -> bool {
        match (self, value) {
            (Self::Present, value) => *value != Value::Null,
            (_, Value::Text(text)) => self.of_text(text),
            (Self::Is(any), Value::Bool(value)) => {
                any.iter().any(|wanted| *wanted == value.to_string())
            }
            (Self::Is(_), Value::Number(number)) => numbers.contains(number),
            (Self::Number(test), Value::Number(number)) => test.holds(number),
            _ => false,
        }
    }
}

/// The texts that are finite numbers, parsed.
pub fn numbers(texts: &[String]) -> Vec<f64> {
    let numbers = texts.iter().filter(|text| is_number(text)).filter_map(|text| text.parse().ok());
    numbers.filter(|number: &f64| number.is_finite()).collect()
}
