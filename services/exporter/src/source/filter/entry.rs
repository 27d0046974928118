//! Entries in SQL: keys and values of JSON, and rows of feedback.

use tracelift_core::{
    column::Column,
    filter::{EntryTest, Family, Part, Test, ValueTest, numbers, path},
};

use super::{Sql, never_null, of_project};
use crate::source::schema::FeedbacksTable;

impl Sql<'_> {
    /// Tests whether a row has feedback that passes all tests.
    pub(super) fn of_feedback(&mut self, tests: &[EntryTest]) -> String {
        let tests: Vec<_> = tests.iter().map(|test| self.of_feedback_row(test)).collect();
        let FeedbacksTable { versioned, run_id, .. } = &self.schema.feedbacks;
        format!(
            "{} IN (SELECT f.{run_id} FROM {} WHERE {} AND f.{} = 0 AND {})",
            self.schema.runs.value(Column::Id),
            self.feedbacks,
            of_project(versioned, "f"),
            versioned.is_deleted,
            tests.join(" AND ")
        )
    }

    /// A test of a feedback row `f`.
    fn of_feedback_row(&mut self, test: &EntryTest) -> String {
        let FeedbacksTable { key, score, value, .. } = &self.schema.feedbacks;
        let text = |column: &str| format!("toValidUTF8({column})");
        let holds = match (test.part, &test.test) {
            (Part::Key, ValueTest::Present) => "1".to_owned(),
            (Part::Key, wanted) => self.of_text(&text(key), wanted),
            (Part::Value, ValueTest::Present) => format!("{value} != ''"),
            (Part::Value, wanted) => {
                format!("({value} != '' AND {})", self.of_text(&text(value), wanted))
            }
            (Part::Score, ValueTest::Number(wanted)) => never_null(&self.of_double(score, wanted)),
            (Part::Score, _) => format!("isNotNull({score})"),
        };
        negate(test.negated, holds)
    }

    /// Tests whether a JSON column has a matching entry.
    pub(super) fn of_json(&mut self, family: Family, tests: &[EntryTest]) -> String {
        let (column, within) = match family {
            Family::Metadata => (Column::Extra, ", 'metadata'"),
            Family::Output => (Column::Outputs, ""),
            Family::Input | Family::Feedback => (Column::Inputs, ""),
        };
        let json = format!("toValidUTF8({})", self.schema.runs.value(column));
        // Look at every entry: keys may be duplicated.
        let of_pair: Vec<_> = tests.iter().map(|test| self.of_pair(test)).collect();
        let mut found = vec![format!(
            "arrayExists(e -> {}, JSONExtractKeysAndValuesRaw({json}{within}))",
            of_pair.join(" AND ")
        )];
        for key in named_keys(tests).into_iter().flatten().filter(|key| !path(key).is_empty()) {
            found.extend(self.at_path(&json, within, key, &path(key), tests));
        }
        match found.as_slice() {
            [one] => one.clone(),
            _ => format!("({})", found.join(" OR ")),
        }
    }

    /// Tests that a value exists at a path and passes; `None` if its key alone rules that out.
    fn at_path(
        &mut self,
        json: &str,
        within: &str,
        key: &str,
        path: &[&str],
        tests: &[EntryTest],
    ) -> Option<String> {
        if !tests.iter().all(|test| test.of_key(key)) {
            return None;
        }
        let path: String =
            path.iter().map(|part| format!(", {}", self.parameters.text(part))).collect();
        let raw = format!("JSONExtractRaw({json}{within}{path})");
        let values = tests.iter().filter(|test| test.part != Part::Key);
        let all: Vec<_> = [format!("{raw} != ''")]
            .into_iter()
            .chain(values.map(|test| self.of_raw(&raw, test)))
            .collect();
        Some(format!("({})", all.join(" AND ")))
    }

    /// A test of a key-value pair `e` in JSON.
    fn of_pair(&mut self, test: &EntryTest) -> String {
        match (test.part, &test.test) {
            (Part::Key, ValueTest::Present) => negate(test.negated, "1".to_owned()),
            (Part::Key, wanted) => negate(test.negated, self.of_text("e.1", wanted)),
            _ => self.of_raw("e.2", test),
        }
    }

    /// A test of a JSON value as normalised by ClickHouse: no spaces, numbers in their shortest
    /// form.
    fn of_raw(&mut self, raw: &str, test: &EntryTest) -> String {
        let text = format!("JSONExtractString({raw})");
        let is_text = format!("startsWith({raw}, '\"')");
        let number = format!("JSONExtractFloat({raw})");
        let is_number = format!("match({raw}, '^[-0-9]')");
        let holds = match &test.test {
            ValueTest::Present => format!("{raw} != 'null'"),
            ValueTest::Like(_) => format!("({is_text} AND {})", self.of_text(&text, &test.test)),
            ValueTest::Number(wanted) => {
                format!("({is_number} AND {})", self.of_double(&number, wanted))
            }
            ValueTest::Is(any) => {
                let mut holds = vec![format!("({is_text} AND {})", self.any_of_texts(&text, any))];
                let named = |word: &&str| any.iter().any(|text| text == word);
                holds.extend(
                    ["true", "false"]
                        .into_iter()
                        .filter(named)
                        .map(|word| format!("{raw} = '{word}'")),
                );
                let numbers = numbers(any);
                if !numbers.is_empty() {
                    holds.push(format!(
                        "({is_number} AND {})",
                        self.of_double(&number, &Test::Is(numbers))
                    ));
                }
                format!("({})", holds.join(" OR "))
            }
        };
        negate(test.negated, holds)
    }

    fn of_text(&mut self, text: &str, wanted: &ValueTest) -> String {
        match wanted {
            ValueTest::Is(any) => self.any_of_texts(text, any),
            ValueTest::Like(pattern) => {
                format!("{text} LIKE {}", self.parameters.text(&pattern.to_string()))
            }
            ValueTest::Present => "1".to_owned(),
            ValueTest::Number(_) => "0".to_owned(),
        }
    }

    fn of_double(&mut self, number: &str, wanted: &Test<f64>) -> String {
        let (sign, limit) = match wanted {
            Test::Is(any) => match any.as_slice() {
                [] => return "0".to_owned(),
                [one] => ("=", one),
                _ => return format!("has({}, {number})", self.parameters.doubles(any)),
            },
            Test::Below(limit) => ("<", limit),
            Test::AtMost(limit) => ("<=", limit),
            Test::Above(limit) => (">", limit),
            Test::AtLeast(limit) => (">=", limit),
        };
        format!("{number} {sign} {}", self.parameters.double(*limit))
    }
}

/// The keys of each test that names some.
fn named_keys(tests: &[EntryTest]) -> Vec<&[String]> {
    let keys = tests.iter().filter(|test| test.part == Part::Key && !test.negated);
    keys.filter_map(
        |test| if let ValueTest::Is(keys) = &test.test { Some(keys.as_slice()) } else { None },
    )
    .collect()
}

fn negate(negated: bool, holds: String) -> String {
    if negated { format!("NOT ({holds})") } else { holds }
}
