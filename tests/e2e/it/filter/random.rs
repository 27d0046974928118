//! Rows and filters at random, from values that have made trouble somewhere: quotes, backslashes,
//! wildcards, controls, odd JSON.

use serde_json::{Value, json};
use tracelift_core::{
    column::Column,
    filter::{Content, Feedback, Row},
    time::Timestamp,
};
use uuid::Uuid;

/// The same numbers for the same seed (splitmix64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

const TEXTS: [&str; 14] = [
    "",
    "a",
    "A",
    "ab",
    "a%b",
    "a_b",
    "it's \"quoted\"",
    "back\\slash\\",
    "tab\there",
    "line\r\nfeed",
    "NUL\u{0}x",
    "ünïcode 😀",
    "2",
    "true",
];
const PATTERNS: [&str; 12] =
    ["%", "a%", "%A%", "_", "a_b", "a\\_b", "%\\%%", "%\\\\%", "%\t%", "%\u{0}%", "ü%", "%\"%"];
const KEYS: [&str; 9] = ["a", "b", "a.b", "a.b.c", "it's", "k\"\\", "session_id", "ünï", "2"];
const SCORES: [f64; 5] = [0.0, 1.0, 0.1, -2.5, 1e300];
const COSTS: [i128; 4] = [0, 1, 1_500_000_000, -999_999_999_999_999_999];
const TOKENS: [u64; 4] = [0, 1, 1000, u64::MAX];
const TIMES: [&str; 4] = [
    "2024-01-01T00:00:00Z",
    "2024-01-01T11:59:59.999999Z",
    "2024-01-01T12:00:00.000001Z",
    "2024-01-01T12:00:02.500000Z",
];

fn ids() -> Vec<Uuid> {
    (1..6).map(Uuid::from_u128).collect()
}

/// What a row's content truly is.
#[derive(Debug, Clone)]
pub(super) struct Truth(Vec<(Column, String)>);

impl Content for Truth {
    fn text(&self, column: Column) -> Option<&str> {
        self.0.iter().find(|field| field.0 == column).map(|field| field.1.as_str())
    }
}

/// No JSON, JSON without entries, and JSON that a strict reader refuses.
const ODD: [&str; 10] = [
    "{broken",
    "[1, {\"a\": 2}]",
    "\"a\"",
    "{\"metadata\": 5, \"a\": 184467440737095516150}",
    "{\"a\": \"caf\\ud83d\", \"b\": 2, \"metadata\": {\"a\": NaN, \"b\": \"ab\"}}",
    "{\"a\": 1, \"a\": \"a\", \"metadata\": {\"b\": 2, \"b\": \"A\"}}",
    "\u{feff}{\"a\": \"a\", \"metadata\": {\"a\": 2}}",
    "{\"a\": -Infinity, \"b\": 1e999, \"metadata\": {\"a\": {\"b\": {\"c\": \"ab\"}}, \"b\": 1e999}}",
    "{\"a\": {\"b\": \"a\", \"b\": \"A\"}, \"a\": {\"b\": 2}} and more",
    "{\"metadata\": {\"a\": \"a\"}, \"a\": \"a\", \"cut\": [1, {\"b\"",
];

fn value(chance: &mut Chance, depth: usize) -> Value {
    match chance.below(if depth == 0 { 5 } else { 8 }) {
        0 | 1 => chance.pick(&TEXTS).into(),
        2 => json!(chance.pick(&[2, 0, -7, i64::MAX, i64::MIN])),
        3 => json!(chance.pick(&[2.0, 0.1, -2.5, 1e21, 1e-7, 123_456_789.123_456_79])),
        4 => chance.pick(&[Value::Null, true.into(), false.into(), u64::MAX.into()]),
        5 => json!([1, "a"]),
        _ => object(chance, depth - 1),
    }
}

fn object(chance: &mut Chance, depth: usize) -> Value {
    let count = chance.below(4);
    Value::Object(
        (0..count).map(|_| (chance.pick(&KEYS).to_owned(), value(chance, depth))).collect(),
    )
}

/// The text of a content column: nothing, JSON, or no JSON.
fn content(chance: &mut Chance, column: Column) -> String {
    match (chance.below(8), column) {
        (0 | 1, _) => String::new(),
        (_, Column::Error) => chance.pick(&TEXTS).to_owned(),
        (2, _) => chance.pick(&ODD).to_owned(),
        (_, Column::Extra) => {
            json!({"metadata": object(chance, 2), "a": "not metadata"}).to_string()
        }
        _ => object(chance, 2).to_string(),
    }
}

