//! The exporter's queries and ClickHouse's responses. The SQL text only identifies the query; the
//! response depends on its parameters.

use std::{collections::BTreeMap, iter::repeat_n, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray, UInt8Array,
    },
    datatypes::{Field, Schema},
    ipc::writer::StreamWriter,
};
use bytes::Bytes;
use tracelift_core::column::{Column, ColumnType};

use crate::data::{Data, PROJECT, Row, TENANT};

/// A query with its parameters and settings.
pub(super) struct Question {
    sql: String,
    parameters: BTreeMap<String, String>,
    block_rows: usize,
}

impl Question {
    /// Parses the form that the client sends.
    pub(super) fn read(query: &str, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let fields = body.split("; name=\"").skip(1).filter_map(|field| {
            let (name, rest) = field.split_once("\"\r\n\r\n")?;
            let (value, _) = rest.rsplit_once("\r\n--")?;
            Some((name.to_owned(), value.to_owned()))
        });
        let mut parameters: BTreeMap<String, String> = fields.collect();
        let setting = query.split('&').find_map(|pair| pair.strip_prefix("max_block_size="));
        Self {
            sql: parameters.remove("query").unwrap_or_else(|| body.into_owned()),
            parameters,
            block_rows: setting.and_then(|rows| rows.parse().ok()).unwrap_or(usize::MAX),
        }
    }

    /// A short name for the query.
    pub(super) fn name(&self) -> &'static str {
        match self.sql.as_str() {
            sql if sql.starts_with("KILL QUERY") => "kill",
            sql if sql.starts_with("SELECT intDiv(") => "extent",
            sql if sql.starts_with("SELECT name FROM system.settings") => "settings",
            sql if sql.starts_with("SELECT engine") => "engine",
            sql if sql.starts_with("SELECT count(), countIf(") => "sizes",
            sql if sql.starts_with("SELECT count() FROM (") => "moved",
            sql if sql.starts_with("SELECT count() FROM") => "count",
            sql if sql.starts_with("SELECT toUnixTimestamp64Micro(") => "next",
            sql if sql.starts_with("SELECT toString(r.session_id) AS session") => "experiments",
            sql if sql.starts_with("SELECT r.inputs_s3_urls") => "pointers",
            _ => "rows",
        }
    }

    pub(super) fn answer(&self, data: &Data) -> Bytes {
        match self.name() {
            "kill" => Bytes::new(),
            "extent" => self.extent(data),
            "settings" => header(&[("name", "String")]).into(),
            "engine" => engine(),
            "sizes" => self.sizes(data),
            "moved" => number("ids", 0),
            "count" => self.count(data),
            "next" => self.next(data),
            "experiments" => self.experiments(data),
            "pointers" => self.pointers(data),
            _ => self.rows(data),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.parameters.get(&format!("param_{name}")).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.text(name).map(|text| text.parse().expect("a number"))
    }

    fn of_project(&self) -> bool {
        self.text("tenant") == Some(TENANT.to_string().as_str())
            && self.text("session") == Some(PROJECT.to_string().as_str())
    }

    /// The rows of the slice that come after its cursor.
    fn slice<'a>(&'a self, data: &'a Data) -> impl Iterator<Item = &'a Row> {
        let window = self.number("start").expect("a start")..self.number("end").expect("an end");
        let cursor = self.number("cursor_time").zip(self.text("cursor_id").map(str::to_owned));
        let behind = move |row: &Row| {
            cursor.as_ref().is_none_or(|(time, id)| {
                row.start_time > *time || (row.start_time == *time && row.id.to_string() > *id)
            })
        };
        data.rows
            .iter()
            .filter(move |row| self.of_project() && window.contains(&row.start_time) && behind(row))
    }

    fn extent(&self, data: &Data) -> Bytes {
        let (start, width) =
            (self.number("start").expect("a start"), self.number("width").expect("a width"));
        let merged = self.sql.contains(" FINAL");
        let mut stretches: BTreeMap<i64, (u64, u64, u64)> = BTreeMap::new();
        for row in self.slice(data) {
            let bytes: usize = [&row.inputs, &row.outputs]
                .map(|field| field.inline().map_or(0, str::len))
                .iter()
                .sum();
            let versions = if !merged && data.twice.contains(&row.id) { 2 } else { 1 };
            let (rows, sum, widest) =
                stretches.entry((row.start_time - start) / width).or_default();
            (*rows, *sum, *widest) =
                (*rows + versions, *sum + bytes as u64, (*widest).max(bytes as u64));
        }
        let mut answer = header(&[
            ("stretch", "Int64"),
            ("rows", "UInt64"),
            ("bytes", "UInt64"),
            ("widest", "UInt64"),
        ]);
        for (stretch, (rows, bytes, widest)) in stretches {
            answer.extend_from_slice(&stretch.to_le_bytes());
            [rows, bytes, widest]
                .iter()
                .for_each(|number| answer.extend_from_slice(&number.to_le_bytes()));
        }
        answer.into()
    }

    fn sizes(&self, data: &Data) -> Bytes {
        let mut answer = header(&[("rows", "UInt64"), ("of_window", "UInt64")]);
        let rows = self.slice(data).count() as u64;
        [rows, rows].iter().for_each(|number| answer.extend_from_slice(&number.to_le_bytes()));
        answer.into()
    }

    fn count(&self, data: &Data) -> Bytes {
        number("rows", self.slice(data).count() as u64)
    }

    fn next(&self, data: &Data) -> Bytes {
        let mut answer = header(&[("time", "Int64"), ("id", "String")]);
        if let Some(row) = self.slice(data).next() {
            answer.extend_from_slice(&row.start_time.to_le_bytes());
            string(&mut answer, &row.id.to_string());
        }
        answer.into()
    }

    fn experiments(&self, data: &Data) -> Bytes {
        let mut answer = header(&[("session", "String"), ("first", "Int64"), ("last", "Int64")]);
        let window = self.number("start").expect("a start")..self.number("end").expect("an end");
        let mine = self.text("tenant") == Some(TENANT.to_string().as_str());
        let times = || {
            data.rows.iter().map(|row| row.start_time).filter(|time| mine && window.contains(time))
        };
        if let Some((first, last)) = times().min().zip(times().max()) {
            string(&mut answer, &PROJECT.to_string());
            answer.extend_from_slice(&first.to_le_bytes());
            answer.extend_from_slice(&last.to_le_bytes());
        }
        answer.into()
    }

    fn pointers(&self, data: &Data) -> Bytes {
        let mut answer =
            header(&[("inputs", "String"), ("outputs", "String"), ("others", "String")]);
        let wanted = |row: &&Row| {
            Some(row.start_time) == self.number("time")
                && Some(row.id.to_string().as_str()) == self.text("id")
        };
        if let Some(row) = data.rows.iter().find(wanted) {
            for pointer in [row.inputs.pointer(), row.outputs.pointer(), String::new()] {
                string(&mut answer, &pointer);
            }
        }
        answer.into()
    }

    fn rows(&self, data: &Data) -> Bytes {
        let names: Vec<&str> = self
            .sql
            .split(" AS x_")
            .skip(1)
            .map(|rest| rest.split([',', '\n']).next().expect("a name"))
            .collect();
        let merged = self.sql.contains(" FINAL");
        let versions = |row: &Row| if !merged && data.twice.contains(&row.id) { 2 } else { 1 };
        let rows: Vec<&Row> =
            self.slice(data).flat_map(|row| repeat_n(row, versions(row))).collect();
        let batch = |rows: &[&Row]| {
            let arrays: Vec<ArrayRef> = names.iter().map(|name| column(name, rows)).collect();
            let fields: Vec<Field> = names
                .iter()
                .zip(&arrays)
                .map(|(name, array)| {
                    Field::new(format!("x_{name}"), array.data_type().clone(), true)
                })
                .collect();
            RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("a batch")
        };
        let mut writer = StreamWriter::try_new(Vec::new(), &batch(&[]).schema()).expect("a stream");
        for block in rows.chunks(self.block_rows) {
            writer.write(&batch(block)).expect("a block");
        }
        writer.finish().expect("an end");
        writer.into_inner().expect("bytes").into()
    }
}

