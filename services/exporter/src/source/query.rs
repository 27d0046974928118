//! The SQL of the source, as pure text. Values are parameters (`{name:Type}`), never inlined.

mod count;
mod moved;

use tracelift_core::{
    column::{Column, ColumnType, Columns},
    export::FormatVersion,
};

use super::{filter::Pushdown, merging::Merging, versions::Versions};
pub(super) use count::{count, counts, extent};
use moved::unmoved;
pub(super) use moved::{moved, sizes};

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

/// Which rows to select, and what determines those that count.
#[derive(Debug, Clone, Copy)]
pub(super) struct RenderedQuery<'a> {
    pub(super) table: &'a str,
    pub(super) merging: Merging,
    /// Whether ids of the slice also occur at other start times; if so, each counts where its
    /// newest version is.
    pub(super) moved: bool,
    pub(super) filter: Option<&'a Pushdown>,
    /// Whether to start after a cursor.
    pub(super) resumes: bool,
}

impl RenderedQuery<'_> {
    /// The condition on every version of a row.
    fn keys(&self) -> String {
        let moved = if self.moved { unmoved(self.table) } else { String::new() };
        format!("{SLICE}{moved}{}", if self.resumes { BEHIND } else { "" })
    }

    /// The condition on its newest version.
    fn only(&self) -> String {
        self.filter.map(|filter| format!("\n  AND ({})", filter.condition)).unwrap_or_default()
    }
}

/// Selects the rows of a slice in the order (start_time, id as text), starting after a cursor if
/// there is one.
///
/// Selects the exported columns with the result's types (except feedback, which
/// [`super::feedback`] looks up, and tenant and project, which are known); then `id` and
/// `start_time` if not exported (for the cursor); then what decides a filter on content; then the
/// pointers of offloaded columns that are exported or decide; then what identifies unmerged
/// versions. ClickHouse Strings hold arbitrary bytes, which `text` turns into text.
pub(super) fn rows(
    asked: &RenderedQuery<'_>,
    columns: &Columns,
    version: FormatVersion,
    versions: Versions,
) -> String {
    let elsewhere = [Column::Feedbacks, Column::TenantId, Column::SessionId];
    let of_table = columns.iter().filter(|column| !elsewhere.contains(column));
    let mut selected: Vec<String> = of_table
        .map(|column| format!("{} AS {}", expression(column, version), out(column.name())))
        .collect();
    for column in [Column::Id, Column::StartTime] {
        if !columns.contains(column) {
            selected.push(format!("{} AS {}", expression(column, version), out(column.name())));
        }
    }
    let deciding: &[Column] = asked.filter.map_or(&[], |filter| &filter.content);
    if let Some((filter, undecided)) =
        asked.filter.and_then(|filter| Some((filter, filter.undecided.as_ref()?)))
    {
        selected.push(format!("toBool({undecided}) AS {}", out(UNDECIDED)));
        let answers = filter.questions.iter().enumerate();
        selected.extend(
            answers
                .map(|(index, question)| format!("toBool({question}) AS {}", out(&answer(index)))),
        );
        let hidden = deciding.iter().filter(|column| !columns.contains(**column));
        selected.extend(hidden.map(|column| {
            format!(
                "if({undecided}, {}, NULL) AS {}",
                expression(*column, version),
                out(column.name())
            )
        }));
    }
    let used = |pointer: &str| {
        let exported = columns.iter().filter(|column| column.offloadable());
        exported.chain(deciding.iter().copied()).any(|column| pointer_column(column) == pointer)
    };
    selected.extend(
        POINTER_COLUMNS
            .iter()
            .filter(|pointer| used(pointer))
            .map(|pointer| format!("r.{pointer} AS {}", out(pointer))),
    );
    let (merged, only, order) = match versions {
        Versions::Merged => (" FINAL", asked.only(), ""),
        Versions::AsStored => (" ", String::new(), ""),
        // The order of versions decides which of them count; only then does it matter whether they
        // match.
        Versions::Neighbours => (" ", String::new(), ", r.modified_at DESC, r.is_deleted DESC"),
    };
    if versions != Versions::Merged {
        selected.push(format!("r.is_deleted AS {}", out(WITHDRAWN)));
    }
    if let (Versions::Neighbours, Some(filter)) = (versions, asked.filter) {
        selected.push(format!("toBool({}) AS {}", filter.condition, out(MATCHES)));
    }
    format!(
        "SELECT {}\nFROM {} AS r{}\nWHERE {}{only}\nORDER BY r.start_time, toString(r.id){order}",
        selected.join(",\n       "),
        asked.table,
        merged.trim_end(),
        asked.keys()
    )
}

