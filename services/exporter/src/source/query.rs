//! The SQL of the source, as pure text. Values are parameters (`{name:Type}`), never pasted.

use std::fmt::Write as _;

use tracelift_core::{
    column::{Column, ColumnType, Columns},
    export::FormatVersion,
};

use super::{
    feedback::{FIELDS, Kind},
    filter::Pushed,
    versions::Versions,
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
/// It selects the exported columns with the types of the result (feedback is looked up by [`feedback`], tenant and project are known),
/// then `id` and `start_time` where they are not exported (the cursor needs them), then what decides a filter on content, then the
/// pointers of the offloaded columns that are exported or that decide, then what tells versions apart that are not merged. A String of
/// ClickHouse holds any bytes: `text` makes them text.
pub(super) fn rows(
    table: &str,
    columns: &Columns,
    version: FormatVersion,
    versions: Versions,
    resumes: bool,
    filter: Option<&Pushed>,
) -> String {
    let elsewhere = [Column::Feedbacks, Column::TenantId, Column::SessionId];
    let of_table = columns.iter().filter(|column| !elsewhere.contains(column));
    let mut selected: Vec<String> = of_table.map(|column| format!("{} AS {}", expression(column, version), out(column.name()))).collect();
    for column in [Column::Id, Column::StartTime] {
        if !columns.contains(column) {
            selected.push(format!("{} AS {}", expression(column, version), out(column.name())));
        }
    }
    let deciding: &[Column] = filter.map_or(&[], |filter| &filter.content);
    if let Some((filter, undecided)) = filter.and_then(|filter| Some((filter, filter.undecided.as_ref()?))) {
        selected.push(format!("toBool({undecided}) AS {}", out(UNDECIDED)));
        let answers = filter.questions.iter().enumerate();
        selected.extend(answers.map(|(index, question)| format!("toBool({question}) AS {}", out(&answer(index)))));
        let hidden = deciding.iter().filter(|column| !columns.contains(**column));
        selected.extend(hidden.map(|column| format!("if({undecided}, {}, NULL) AS {}", expression(*column, version), out(column.name()))));
    }
    let used = |pointer: &str| {
        let exported = columns.iter().filter(|column| column.offloadable());
        exported.chain(deciding.iter().copied()).any(|column| pointer_column(column) == pointer)
    };
    selected.extend(POINTER_COLUMNS.iter().filter(|pointer| used(pointer)).map(|pointer| format!("r.{pointer} AS {}", out(pointer))));
    let merged = match versions {
        Versions::AsStored => {
            selected.push(format!("r.is_deleted AS {}", out(WITHDRAWN)));
            ""
        }
        Versions::Merged => " FINAL",
    };
    let mut sql = format!("SELECT {}\nFROM {table} AS r{merged}\nWHERE {SLICE}{}", selected.join(",\n       "), only(filter));
    if resumes {
        sql.push_str(BEHIND);
    }
    let _ = write!(sql, "\nORDER BY r.start_time, toString(r.id)");
    sql
}

/// Rows, their bytes and those of the widest, of each short stretch of a slice that has any, in order. Rows that are there twice
/// count twice.
pub(crate) fn extent(table: &str, filter: Option<&Pushed>) -> String {
    let bytes = ["inputs", "outputs", "error", "extra", "events"].map(|name| format!("length(r.{name})")).join(" + ");
    format!(
        "SELECT count(), sum({bytes}), max({bytes}) FROM {table} AS r WHERE {SLICE}{}
GROUP BY intDiv(toUnixTimestamp64Micro(r.start_time) - {{start:Int64}}, {{width:Int64}}) AS stretch ORDER BY stretch",
        only(filter)
    )
}

/// How many rows a slice has, each once; with a filter on content those that may match.
pub(crate) fn count(table: &str, filter: Option<&Pushed>) -> String {
    format!("SELECT count() FROM {table} AS r FINAL WHERE {SLICE}{}", only(filter))
}

/// The projects with a reference dataset that have rows in a window: id, start times of the first and the last row in
/// microseconds. It is a dataset of any row of theirs, in the window or not.
pub(crate) fn experiments(table: &str) -> String {
    format!(
        "SELECT toString(r.session_id) AS session, toUnixTimestamp64Micro(min(r.start_time)), toUnixTimestamp64Micro(max(r.start_time))
FROM {table} AS r FINAL
WHERE r.tenant_id = {{tenant:UUID}}{WINDOW}
  AND r.session_id IN (
    SELECT e.session_id FROM {table} AS e FINAL WHERE e.tenant_id = {{tenant:UUID}} AND e.reference_dataset_id IS NOT NULL
  )
GROUP BY r.session_id ORDER BY session LIMIT {{most:UInt64}}"
    )
}

/// Start time in microseconds and id of the first row, from behind a cursor when there is one.
pub(crate) fn next(table: &str, resumes: bool, filter: Option<&Pushed>) -> String {
    let only = only(filter);
    let behind = if resumes { BEHIND } else { "" };
    format!(
        "SELECT toUnixTimestamp64Micro(r.start_time), toString(r.id) FROM {table} AS r FINAL WHERE {SLICE}{only}{behind}
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

/// Whether versions of a row come next to each other in the order of a run, and are the only rows with one key.
pub(crate) const KEYED: &str = "SELECT count() FROM system.tables
WHERE database = currentDatabase() AND name = {table:String} AND endsWith(engine, 'ReplacingMergeTree')
  AND sorting_key = 'tenant_id, session_id, start_time, id'";

/// Whether a version of a row withdraws it.
pub(crate) const WITHDRAWN: &str = "withdrawn";

/// Whether a row that was found is yet to be decided.
pub(crate) const UNDECIDED: &str = "undecided";

/// The answer to a question of a filter.
pub(crate) fn answer(index: usize) -> String {
    format!("answer_{index}")
}

fn only(filter: Option<&Pushed>) -> String {
    filter.map(|filter| format!("\n  AND ({})", filter.condition)).unwrap_or_default()
}

/// Which of the rows that were asked for a row of feedback is on, from 1.
pub(crate) const ON: &str = "x_on";

/// The feedback on some rows of a session, in the order of their ids and then as it was given.
///
/// The table is not ordered by the row that feedback is on, and merging the versions (FINAL) of a whole project costs more than
/// looking through it. So the keys of every version that is on one of the rows are found first, in one column, and only
/// what has those keys is merged. The inner query has blocks of the usual size: it looks at much, of which little is answered.
pub(crate) fn feedback(table: &str) -> String {
    let selected = FIELDS.map(|(name, kind)| {
        let expression = match kind {
            Kind::Uuid => format!("toString(f.{name})"),
            Kind::Bool => format!("toBool(f.{name})"),
            Kind::Time | Kind::Score => format!("f.{name}"),
            Kind::Name | Kind::Text | Kind::Json => format!("f.{name}"),
        };
        format!("{expression} AS {}", out(name))
    });
    format!(
        "SELECT toUInt64(indexOf({{ids:Array(UUID)}}, f.run_id)) AS {ON},
       {}
FROM {table} AS f FINAL
WHERE f.tenant_id = {{tenant:UUID}} AND f.session_id = {{session:UUID}}
  AND (f.start_time, f.id) IN (
    SELECT v.start_time, v.id FROM {table} AS v
    WHERE v.tenant_id = {{tenant:UUID}} AND v.session_id = {{session:UUID}} AND v.run_id IN {{ids:Array(UUID)}}
    SETTINGS max_block_size = 65409)
  AND f.run_id IN {{ids:Array(UUID)}} AND f.is_deleted = 0
ORDER BY {ON}, f.created_at, toString(f.id)",
        selected.join(",\n       ")
    )
}

/// Stops a query by its id, and those that were asked for its sake.
pub(crate) const KILL: &str = "KILL QUERY WHERE query_id = {id:String} OR startsWith(query_id, concat({id:String}, '-')) ASYNC";

const WINDOW: &str = "
  AND r.start_time >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')
  AND r.start_time < fromUnixTimestamp64Micro({end:Int64}, 'UTC')";

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
        // Its 16 bytes, of which `text` makes text. ClickHouse's own Arrow type for them is younger.
        Column::Id | Column::TraceId | Column::ParentRunId | Column::ReferenceExampleId => {
            format!("reinterpret(r.{name}, 'FixedString(16)')")
        }
        Column::Name | Column::RunType | Column::Status | Column::DottedOrder | Column::TraceTier => {
            format!("toString(r.{name})")
        }
        _ => match (column.kind(), version) {
            (ColumnType::Text, _) => format!("r.{name}"),
            (ColumnType::Int, _) => format!("toInt64(r.{name})"),
            (ColumnType::Cost, FormatVersion::V1) => format!("toFloat64(r.{name})"),
            (ColumnType::Cost, FormatVersion::V2Beta) | (ColumnType::Timestamp | ColumnType::Bool, _) => format!("r.{name}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use tracelift_core::filter::Filter;

    use super::*;

    #[test]
    fn the_query_of_all_columns() {
        insta::assert_snapshot!(rows("runs", &Columns::default(), FormatVersion::V1, Versions::AsStored, false, None));
    }

    #[test]
    fn a_resumed_query_of_few_columns_reads_their_pointers_only() {
        let columns = Columns::parse("f", &["outputs", "total_cost"]).unwrap();
        insta::assert_snapshot!(rows("runs", &columns, FormatVersion::V2Beta, Versions::Merged, true, None));
    }

    #[test]
    fn the_query_of_feedback() {
        insta::assert_snapshot!(feedback("feedbacks"));
    }

    #[test]
    fn rows_are_asked_for_without_their_feedback() {
        let of = |names: &[&str]| rows("runs", &Columns::parse("f", names).unwrap(), FormatVersion::V1, Versions::Merged, true, None);
        assert_eq!(of(&["name", "feedbacks", "id"]), of(&["name", "id"]));
        assert!(!of(&["feedbacks"]).contains("feedback"));
    }

    #[test]
    fn the_query_of_experiments() {
        insta::assert_snapshot!(experiments("runs"));
    }

    #[test]
    fn a_query_with_a_filter_on_content_selects_what_decides_it() {
        let columns = Columns::parse("f", &["name", "inputs"]).unwrap();
        let filter = Filter::read(r#"and(eq(is_root, true), or(neq(error, null), like(inputs, "%a%")), gt(latency, 2))"#).unwrap();
        let pushed = Pushed::of(&filter, "feedbacks");
        insta::assert_snapshot!(rows("runs", &columns, FormatVersion::V1, Versions::Merged, true, Some(&pushed)));
    }
}
