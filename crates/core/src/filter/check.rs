//! Semantic analysis of a filter: resolves operators and fields, types the values, and binds the
//! conditions on keys and values within one `and` to the same entry.

use uuid::Uuid;

use super::{
    FilterError,
    condition::{
        Condition, EntryTest, Family, Leaf, NumberField, Part, Plain, Test, TextField, TextTest,
        Tree, ValueTest, path,
    },
    field::{Field, Operator, Operator as Op, all_fields, all_operators},
    like::{MAX_PATTERN, Pattern},
    syntax::{Expression, Kind, short},
};
use crate::{rounded::Rounded, time::Timestamp};

/// Maximum conditions per filter; bounds the query sent to the trace store.
pub const MAX_CONDITIONS: usize = 100;
/// Maximum values per list.
pub const MAX_VALUES: usize = 1000;
/// Maximum errors reported at once.
const MAX_FAULTS: usize = 20;
/// Metadata keys that name a row's thread.
const THREAD_KEYS: [&str; 3] = ["session_id", "conversation_id", "thread_id"];

/// The conditions of a filter, or everything that is wrong with it.
pub(super) fn check(whole: &Expression) -> Result<Tree<Leaf>, Vec<FilterError>> {
    let mut checker = Checker { faults: Vec::new() };
    let tree = checker.condition(whole);
    match tree {
        Some(tree) if checker.faults.is_empty() => {
            let conditions: usize = tree.leaves().into_iter().map(weight).sum();
            if conditions > MAX_CONDITIONS {
                let words = format!(
                    "a filter must have at most {MAX_CONDITIONS} conditions, this one has {conditions}"
                );
                return Err(vec![FilterError::at(whole.at, words)]);
            }
            Ok(tree)
        }
        _ => Err(checker.faults),
    }
}

/// Every test is repeated for each path that a key may stand for.
fn weight(leaf: &Leaf) -> usize {
    match &leaf.condition {
        Condition::Entry(_, tests) => tests.len() * (1 + named_paths(tests).len()),
        _ => 1,
    }
}

/// Keys named by tests that may also be paths into an entry.
pub(super) fn named_paths(tests: &[EntryTest]) -> Vec<&str> {
    let keys = tests.iter().filter(|test| test.part == Part::Key && !test.negated);
    let named = keys
        .flat_map(|test| if let ValueTest::Is(keys) = &test.test { keys.as_slice() } else { &[] });
    named.map(String::as_str).filter(|key| !path(key).is_empty()).collect()
}

struct Checker {
    faults: Vec<FilterError>,
}

/// The result of analysing a call.
enum Understood {
    Tree(Tree<Leaf>),
    /// A test that binds to the same entry as its siblings in an `and`.
    Entry(Family, EntryTest),
}