fn column(name: &str, rows: &[&Row]) -> ArrayRef {
    let texts = |text: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| text(row)).collect::<StringArray>())
    };
    let number = |row: &Row| (row.id.as_u128() % 1000) as i64;
    match name {
        "id" => return texts(&|row| Some(row.id.to_string())),
        "tenant_id" => return texts(&|_| Some(TENANT.to_string())),
        "session_id" => return texts(&|_| Some(PROJECT.to_string())),
        "inputs" => return texts(&|row| row.inputs.inline().map(str::to_owned)),
        "outputs" => return texts(&|row| row.outputs.inline().map(str::to_owned)),
        "inputs_s3_urls" => return texts(&|row| Some(row.inputs.pointer())),
        "outputs_s3_urls" => return texts(&|row| Some(row.outputs.pointer())),
        "s3_urls" => return texts(&|_| Some(String::new())),
        "withdrawn" => return Arc::new(UInt8Array::from_value(0, rows.len())),
        _ => {}
    }
    let column = Column::named(name).expect("a column that is exported");
    match column.kind() {
        ColumnType::Text => texts(&|row| {
            (!column.nullable() || number(row) % 3 > 0).then(|| format!("{name} {}", number(row)))
        }),
        ColumnType::Timestamp => Arc::new(
            TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.start_time))
                .with_timezone("UTC"),
        ),
        ColumnType::Bool => {
            Arc::new(rows.iter().map(|row| Some(number(row) % 2 == 0)).collect::<BooleanArray>())
        }
        ColumnType::Int => {
            Arc::new(rows.iter().map(|row| Some(number(row))).collect::<Int64Array>())
        }
        ColumnType::Cost => Arc::new(
            rows.iter().map(|row| Some(number(row) as f64 / 8.0)).collect::<Float64Array>(),
        ),
    }
}

/// The table has the engine of the reference schema.
fn engine() -> Bytes {
    let mut answer =
        header(&[("engine", "String"), ("engine_full", "String"), ("sorting_key", "String")]);
    for text in [
        "ReplacingMergeTree",
        "ReplacingMergeTree(modified_at, is_deleted)",
        "tenant_id, session_id, start_time, id",
    ] {
        string(&mut answer, text);
    }
    answer.into()
}

/// A response with a single number.
fn number(name: &str, value: u64) -> Bytes {
    let mut answer = header(&[(name, "UInt64")]);
    answer.extend_from_slice(&value.to_le_bytes());
    answer.into()
}

/// RowBinaryWithNamesAndTypes, up to the first row.
fn header(columns: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![u8::try_from(columns.len()).expect("few")];
    for (name, _) in columns {
        string(&mut out, name);
    }
    for (_, kind) in columns {
        string(&mut out, kind);
    }
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(text.as_bytes());
}
