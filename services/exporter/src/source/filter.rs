//! Compiles a filter to SQL: pure text and parameters. Values are always passed as parameters.
//!
//! The table cannot evaluate a condition on offloaded content. There the condition counts as true,
//! so that the query finds every row that may match and few others. For these rows the query also
//! returns the answers to the rest of the filter, and the decision is made once the object has been
//! fetched ([`crate::hydrate`]).

mod entry;
mod field;
mod parameter;

use tracelift_core::{
    column::Column,
    filter::{
        Condition, Family, Filter, Leaf, NumberField, Open, Test, TextField, TextTest, TimeField,
        Tree,
    },
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    query::of_project,
    schema::{PointerColumn, PointerEntry, RunsTable, SourceSchema},
};
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
    pub fn of(filter: &Filter, schema: &SourceSchema, feedbacks: &str) -> Self {
        let (open, questions) = filter.split();
        let mut sql = Sql { schema, feedbacks, parameters: Parameters::default() };
        Self {
            condition: sql.tree(filter.tree()),
            undecided: undecided(&schema.runs, filter),
            questions: questions.iter().map(|question| sql.tree(question)).collect(),
            open,
            content: filter.content(),
            parameters: sql.parameters.finish(),
        }
    }
}

/// Whether the content that a leaf reads is missing from the table, or is JSON that ClickHouse may
/// misread: invalid, or with an integer beyond 64 bits.
fn unknown(runs: &RunsTable, leaf: &Leaf) -> Option<String> {
    let column = leaf.condition.content()?;
    let value = runs.value(column);
    let points = runs
        .pointer_column(column)
        .map_or_else(|| "0".to_owned(), |pointer| may_point(pointer, column));
    let away = format!(
        "{value} IN ({}) AND {points}",
        PLACEHOLDERS.map(|empty| format!("'{empty}'")).join(", ")
    );
    Some(match leaf.condition {
        Condition::Entry(..) => format!(
            "({away} OR {value} != '' AND (NOT isValidJSON(toValidUTF8({value})) OR match({value}, '-[0-9]{{19}}|[0-9]{{20}}')))"
        ),
        _ => format!("({away})"),
    })
}

/// Whether a pointer column may hold a pointer of a field.
fn may_point(PointerColumn { name, entry, .. }: &PointerColumn, field: Column) -> String {
    match entry {
        PointerEntry::Root => format!("r.{name} NOT IN ('', '{{}}')"),
        // Nearly every row with anything offloaded has text here; a backslash may hide a name.
        PointerEntry::ColumnName => {
            let field = field.name();
            format!("(position(r.{name}, '{field}') > 0 OR position(r.{name}, '\\\\') > 0)")
        }
    }
}

fn undecided(runs: &RunsTable, filter: &Filter) -> Option<String> {
    let leaves = filter.tree().leaves();
    let mut all: Vec<String> = leaves.into_iter().filter_map(|leaf| unknown(runs, leaf)).collect();
    all.sort();
    all.dedup();
    (!all.is_empty()).then(|| all.join(" OR "))
}

struct Sql<'a> {
    schema: &'a SourceSchema,
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
        match unknown(&self.schema.runs, leaf) {
            Some(unknown) => format!("({unknown} OR {decided})"),
            None => decided,
        }
    }

    /// The value of a column, and whether it can be null.
    fn value(&self, column: Column) -> (String, bool) {
        let runs = &self.schema.runs;
        (runs.value(column).to_owned(), runs.is_nullable(column))
    }

    /// An expression that is 0 or 1, never null.
    fn condition(&mut self, condition: &Condition) -> String {
        match condition {
            Condition::Absent(field) => match self.value(field::plain(*field)) {
                (value, true) => format!("isNull({value})"),
                (_, false) => "0".to_owned(),
            },
            Condition::Id(field, any) => {
                let (value, nullable) = self.value(field::id(*field));
                let values: Vec<_> = any.iter().map(Uuid::to_string).collect();
                let any_of = self.any_of(&value, "UUID", &values);
                if nullable { never_null(&any_of) } else { any_of }
            }
            Condition::Text(field, test) => self.text(*field, test),
            Condition::Time(field, test) => self.time(*field, test),
            Condition::Number(field, test) => self.number(*field, test),
            Condition::Root(root) => {
                format!("{} = {root}", self.schema.runs.value(Column::IsRoot))
            }
            Condition::Tag(tag) => self.tag(tag.as_deref()),
            Condition::Entry(Family::Feedback, tests) => self.of_feedback(tests),
            Condition::Entry(family, tests) => self.of_json(*family, tests),
        }
    }

    fn tag(&mut self, tag: Option<&str>) -> String {
        let tags = self.schema.runs.value(Column::Tags);
        match tag {
            Some(tag) => format!("has({tags}, {})", self.parameters.text(tag)),
            None => format!("notEmpty({tags})"),
        }
    }

    fn text(&mut self, field: TextField, test: &TextTest) -> String {
        let text = format!("toValidUTF8({})", self.schema.runs.value(field::text(field)));
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

    fn time(&mut self, field: TimeField, test: &Test<Timestamp>) -> String {
        let (value, nullable) = self.value(field::time(field));
        let micros = map(test, |time| time.micros().to_string());
        let time = |value: &str| format!("fromUnixTimestamp64Micro({value}, 'UTC')");
        let key = format!("toUnixTimestamp64Micro({value})");
        let ordered = self.ordered(&micros, "Int64", &value, time, &key);
        if nullable { never_null(&ordered) } else { ordered }
    }

    fn number(&mut self, field: NumberField, test: &Test<i128>) -> String {
        let (value, nullable) = self.value(field::number(field));
        let units = map(test, i128::to_string);
        let plain = |value: &str| value.to_owned();
        let (expression, kind, test) = match field {
            NumberField::Latency => {
                let (end, start) = (value, self.schema.runs.value(Column::StartTime));
                let micros =
                    format!("toUnixTimestamp64Micro({end}) - toUnixTimestamp64Micro({start})");
                (format!("toInt128({micros})"), "Int128", units)
            }
            NumberField::TotalCost => {
                let test = map(test, |units| decimal(*units));
                (format!("toDecimal128({value}, 12)"), "Decimal(38, 12)", test)
            }
            _ => (format!("toInt128({value})"), "Int128", units),
        };
        let ordered = self.ordered(&test, kind, &expression, plain, &expression);
        if nullable { never_null(&ordered) } else { ordered }
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
