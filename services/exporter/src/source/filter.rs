//! Compiles a filter to SQL: pure text and parameters. Values are always passed as parameters.
//!
//! The table cannot evaluate a condition on offloaded content. There the condition counts as true,
//! so that the query finds every row that may match and few others. For these rows the query also
//! returns the answers to the rest of the filter, and the decision is made once the object has been
//! fetched ([`crate::hydrate`]).

mod entry;
mod parameter;

use tracelift_core::{
    column::Column,
    filter::{
        Condition, Family, Filter, IdField, Leaf, NumberField, Open, Plain, Test, TextField,
        TextTest, TimeField, Tree,
    },
};
use uuid::Uuid;

use crate::hydrate::PLACEHOLDERS;
use parameter::{Parameters, decimal};

/// A filter within a query of trace rows (alias `r`).
#[derive(Debug, Clone, PartialEq)]
pub struct Pushdown {
    /// True for every row that matches and, where [`Self::undecided`] is false, for no other.
    pub condition: String,
    /// Whether content that the filter reads is missing from the table; `None` if it reads none.
    pub undecided: Option<String>,
    /// The questions of [`Self::open`].
    pub questions: Vec<String>,
    /// How to decide an undecided row.
    pub open: Tree<Open>,
    /// The columns needed for that.
    pub content: Vec<Column>,
    /// Names and values of the parameters, in the format of the HTTP interface.
    pub parameters: Vec<(String, String)>,
}

impl Pushdown {
    /// Compiles `filter`. `feedbacks` follows FROM for the feedback table, with alias `f`.
    #[must_use]
    pub fn of(filter: &Filter, feedbacks: &str) -> Self {
        let (open, questions) = filter.split();
        let mut sql = Sql { feedbacks, parameters: Parameters::default() };
        Self {
            condition: sql.tree(filter.tree()),
            undecided: undecided(filter),
            questions: questions.iter().map(|question| sql.tree(question)).collect(),
            open,
            content: filter.content(),
            parameters: sql.parameters.finish(),
        }
    }
}

/// Whether the content that a leaf reads is missing from the table, or is JSON that ClickHouse may
/// misread: invalid, or with an integer beyond 64 bits.
fn unknown(leaf: &Leaf) -> Option<String> {
    let column = leaf.condition.content()?;
    let name = column.name();
    let pointer = super::query::pointer_column(column);
    let points = match column {
        Column::Inputs | Column::Outputs => format!("r.{pointer} NOT IN ('', '{{}}')"),
        // Nearly every row with anything offloaded has text here; a backslash may hide a name.
        _ => format!("(position(r.{pointer}, '{name}') > 0 OR position(r.{pointer}, '\\\\') > 0)"),
    };
    let away = format!(
        "r.{name} IN ({}) AND {points}",
        PLACEHOLDERS.map(|empty| format!("'{empty}'")).join(", ")
    );
    Some(match leaf.condition {
        Condition::Entry(..) => format!(
            "({away} OR r.{name} != '' AND (NOT isValidJSON(toValidUTF8(r.{name})) OR match(r.{name}, '-[0-9]{{19}}|[0-9]{{20}}')))"
        ),
        _ => format!("({away})"),
    })
}

fn undecided(filter: &Filter) -> Option<String> {
    let mut all: Vec<String> = filter.tree().leaves().into_iter().filter_map(unknown).collect();
    all.sort();
    all.dedup();
    (!all.is_empty()).then(|| all.join(" OR "))
}

struct Sql<'a> {
    feedbacks: &'a str,
    parameters: Parameters,
}