impl Checker {
    fn fault<T>(&mut self, at: usize, words: impl std::fmt::Display) -> Option<T> {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(FilterError::at(at, words));
        }
        None
    }

    fn condition(&mut self, expression: &Expression) -> Option<Tree<Leaf>> {
        Some(match self.call(expression)? {
            Understood::Tree(tree) => tree,
            Understood::Entry(family, test) => entry(family, vec![test]),
        })
    }

    fn call(&mut self, expression: &Expression) -> Option<Understood> {
        let Kind::Call(name, arguments) = &expression.kind else {
            let found = short(&expression.to_string());
            return self.fault(
                expression.at,
                format!("expected a condition such as eq(run_type, \"llm\"), found {found}"),
            );
        };
        let Some(operator) = Operator::named(name) else {
            return self.fault(
                expression.at,
                format!(
                    "\"{}\" is not an operator; the operators are {}",
                    short(name),
                    all_operators()
                ),
            );
        };
        if !operator.takes(arguments.len()) {
            if self.faults.len() < MAX_FAULTS {
                self.faults.push(FilterError::arity(expression.at, operator, arguments.len()));
            }
            return None;
        }
        match (operator, arguments.as_slice()) {
            (Op::And, conditions) => self.and(conditions).map(Understood::Tree),
            (Op::Or, conditions) => {
                let all: Vec<_> =
                    conditions.iter().map(|condition| self.condition(condition)).collect();
                all.into_iter().collect::<Option<_>>().map(|all| Understood::Tree(Tree::Or(all)))
            }
            (Op::Not, [condition]) => {
                self.condition(condition).map(|tree| Understood::Tree(tree.negate()))
            }
            (Op::Search, [text]) => self.text(text).map(|text| Understood::Tree(search(&text))),
            (Op::Exists, [field]) => {
                self.on_field(Op::Exists, field, &Expression { at: field.at, kind: Kind::Null })
            }
            (_, [field, value]) => self.on_field(operator, field, value),
            _ => None,
        }
    }

    /// A conjunction. Tests on parts of entries bind to the same entry of their family; a second
    /// test on a key starts another entry.
    fn and(&mut self, conditions: &[Expression]) -> Option<Tree<Leaf>> {
        let mut groups: Vec<(Family, Vec<EntryTest>)> = Vec::new();
        let (mut all, mut whole) = (Vec::new(), true);
        for condition in conditions {
            match self.call(condition) {
                None => whole = false,
                Some(Understood::Tree(tree)) => all.push(tree),
                Some(Understood::Entry(family, test)) => {
                    let another = |tests: &[EntryTest]| {
                        test.part == Part::Key && tests.iter().any(|test| test.part == Part::Key)
                    };
                    match groups.iter_mut().rfind(|(of, _)| *of == family) {
                        Some((_, tests)) if !another(tests) => tests.push(test),
                        _ => groups.push((family, vec![test])),
                    }
                }
            }
        }
        all.extend(groups.into_iter().map(|(family, tests)| entry(family, tests)));
        whole.then_some(Tree::And(all))
    }

    fn on_field(
        &mut self,
        operator: Operator,
        field: &Expression,
        value: &Expression,
    ) -> Option<Understood> {
        let Kind::Field(name) = &field.kind else {
            return self
                .fault(field.at, format!("expected a field, found {}", short(&field.to_string())));
        };
        let Some(known) = Field::named(name) else {
            return self.fault(
                field.at,
                format!("\"{}\" is not a field; the fields are {}", short(name), all_fields()),
            );
        };
        let allowed = known.operators();
        if !allowed.contains(&operator) {
            let words: Vec<_> = allowed.iter().map(|operator| operator.name()).collect();
            return self.fault(
                field.at,
                format!(
                    "\"{}\" does not go with {name}, which takes {}",
                    operator.name(),
                    words.join(", ")
                ),
            );
        }
        let is_null = value.kind == Kind::Null;
        if is_null && !matches!(operator, Op::Eq | Op::Neq | Op::Exists) {
            return self.fault(value.at, "null goes with eq and neq only");
        }
        if matches!(operator, Op::In) != matches!(value.kind, Kind::List(_)) && !is_null {
            let words = if operator == Op::In {
                "expected a list such as [\"a\", \"b\"]"
            } else {
                "a list goes with in only"
            };
            return self.fault(value.at, words);
        }
        let negated = matches!(operator, Op::Neq | Op::NotLike);
        if is_null {
            Some(presence(known, operator != Op::Eq))
        } else {
            self.test(operator, negated, known, value)
        }
    }

    fn test(
        &mut self,
        operator: Operator,
        negated: bool,
        field: Field,
        value: &Expression,
    ) -> Option<Understood> {
        let condition = match field {
            Field::Id(field) => Condition::Id(field, self.each(value, Self::uuid)?),
            Field::Text(TextField::Inputs | TextField::Outputs)
                if matches!(operator, Op::Eq | Op::Neq) =>
            {
                return self.fault(value.at, "inputs and outputs are compared with null only; use like, search, or their keys and values");
            }
            Field::Text(field) => Condition::Text(field, self.text_test(operator, value)?),
            Field::Time(field) => {
                Condition::Time(field, compared(operator, &self.each(value, Self::time)?))
            }
            Field::Number(field) => {
                Condition::Number(field, self.number_test(operator, field, value)?)
            }
            Field::Root => match value.kind {
                Kind::Bool(root) => Condition::Root(root),
                _ => return self.fault(value.at, "expected true or false"),
            },
            Field::Tags if operator != Op::Has => {
                return self.fault(value.at, "tags are compared with null only; use has");
            }
            Field::Tags => Condition::Tag(Some(self.text(value)?)),
            Field::Thread => {
                let value = EntryTest {
                    part: Part::Value,
                    negated: false,
                    test: self.value_test(operator, value)?,
                };
                thread(value)
            }
            Field::Entry(family, part) => {
                let test = if part == Part::Score {
                    self.score_test(operator, value)?
                } else {
                    self.value_test(operator, value)?
                };
                return Some(Understood::Entry(family, EntryTest { part, negated, test }));
            }
        };
        Some(Understood::Tree(Tree::one(negated, condition)))
    }

    /// Reads a single value, or each value of a list.
    fn each<T>(
        &mut self,
        value: &Expression,
        read: impl Fn(&mut Self, &Expression) -> Option<T>,
    ) -> Option<Vec<T>> {
        let all: Vec<_> = match &value.kind {
            Kind::List(items) if items.len() > MAX_VALUES => {
                return self.fault(
                    value.at,
                    format!(
                        "a list must have at most {MAX_VALUES} values, this one has {}",
                        items.len()
                    ),
                );
            }
            Kind::List(items) => items.iter().map(|item| read(self, item)).collect(),
            _ => vec![read(self, value)],
        };
        all.into_iter().collect()
    }

    fn text(&mut self, value: &Expression) -> Option<String> {
        match &value.kind {
            Kind::Text(text) => Some(text.clone()),
            _ => self.fault(
                value.at,
                format!("expected text in quotes, found {}", short(&value.to_string())),
            ),
        }
    }

    /// Reads text, or a number or boolean as text.
    fn any_text(&mut self, value: &Expression) -> Option<String> {
        match &value.kind {
            Kind::Number(number) => Some(number.clone()),
            Kind::Bool(value) => Some(value.to_string()),
            _ => self.text(value),
        }
    }

    fn uuid(&mut self, value: &Expression) -> Option<Uuid> {
        let text = self.text(value)?;
        Uuid::parse_str(&text).ok().or_else(|| self.fault(value.at, "expected a UUID"))
    }

    fn time(&mut self, value: &Expression) -> Option<Rounded<Timestamp>> {
        let text = self.text(value)?;
        Timestamp::read("", &text)
            .or_else(|wrong| self.fault(value.at, format!("the time {}", wrong.message)).ok_or(()))
            .ok()
    }

    fn number(&mut self, value: &Expression) -> Option<String> {
        match &value.kind {
            Kind::Number(number) => Some(number.clone()),
            _ => self
                .fault(value.at, format!("expected a number, found {}", short(&value.to_string()))),
        }
    }

    fn double(&mut self, value: &Expression) -> Option<f64> {
        let number = self.number(value)?;
        let double: Option<f64> = number.parse().ok().filter(|double: &f64| double.is_finite());
        double.or_else(|| self.fault(value.at, "the number is too large"))
    }

    fn units(&mut self, field: NumberField, value: &Expression) -> Option<Rounded<i128>> {
        match (&value.kind, field) {
            (Kind::Text(text), NumberField::Latency) => duration(text).or_else(|| {
                self.fault(
                    value.at,
                    "expected seconds, or a duration such as \"5s\" (ms, s, m or h)",
                )
            }),
            _ => Some(Rounded::read(&self.number(value)?, field.scale())),
        }
    }

    fn number_test(
        &mut self,
        operator: Operator,
        field: NumberField,
        value: &Expression,
    ) -> Option<Test<i128>> {
        Some(compared(operator, &self.each(value, |checker, value| checker.units(field, value))?))
    }

    fn pattern(&mut self, value: &Expression) -> Option<Pattern> {
        let text = self.text(value)?;
        let length = text.chars().count();
        if length > MAX_PATTERN {
            let words = format!(
                "a pattern must have at most {MAX_PATTERN} characters, this one has {length}"
            );
            return self.fault(value.at, words);
        }
        Some(Pattern::parse(&text))
    }

    fn text_test(&mut self, operator: Operator, value: &Expression) -> Option<TextTest> {
        Some(match operator {
            Op::Like | Op::NotLike => TextTest::Like(self.pattern(value)?),
            _ => TextTest::Is(self.each(value, Self::text)?),
        })
    }

    fn value_test(&mut self, operator: Operator, value: &Expression) -> Option<ValueTest> {
        Some(match operator {
            Op::Like | Op::NotLike => ValueTest::Like(self.pattern(value)?),
            Op::Eq | Op::Neq | Op::In => ValueTest::Is(self.each(value, Self::any_text)?),
            _ => return self.score_test(operator, value),
        })
    }

    fn score_test(&mut self, operator: Operator, value: &Expression) -> Option<ValueTest> {
        let numbers = self.each(value, Self::double)?;
        ordered(operator, numbers).map(ValueTest::Number)
    }
}