/// A row as the rules see it, and as the table holds it: some of its content lies elsewhere.
pub(super) fn row(chance: &mut Chance, number: u128) -> (Row<Truth>, Value) {
    let mut stored = json!({"s3_urls": ""});
    let mut truth = Vec::new();
    let mut pointers = serde_json::Map::new();
    for column in [Column::Inputs, Column::Outputs, Column::Error, Column::Extra] {
        let text = content(chance, column);
        let away = chance.one_in(4);
        stored[column.name()] = if away { "".into() } else { text.as_str().into() };
        if away && matches!(column, Column::Inputs | Column::Outputs) {
            stored[format!("{}_s3_urls", column.name())] = json!({"ROOT": "k"}).to_string().into();
        } else if away {
            pointers.insert(column.name().to_owned(), "k".into());
        }
        truth.push((column, text));
    }
    if !pointers.is_empty() || chance.one_in(3) {
        pointers.insert("events".to_owned(), "k".into());
        stored["s3_urls"] = Value::Object(pointers).to_string().into();
    }
    let time = |text: &str| Timestamp::parse("t", text).expect("a time");
    let feedbacks = (0..chance.below(3)).map(|_| Feedback {
        key: chance.pick(&KEYS).to_owned(),
        score: if chance.one_in(3) { None } else { Some(chance.pick(&SCORES)) },
        value: chance.pick(&TEXTS).to_owned(),
    });
    let feedbacks = feedbacks.collect();
    let row = Row {
        id: Uuid::from_u128(number),
        trace_id: chance.pick(&ids()),
        parent_run_id: if chance.one_in(2) { None } else { Some(chance.pick(&ids())) },
        name: chance.pick(&TEXTS).to_owned(),
        run_type: chance.pick(&["llm", "chain", "tool"]).to_owned(),
        status: chance.pick(&["success", "error", ""]).to_owned(),
        start_time: time(chance.pick(&TIMES)),
        end_time: if chance.one_in(4) { None } else { Some(time(chance.pick(&TIMES))) },
        is_root: chance.one_in(2),
        tags: (0..chance.below(3)).map(|_| chance.pick(&TEXTS).to_owned()).collect(),
        prompt_tokens: chance.pick(&TOKENS),
        completion_tokens: chance.pick(&TOKENS),
        total_tokens: chance.pick(&TOKENS),
        total_cost: if chance.one_in(3) { None } else { Some(chance.pick(&COSTS)) },
        feedbacks,
        content: Truth(truth),
    };
    for (name, value) in plain(&row).as_object().expect("an object") {
        stored[name] = value.clone();
    }
    (row, stored)
}

fn plain(row: &Row<Truth>) -> Value {
    let time = |time: Timestamp| time.to_string().replace('T', " ").replace("+00:00", "");
    let cost = |cost: i128| {
        let sign = if cost < 0 { "-" } else { "" };
        format!(
            "{sign}{}.{:012}",
            cost.unsigned_abs() / 1_000_000_000_000,
            cost.unsigned_abs() % 1_000_000_000_000
        )
    };
    json!({
        "id": row.id, "trace_id": row.trace_id, "parent_run_id": row.parent_run_id, "name": row.name, "run_type": row.run_type,
        "status": row.status, "start_time": time(row.start_time), "end_time": row.end_time.map(time), "is_root": row.is_root,
        "tags": row.tags, "prompt_tokens": row.prompt_tokens, "completion_tokens": row.completion_tokens,
        "total_tokens": row.total_tokens, "total_cost": row.total_cost.map(cost),
    })
}

/// The text of a filter.
pub(super) fn filter(chance: &mut Chance, depth: usize) -> String {
    if depth == 0 || chance.one_in(4) {
        return condition(chance);
    }
    let below = |chance: &mut Chance| filter(chance, depth - 1);
    match chance.below(5) {
        0 => format!("not({})", below(chance)),
        1 => format!("or({}, {})", below(chance), below(chance)),
        2 => format!("and({}, {})", below(chance), below(chance)),
        _ => bound(chance),
    }
}

/// Conditions on keys and values of one `and`.
fn bound(chance: &mut Chance) -> String {
    let family = chance.pick(&["metadata", "input", "output", "feedback"]);
    let parts = ["key", "value", if family == "feedback" { "score" } else { "value" }];
    let count = 2 + chance.below(2);
    let mut conditions: Vec<_> = (0..count).map(|n| entry(chance, family, parts[n % 3])).collect();
    if chance.one_in(4) {
        conditions.push(condition(chance));
    }
    format!("and({})", conditions.join(", "))
}

fn quoted(text: &str) -> String {
    json!(text).to_string()
}