/// The projects with a reference dataset that have rows in a window: id, and start times of the
/// first and last row in microseconds. The dataset may be that of any row, in the window or not.
pub(super) fn experiments(table: &str, merging: Merging) -> String {
    // Withdrawn rows merely add an empty partition.
    let merged = if merging == Merging::Final { " FINAL" } else { "" };
    format!(
        "SELECT toString(r.session_id) AS session, toUnixTimestamp64Micro(min(r.start_time)), toUnixTimestamp64Micro(max(r.start_time))
FROM {table} AS r{merged}
WHERE r.tenant_id = {{tenant:UUID}}
  AND {WITHIN}
  AND r.session_id IN (
    SELECT e.session_id FROM {table} AS e{merged} WHERE e.tenant_id = {{tenant:UUID}} AND e.reference_dataset_id IS NOT NULL
  )
GROUP BY r.session_id ORDER BY session LIMIT {{most:UInt64}}"
    )
}

/// Start time in microseconds and id of the first row, after a cursor if there is one.
pub(super) fn next(asked: &RenderedQuery<'_>) -> String {
    let merged = if asked.merging == Merging::Final { " FINAL" } else { "" };
    format!(
        "SELECT toUnixTimestamp64Micro(r.start_time), toString(r.id) FROM {} AS r{merged} WHERE {}{}
ORDER BY r.start_time, toString(r.id) LIMIT 1",
        asked.table,
        asked.keys(),
        asked.only()
    )
}

/// The current pointers of one row.
pub(super) fn pointers(table: &str) -> String {
    format!(
        "SELECT r.inputs_s3_urls, r.outputs_s3_urls, r.s3_urls FROM {table} AS r
WHERE {PROJECT} AND r.start_time = fromUnixTimestamp64Micro({{time:Int64}}, 'UTC') AND r.id = {{id:UUID}}
ORDER BY r.modified_at DESC LIMIT 1"
    )
}

/// Describes a table.
pub(crate) const TABLE: &str = "SELECT engine, engine_full, sorting_key FROM system.tables
WHERE database = currentDatabase() AND name = {table:String}";

/// Whether a version of a row withdraws it.
pub(crate) const WITHDRAWN: &str = "withdrawn";

/// Whether a version of a row matches the filter, or may.
pub(crate) const MATCHES: &str = "matches";

/// Whether a row still has to be decided.
pub(crate) const UNDECIDED: &str = "undecided";

/// The column with the answer to a filter's question.
pub(crate) fn answer(index: usize) -> String {
    format!("answer_{index}")
}

/// Kills a query by id, and the queries made on its behalf.
pub(crate) const KILL: &str = "KILL QUERY WHERE query_id = {id:String} OR startsWith(query_id, concat({id:String}, '-')) ASYNC";

const PROJECT: &str = "r.tenant_id = {tenant:UUID} AND r.session_id = {session:UUID}";

const WITHIN: &str = "r.start_time >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')
  AND r.start_time < fromUnixTimestamp64Micro({end:Int64}, 'UTC')";

const SLICE: &str = "r.tenant_id = {tenant:UUID} AND r.session_id = {session:UUID}
  AND r.start_time >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')
  AND r.start_time < fromUnixTimestamp64Micro({end:Int64}, 'UTC')";

const BEHIND: &str = "
  AND r.start_time >= fromUnixTimestamp64Micro({cursor_time:Int64}, 'UTC')
  AND (r.start_time > fromUnixTimestamp64Micro({cursor_time:Int64}, 'UTC') OR toString(r.id) > {cursor_id:String})";

/// The name of a result column. It differs from every table column, so that no expression refers to
/// an alias by mistake.
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
        // Its 16 bytes, which `text` formats. Older servers lack an Arrow type for UUIDs.
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
mod tests;