/// A comparison with one value, or equality with any of several.
fn ordered<T>(operator: Operator, mut values: Vec<T>) -> Option<Test<T>> {
    Some(match operator {
        Op::Gt => Test::Above(values.pop()?),
        Op::Gte => Test::AtLeast(values.pop()?),
        Op::Lt => Test::Below(values.pop()?),
        Op::Lte => Test::AtMost(values.pop()?),
        _ => Test::Is(values),
    })
}

/// Like [`ordered`], for values that may lie between two units of a field that holds whole units.
fn compared<T: Copy>(operator: Operator, values: &[Rounded<T>]) -> Test<T> {
    match (operator, values) {
        (Op::Gt, [one]) => Test::Above(one.floor),
        (Op::Gte, [one]) if one.exact => Test::AtLeast(one.floor),
        (Op::Gte, [one]) => Test::Above(one.floor),
        (Op::Lt, [one]) if one.exact => Test::Below(one.floor),
        (Op::Lt | Op::Lte, [one]) => Test::AtMost(one.floor),
        _ => Test::Is(values.iter().filter_map(|value| value.exactly()).collect()),
    }
}

/// A test that the field has a value, or that it has none.
fn presence(field: Field, present: bool) -> Understood {
    Understood::Tree(match field {
        Field::Entry(family, part) => {
            return Understood::Entry(
                family,
                EntryTest { part, negated: !present, test: ValueTest::Present },
            );
        }
        Field::Thread => Tree::one(
            !present,
            thread(EntryTest { part: Part::Value, negated: false, test: ValueTest::Present }),
        ),
        Field::Tags => Tree::one(!present, Condition::Tag(None)),
        Field::Text(field) => {
            Tree::one(present, Condition::Text(field, TextTest::Is(vec![String::new()])))
        }
        Field::Id(field) => Tree::one(present, Condition::Absent(Plain::Id(field))),
        Field::Time(field) => Tree::one(present, Condition::Absent(Plain::Time(field))),
        Field::Number(field) => Tree::one(present, Condition::Absent(Plain::Number(field))),
        Field::Root => Tree::one(present, Condition::Absent(Plain::Root)),
    })
}