fn entry(chance: &mut Chance, family: &str, part: &str) -> String {
    let field = format!("{family}_{part}");
    if part == "score" || (part == "value" && family != "feedback" && chance.one_in(4)) {
        let operator = chance.pick(&["eq", "neq", "gt", "gte", "lt", "lte"]);
        if chance.one_in(5) {
            return format!("in({field}, [2, {}, 1e21])", chance.pick(&["0.1", "-2.5", "1"]));
        }
        return format!(
            "{operator}({field}, {})",
            chance.pick(&[
                "0",
                "0.0",
                "1",
                "0.1",
                "-2.5",
                "1e21",
                "2",
                "1e300",
                "9223372036854775807"
            ])
        );
    }
    let texts: &[&str] = if part == "key" { &KEYS } else { &TEXTS };
    match chance.below(8) {
        0 => format!(
            "{}({field}, {})",
            chance.pick(&["like", "notlike"]),
            quoted(chance.pick(&PATTERNS))
        ),
        1 => {
            format!("in({field}, [{}, {}])", quoted(chance.pick(texts)), quoted(chance.pick(texts)))
        }
        2 => format!("exists({field})"),
        3 => format!("{}({field}, null)", chance.pick(&["eq", "neq"])),
        4 => format!("neq({field}, {})", quoted(chance.pick(texts))),
        _ => format!("eq({field}, {})", quoted(chance.pick(texts))),
    }
}

fn condition(chance: &mut Chance) -> String {
    let equal = chance.pick(&["eq", "neq"]);
    let order = chance.pick(&["eq", "neq", "gt", "gte", "lt", "lte"]);
    let id = |chance: &mut Chance| quoted(&chance.pick(&ids()).to_string());
    let text = |chance: &mut Chance| quoted(chance.pick(&TEXTS));
    match chance.below(18) {
        0 => format!(
            "{equal}({}, {})",
            chance.pick(&["id", "trace_id", "parent_run_id"]),
            id(chance)
        ),
        1 => format!(
            "in({}, [{}, {}])",
            chance.pick(&["id", "trace_id", "parent_run_id"]),
            id(chance),
            id(chance)
        ),
        2 => {
            let field = chance.pick(&[
                "id",
                "parent_run_id",
                "end_time",
                "latency",
                "total_cost",
                "total_tokens",
                "is_root",
                "tags",
                "name",
            ]);
            if chance.one_in(2) {
                format!("exists({field})")
            } else {
                format!("{equal}({field}, null)")
            }
        }
        3 => format!("{equal}({}, {})", chance.pick(&["name", "error"]), text(chance)),
        4 => format!(
            "in({}, [{}, {}])",
            chance.pick(&["name", "status", "error"]),
            text(chance),
            text(chance)
        ),
        5 => {
            let field = chance.pick(&["name", "run_type", "status", "error", "inputs", "outputs"]);
            format!(
                "{}({field}, {})",
                chance.pick(&["like", "notlike"]),
                quoted(chance.pick(&PATTERNS))
            )
        }
        6 => format!("{equal}({}, null)", chance.pick(&["error", "inputs", "outputs"])),
        7 => format!(
            "{order}({}, {})",
            chance.pick(&["start_time", "end_time"]),
            quoted(chance.pick(&TIMES))
        ),
        8 => format!(
            "in(end_time, [{}, {}])",
            quoted(chance.pick(&TIMES)),
            quoted(chance.pick(&TIMES))
        ),
        9 => format!(
            "{order}(latency, {})",
            chance.pick(&[
                "0",
                "2.5",
                "\"2500ms\"",
                "-43200.0000005",
                "0.000002",
                "1e30",
                "'0.1m'"
            ])
        ),
        10 => {
            let field = chance.pick(&["prompt_tokens", "completion_tokens", "total_tokens"]);
            format!(
                "{order}({field}, {})",
                chance.pick(&["0", "0.5", "1000", "18446744073709551615", "1e40", "-1"])
            )
        }
        11 => format!(
            "{order}(total_cost, {})",
            chance.pick(&[
                "0",
                "0.0015",
                "0.000000000001",
                "1e-13",
                "-999999.999999999999",
                "1e30"
            ])
        ),
        12 => format!("in(total_cost, [0.0015, {}])", chance.pick(&["0", "1e-13", "5"])),
        13 => format!("eq(is_root, {})", chance.pick(&["true", "false"])),
        14 => format!("has(tags, {})", text(chance)),
        15 => format!("search({})", text(chance)),
        16 => format!("{equal}(thread_id, {})", text(chance)),
        _ => {
            let family = chance.pick(&["metadata", "input", "output", "feedback"]);
            let part = chance.pick(&["key", "value"]);
            entry(chance, family, part)
        }
    }
}