impl Sql<'_> {
    fn tree(&mut self, tree: &Tree<Leaf>) -> String {
        let (all, join) = match tree {
            Tree::Leaf(leaf) => return self.leaf(leaf),
            Tree::And(all) => (all, " AND "),
            Tree::Or(all) => (all, " OR "),
        };
        let all: Vec<_> = all.iter().map(|tree| self.tree(tree)).collect();
        match all.as_slice() {
            [one] => one.clone(),
            _ => format!("({})", all.join(join)),
        }
    }

    fn leaf(&mut self, leaf: &Leaf) -> String {
        let condition = self.condition(&leaf.condition);
        let decided = if leaf.negated { format!("NOT ({condition})") } else { condition };
        match unknown(leaf) {
            Some(unknown) => format!("({unknown} OR {decided})"),
            None => decided,
        }
    }

    /// An expression that is 0 or 1, never null.
    fn condition(&mut self, condition: &Condition) -> String {
        match condition {
            Condition::Absent(Plain::Id(IdField::ParentRunId)) => {
                "isNull(r.parent_run_id)".to_owned()
            }
            Condition::Absent(
                Plain::Time(TimeField::EndTime) | Plain::Number(NumberField::Latency),
            ) => "isNull(r.end_time)".to_owned(),
            Condition::Absent(Plain::Number(NumberField::TotalCost)) => {
                "isNull(r.total_cost)".to_owned()
            }
            Condition::Absent(_) => "0".to_owned(),
            Condition::Id(field, any) => {
                let values: Vec<_> = any.iter().map(Uuid::to_string).collect();
                let any_of = self.any_of(&format!("r.{}", field.name()), "UUID", &values);
                if *field == IdField::ParentRunId { never_null(&any_of) } else { any_of }
            }
            Condition::Text(field, test) => self.text(*field, test),
            Condition::Time(field, test) => {
                let (name, test) = (field.name(), map(test, |time| time.micros().to_string()));
                let time = |value: &str| format!("fromUnixTimestamp64Micro({value}, 'UTC')");
                let ordered = self.ordered(
                    &test,
                    "Int64",
                    &format!("r.{name}"),
                    time,
                    &format!("toUnixTimestamp64Micro(r.{name})"),
                );
                if *field == TimeField::EndTime { never_null(&ordered) } else { ordered }
            }
            Condition::Number(field, test) => self.number(*field, test),
            Condition::Root(root) => format!("r.is_root = {root}"),
            Condition::Tag(Some(tag)) => format!("has(r.tags, {})", self.parameters.text(tag)),
            Condition::Tag(None) => "notEmpty(r.tags)".to_owned(),
            Condition::Entry(Family::Feedback, tests) => {
                let tests: Vec<_> = tests.iter().map(|test| self.of_feedback(test)).collect();
                format!(
                    "r.id IN (SELECT f.run_id FROM {} WHERE f.tenant_id = {{tenant:UUID}} AND f.session_id = {{session:UUID}} AND f.is_deleted = 0 AND {})",
                    self.feedbacks,
                    tests.join(" AND ")
                )
            }
            Condition::Entry(family, tests) => self.of_json(*family, tests),
        }
    }

    fn text(&mut self, field: TextField, test: &TextTest) -> String {
        let text = match field {
            TextField::RunType | TextField::Status => {
                format!("toValidUTF8(toString(r.{}))", field.name())
            }
            _ => format!("toValidUTF8(r.{})", field.name()),
        };
        match test {
            TextTest::Is(any) => self.any_of_texts(&text, any),
            TextTest::Like(pattern) => {
                format!("{text} LIKE {}", self.parameters.text(&pattern.to_string()))
            }
            TextTest::Contains(part) if part.is_empty() => "1".to_owned(),
            TextTest::Contains(part) => {
                format!("positionCaseInsensitive({text}, {}) > 0", self.parameters.text(part))
            }
        }
    }

    fn number(&mut self, field: NumberField, test: &Test<i128>) -> String {
        let units = map(test, i128::to_string);
        let plain = |value: &str| value.to_owned();
        let (expression, kind, test) = match field {
            NumberField::Latency => {
                ("toInt128(toUnixTimestamp64Micro(r.end_time) - toUnixTimestamp64Micro(r.start_time))".to_owned(), "Int128", units)
            }
            NumberField::TotalCost => ("toDecimal128(r.total_cost, 12)".to_owned(), "Decimal(38, 12)", map(test, |units| decimal(*units))),
            _ => (format!("toInt128(r.{})", field.name()), "Int128", units),
        };
        let ordered = self.ordered(&test, kind, &expression, plain, &expression);
        if matches!(field, NumberField::Latency | NumberField::TotalCost) {
            never_null(&ordered)
        } else {
            ordered
        }
    }

    /// Compares `leftover` with a parameter wrapped by `right`, or tests whether `key` is in a
    /// list.
    fn ordered(
        &mut self,
        test: &Test<String>,
        kind: &str,
        leftover: &str,
        right: impl Fn(&str) -> String,
        key: &str,
    ) -> String {
        let (sign, value) = match test {
            Test::Is(any) => return self.any_of(key, kind, any),
            Test::Below(value) => ("<", value),
            Test::AtMost(value) => ("<=", value),
            Test::Above(value) => (">", value),
            Test::AtLeast(value) => (">=", value),
        };
        format!("{leftover} {sign} {}", right(&self.parameters.plain(kind, value)))
    }

    /// Tests whether an expression equals one of these values, which need no quotes.
    fn any_of(&mut self, expression: &str, kind: &str, any: &[String]) -> String {
        match any {
            [] => "0".to_owned(),
            [one] => format!("{expression} = {}", self.parameters.plain(kind, one)),
            _ => format!("has({}, {expression})", self.parameters.array(kind, any)),
        }
    }

    fn any_of_texts(&mut self, expression: &str, any: &[String]) -> String {
        match any {
            [one] => format!("{expression} = {}", self.parameters.text(one)),
            _ => format!("has({}, {expression})", self.parameters.texts(any)),
        }
    }
}

fn never_null(condition: &str) -> String {
    format!("ifNull({condition}, 0)")
}

fn map<T, U>(test: &Test<T>, to: impl Fn(&T) -> U) -> Test<U> {
    match test {
        Test::Is(any) => Test::Is(any.iter().map(to).collect()),
        Test::Below(value) => Test::Below(to(value)),
        Test::AtMost(value) => Test::AtMost(to(value)),
        Test::Above(value) => Test::Above(to(value)),
        Test::AtLeast(value) => Test::AtLeast(to(value)),
    }
}

#[cfg(test)]
mod tests;