fn thread(value: EntryTest) -> Condition {
    let keys = ValueTest::Is(THREAD_KEYS.map(str::to_owned).to_vec());
    Condition::Entry(
        Family::Metadata,
        vec![EntryTest { part: Part::Key, negated: false, test: keys }, value],
    )
}

/// A test that a matching entry exists. If every test is negated: that no entry meets any of them.
fn entry(family: Family, tests: Vec<EntryTest>) -> Tree<Leaf> {
    if tests.iter().any(|test| !test.negated) {
        return Tree::one(false, Condition::Entry(family, tests));
    }
    let none = |test| {
        Tree::one(true, Condition::Entry(family, vec![EntryTest { negated: false, ..test }]))
    };
    Tree::And(tests.into_iter().map(none).collect())
}

fn search(text: &str) -> Tree<Leaf> {
    let fields = [TextField::Name, TextField::Inputs, TextField::Outputs, TextField::Error];
    let within =
        |field| Tree::one(false, Condition::Text(field, TextTest::Contains(text.to_owned())));
    Tree::Or(fields.into_iter().map(within).collect())
}

/// Parses `5s`, `200ms`, `1.5m` or `2h` into microseconds; a bare number is seconds.
fn duration(text: &str) -> Option<Rounded<i128>> {
    let unit = text.trim_start_matches(|character: char| {
        character.is_ascii_digit() || matches!(character, '.' | '-')
    });
    let number = text.strip_suffix(unit)?;
    let factor = match unit {
        "ms" => return super::syntax::is_number(number).then(|| Rounded::read(number, 3)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    super::syntax::is_number(number).then(|| Rounded::read(number, 12).times_of_million(factor))
}
