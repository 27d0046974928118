//! The trace rows of one seed: a few hundred over a few days, some with offloaded fields.

use std::collections::BTreeSet;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tracelift_core::time::{Timestamp, Window};
use uuid::Uuid;

/// The tenant of the rows.
pub const TENANT: Uuid = Uuid::from_u128(0xa11c_e000_0000_4000_8000_0000_0000_0001);
/// The exported project.
pub const PROJECT: Uuid = Uuid::from_u128(0xa11c_e000_0000_4000_8000_0000_0000_0002);
/// The first day. The clock of a world starts at 1970, so its exports have windows that have ended.
pub const START: &str = "1969-12-01T00:00:00Z";
const DAY: i64 = 86_400_000_000;

/// The text of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// In the row.
    Inline(String),
    /// In an object.
    Offloaded { key: String, text: String },
    /// The row points to an object that does not exist.
    Missing { key: String },
}

impl Field {
    /// The text that an export must contain.
    pub fn exported(&self) -> Option<&str> {
        match self {
            Self::Inline(text) | Self::Offloaded { text, .. } => Some(text),
            Self::Missing { .. } => None,
        }
    }

    /// The text in the row, as ClickHouse returns it.
    pub fn inline(&self) -> Option<&str> {
        if let Self::Inline(text) = self { Some(text) } else { None }
    }

    /// The row's pointer to the object.
    pub fn pointer(&self) -> String {
        match self {
            Self::Inline(_) => String::new(),
            Self::Offloaded { key, .. } | Self::Missing { key } => {
                format!(r#"{{"ROOT": "{key}"}}"#)
            }
        }
    }
}

/// A trace row.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: Uuid,
    pub start_time: i64,
    pub inputs: Field,
    pub outputs: Field,
}

/// Everything in ClickHouse, ordered by (start_time, id as text).
#[derive(Debug)]
pub struct Data {
    pub rows: Vec<Row>,
    /// Rows that are stored twice; there are none with every other seed.
    pub twice: BTreeSet<Uuid>,
    pub days: i64,
}

/// The earliest start time, in microseconds.
pub fn start() -> i64 {
    Timestamp::parse("start", START).expect("a time").micros()
}

impl Data {
    /// Generates the rows of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let days = rng.random_range(1..=3);
        let count = rng.random_range(100..=700);
        let mut rows: Vec<Row> = (0..count).map(|_| row(&mut rng, days)).collect();
        // Ties: one row in ten has the start time of another.
        for index in 0..rows.len() / 10 {
            rows[index].start_time = rows[index * 7 % count].start_time;
        }
        rows.sort_by_key(|row| (row.start_time, row.id));
        let share = if rng.random_bool(0.5) { 0.0 } else { 0.02 };
        let twice = rows.iter().map(|row| row.id).filter(|_| rng.random_bool(share)).collect();
        Self { rows, twice, days }
    }

    /// The rows within a window.
    pub fn within(&self, window: Window) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| {
            (window.start().micros()..window.end().micros()).contains(&row.start_time)
        })
    }

    /// The objects that rows point to.
    pub fn objects(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rows.iter().flat_map(|row| [&row.inputs, &row.outputs]).filter_map(|field| match field
        {
            Field::Offloaded { key, text } => Some((key.as_str(), text.as_str())),
            _ => None,
        })
    }
}

fn row(rng: &mut StdRng, days: i64) -> Row {
    let id = Uuid::from_u128(rng.random());
    // Half of the rows are crowded together, so that block boundaries fall between nearly equal
    // times.
    let start_time = if rng.random_bool(0.5) {
        DAY / 2 + rng.random_range(0..60) * 1_000
    } else {
        rng.random_range(0..DAY * days)
    };
    Row {
        id,
        start_time: start() + start_time,
        inputs: field(rng, id, "inputs"),
        outputs: field(rng, id, "outputs"),
    }
}

fn field(rng: &mut StdRng, id: Uuid, name: &str) -> Field {
    let key = format!("ttl_s/{name}/{id}");
    let text =
        format!(r#"{{"{name}":"{:032x}{:032x}"}}"#, rng.random::<u128>(), rng.random::<u128>());
    match rng.random_range(0..20) {
        0..=1 => Field::Offloaded { key, text },
        2 if name == "outputs" => Field::Missing { key },
        _ => Field::Inline(text),
    }
}
