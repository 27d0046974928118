//! The SQL of the source, as pure text. Values are parameters (`{name:Type}`), never pasted.

use std::fmt::Write as _;

use tracelift_core::{
    column::{Column, ColumnType, Columns},
    export::FormatVersion,
};

/// Pointers of `inputs`, of `outputs`, and of the other offloaded fields.
pub(crate) const POINTER_COLUMNS: [&str; 3] = ["inputs_s3_urls", "outputs_s3_urls", "s3_urls"];

/// The pointer column of an offloadable column.
pub(crate) fn pointer_column(column: Column) -> &'static str {
    match column {
        Column::Inputs => POINTER_COLUMNS[0],
        Column::Outputs => POINTER_COLUMNS[1],
        _ => POINTER_COLUMNS[2],
    }
}

/// The rows of one slice in the order (start_time, id as text), from behind a cursor when there is one.
///
/// It selects the exported columns with the types of the result, then `id` and `start_time` where they are not exported
/// (the cursor needs them), then the pointers of the offloaded columns that are exported. A String of ClickHouse holds any
/// bytes; one that is no UTF-8 would make the whole answer unreadable, so its wrong bytes are replaced.
pub(crate) fn rows(table: &str, columns: &Columns, version: FormatVersion, resumes: bool) -> String {
    let mut selected: Vec<String> =
        columns.iter().map(|column| format!("{} AS {}", expression(column, version), out(column.name()))).collect();
    for column in [Column::Id, Column::StartTime] {
        if !columns.iter().any(|exported| exported == column) {
            selected.push(format!("{} AS {}", expression(column, version), out(column.name())));
        }
    }
    let used = |pointer: &str| columns.iter().any(|column| column.offloadable() && pointer_column(column) == pointer);
    selected.extend(
        POINTER_COLUMNS.iter().filter(|pointer| used(pointer)).map(|pointer| format!("toValidUTF8(r.{pointer}) AS {}", out(pointer))),
    );
    let mut sql = format!("SELECT {}\nFROM {table} AS r FINAL\nWHERE {SLICE}", selected.join(",\n       "));
    if resumes {
        sql.push_str(BEHIND);
    }
    let _ = write!(sql, "\nORDER BY r.start_time, toString(r.id)");
    sql
}

/// How many rows a slice has, about (rows that are there twice count twice), and the bytes of its widest row.
pub(crate) fn extent(table: &str) -> String {
    let widths = ["inputs", "outputs", "error", "extra", "events"].map(|name| format!("length(r.{name})")).join(" + ");
    format!("SELECT count(), max({widths}) FROM {table} AS r WHERE {SLICE}")
}

/// How many rows a slice has, each once.
pub(crate) fn count(table: &str) -> String {
    format!("SELECT count() FROM {table} AS r FINAL WHERE {SLICE}")
}

/// Start time in microseconds and id of the first row, from behind a cursor when there is one.
pub(crate) fn next(table: &str, resumes: bool) -> String {
    let behind = if resumes { BEHIND } else { "" };
    format!(
        "SELECT toUnixTimestamp64Micro(r.start_time), toString(r.id) FROM {table} AS r FINAL WHERE {SLICE}{behind}
ORDER BY r.start_time, toString(r.id) LIMIT 1"
    )
}

/// The pointers of one row as they are now.
pub(crate) fn pointers(table: &str) -> String {
    format!(
        "SELECT r.inputs_s3_urls, r.outputs_s3_urls, r.s3_urls FROM {table} AS r FINAL
WHERE r.tenant_id = {{tenant:UUID}} AND r.session_id = {{session:UUID}}
  AND r.start_time = fromUnixTimestamp64Micro({{time:Int64}}, 'UTC') AND r.id = {{id:UUID}}"
    )
}

/// Stops a query by its id.
pub(crate) const KILL: &str = "KILL QUERY WHERE query_id = {id:String} ASYNC";

const SLICE: &str = "r.tenant_id = {tenant:UUID} AND r.session_id = {session:UUID}
  AND r.start_time >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')
  AND r.start_time < fromUnixTimestamp64Micro({end:Int64}, 'UTC')";

const BEHIND: &str = "
  AND r.start_time >= fromUnixTimestamp64Micro({cursor_time:Int64}, 'UTC')
  AND (r.start_time > fromUnixTimestamp64Micro({cursor_time:Int64}, 'UTC') OR toString(r.id) > {cursor_id:String})";

/// The name of a result column. It differs from every table column, so that no expression can mean an alias by mistake.
pub(crate) fn out(name: &str) -> String {
    format!("x_{name}")
}

fn expression(column: Column, version: FormatVersion) -> String {
    let name = column.name();
    match column {
        Column::ParentRunIds => {
            "toJSONString(arrayMap(part -> substring(part, position(part, 'Z') + 1), arrayPopBack(splitByChar('.', toValidUTF8(r.dotted_order)))))"
                .to_owned()
        }
        Column::Tags => "toJSONString(arrayMap(tag -> toValidUTF8(tag), r.tags))".to_owned(),
        Column::Id | Column::TenantId | Column::SessionId | Column::TraceId | Column::ParentRunId | Column::ReferenceExampleId => {
            format!("toString(r.{name})")
        }
        Column::Name | Column::RunType | Column::Status | Column::DottedOrder | Column::TraceTier => {
            format!("toValidUTF8(toString(r.{name}))")
        }
        _ => match (column.kind(), version) {
            (ColumnType::Text, _) => format!("nullIf(toValidUTF8(r.{name}), '')"),
            (ColumnType::Int, _) => format!("toInt64(r.{name})"),
            (ColumnType::Cost, FormatVersion::V1) => format!("toFloat64(r.{name})"),
            (ColumnType::Cost, FormatVersion::V2Beta) | (ColumnType::Timestamp | ColumnType::Bool, _) => format!("r.{name}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_all_columns() {
        insta::assert_snapshot!(rows("runs", &Columns::default(), FormatVersion::V1, false));
    }

    #[test]
    fn a_resumed_query_of_few_columns_reads_their_pointers_only() {
        let columns = Columns::parse("f", &["outputs", "total_cost"]).unwrap();
        insta::assert_snapshot!(rows("runs", &columns, FormatVersion::V2Beta, true));
    }
}
