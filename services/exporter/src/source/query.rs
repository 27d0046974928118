//! The SQL of the source, as pure text. Values are parameters (`{name:Type}`), never inlined.

use tracelift_core::{
    column::{Column, ColumnType, Columns},
    export::FormatVersion,
};

use super::{
    feedback::{FIELDS, Kind},
    filter::Pushdown,
    merging::Merging,
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

    /// The newest versions of rows that the engine does not merge: their keys, size, and whether
    /// they count.
    fn newest(&self) -> String {
        let counts = self.filter.map_or("1", |filter| &filter.condition);
        format!(
            "(SELECT r.start_time AS start_time, r.id AS id,
       argMax(({}, r.is_deleted = 0 AND ({counts})), (r.modified_at, r.is_deleted)) AS newest
FROM {} AS r WHERE {} GROUP BY r.start_time, r.id)",
            inline_bytes(),
            self.table,
            self.keys()
        )
    }
}

/// Selects the rows of a slice in the order (start_time, id as text), starting after a cursor if
/// there is one.
///
/// Selects the exported columns with the result's types (except feedback, which [`feedback`] looks
/// up, and tenant and project, which are known); then `id` and `start_time` if not exported (for
/// the cursor); then what decides a filter on content; then the pointers of offloaded columns that
/// are exported or decide; then what identifies unmerged versions. ClickHouse Strings hold
/// arbitrary bytes, which `text` turns into text.
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

/// Number, rows, total bytes and widest row of each non-empty interval of a slice, in order. Rows
/// read as stored count once per version.
pub(super) fn extent(asked: &RenderedQuery<'_>, versions: Versions) -> String {
    intervals(asked, versions, &inline_bytes())
}

/// The same without bytes, for rows that can be counted but not measured.
pub(super) fn counts(asked: &RenderedQuery<'_>, versions: Versions) -> String {
    intervals(asked, versions, "0")
}

fn intervals(asked: &RenderedQuery<'_>, versions: Versions, bytes: &str) -> String {
    let (from, bytes, time) = match versions {
        Versions::AsStored => {
            (format!("{} AS r WHERE {}", asked.table, asked.keys()), bytes, "r.start_time")
        }
        Versions::Merged => (
            format!("{} AS r FINAL WHERE {}{}", asked.table, asked.keys(), asked.only()),
            bytes,
            "r.start_time",
        ),
        Versions::Neighbours => {
            (format!("{} AS r WHERE r.newest.2", asked.newest()), "r.newest.1", "r.start_time")
        }
    };
    format!(
        "SELECT intDiv(toUnixTimestamp64Micro({time}) - {{start:Int64}}, {{width:Int64}}) AS stretch,
       count(), toUInt64(sum({bytes})), toUInt64(max({bytes}))
FROM {from}
GROUP BY stretch ORDER BY stretch"
    )
}

/// Counts each row of a slice once; with a filter on content, the rows that may match.
pub(super) fn count(asked: &RenderedQuery<'_>) -> String {
    match asked.merging {
        Merging::Final => format!(
            "SELECT count() FROM {} AS r FINAL WHERE {}{}",
            asked.table,
            asked.keys(),
            asked.only()
        ),
        Merging::Ours => format!("SELECT count() FROM {} AS r WHERE r.newest.2", asked.newest()),
    }
}

/// Counts the stored rows of a project, and of a window of it.
pub(super) fn sizes(table: &str) -> String {
    format!("SELECT count(), countIf({WITHIN}) FROM {table} AS r WHERE {PROJECT}")
}

/// Whether ids of a window occur at several start times within the project: 0 or 1. Looks only at
/// share number `share` of `shares`, so that the ids fit into the server's memory.
pub(super) fn moved(table: &str, nearly_all: bool) -> String {
    // If most rows are in the window, looking at all of them is faster.
    let of_window =
        format!("\n  AND r.id IN (SELECT r.id FROM {table} AS r WHERE {SLICE} AND {SHARE})");
    format!(
        "SELECT count() FROM (
SELECT r.id FROM {table} AS r WHERE {PROJECT} AND {SHARE}{}
GROUP BY r.id HAVING min(r.start_time) != max(r.start_time) LIMIT 1)",
        if nearly_all { "" } else { &of_window }
    )
}

/// Selects the share of the ids to look at.
const SHARE: &str = "cityHash64(r.id) % {shares:UInt64} = {share:UInt64}";

/// Tests that an id's newest version is at this start time and not withdrawn. Looks only at ids of
/// the slice that occur at several.
fn unmoved(table: &str) -> String {
    format!(
        "
  AND (r.start_time, r.id) NOT IN (
    SELECT arrayJoin(arrayFilter(time -> time != newest.1 OR newest.2 != 0, times)), id
    FROM (
      SELECT r.id AS id, groupUniqArray(r.start_time) AS times,
             argMax((r.start_time, r.is_deleted), (r.modified_at, r.inserted_at, r.start_time, r.is_deleted)) AS newest
      FROM {table} AS r
      WHERE {PROJECT} AND r.id IN (SELECT r.id FROM {table} AS r WHERE {SLICE})
      GROUP BY r.id HAVING length(times) > 1))"
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

fn inline_bytes() -> String {
    ["inputs", "outputs", "error", "extra", "events"]
        .map(|name| format!("length(r.{name})"))
        .join(" + ")
}

/// The index (from 1) of the queried row that a feedback row belongs to.
pub(crate) const ON: &str = "x_on";

/// Selects the feedback on some rows of a session, in the order of their ids and then of creation.
///
/// The table is not ordered by trace row, and merging the versions (FINAL) of a whole project costs
/// more than scanning it. So the keys of all versions on one of the rows are found first, reading a
/// single column, and only rows with these keys are merged. The inner query uses blocks of the
/// default size, because it scans much and returns little.
pub(super) fn feedback(table: &str, merging: Merging) -> String {
    let selected = FIELDS.map(|(name, kind)| {
        let expression = match kind {
            Kind::Uuid => format!("toString(f.{name})"),
            Kind::Bool => format!("toBool(f.{name})"),
            Kind::Time | Kind::Score => format!("f.{name}"),
            Kind::Name | Kind::Text | Kind::Json => format!("f.{name}"),
        };
        format!("{expression} AS {}", out(name))
    });
    let keys = format!(
        "(SELECT v.start_time, v.id FROM {table} AS v
    WHERE v.tenant_id = {{tenant:UUID}} AND v.session_id = {{session:UUID}} AND v.run_id IN {{ids:Array(UUID)}}
    SETTINGS max_block_size = 65409)"
    );
    let from = match merging {
        Merging::Final => format!(
            "{table} AS f FINAL
WHERE f.tenant_id = {{tenant:UUID}} AND f.session_id = {{session:UUID}}
  AND (f.start_time, f.id) IN {keys}"
        ),
        Merging::Ours => format!(
            "{}\nWHERE 1",
            newest_feedback(table, &format!("\n  AND (v.start_time, v.id) IN {keys}"))
        ),
    };
    format!(
        "SELECT toUInt64(indexOf({{ids:Array(UUID)}}, f.run_id)) AS {ON},
       {}
FROM {from}
  AND f.run_id IN {{ids:Array(UUID)}} AND f.is_deleted = 0
ORDER BY {ON}, f.created_at, toString(f.id)",
        selected.join(",\n       ")
    )
}

/// The feedback table as seen by a filter, each row in its newest version.
pub(super) fn feedback_of_project(table: &str, merging: Merging) -> String {
    match merging {
        Merging::Final => format!("{table} AS f FINAL"),
        Merging::Ours => newest_feedback(table, ""),
    }
}

fn newest_feedback(table: &str, only: &str) -> String {
    format!(
        "(SELECT * FROM {table} AS v WHERE v.tenant_id = {{tenant:UUID}} AND v.session_id = {{session:UUID}}{only}
  ORDER BY v.modified_at DESC, v.is_deleted DESC LIMIT 1 BY v.start_time, v.id) AS f"
    )
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
mod tests {
    use tracelift_core::filter::Filter;

    use super::*;

    fn asked(merging: Merging) -> RenderedQuery<'static> {
        RenderedQuery { table: "runs", merging, moved: false, filter: None, resumes: false }
    }

    #[test]
    fn the_query_of_all_columns() {
        insta::assert_snapshot!(rows(
            &asked(Merging::Final),
            &Columns::default(),
            FormatVersion::V1,
            Versions::AsStored
        ));
    }

    #[test]
    fn a_resumed_query_of_few_columns_reads_their_pointers_only() {
        let columns = Columns::parse("f", &["outputs", "total_cost"]).unwrap();
        let asked = RenderedQuery { resumes: true, ..asked(Merging::Final) };
        insta::assert_snapshot!(rows(&asked, &columns, FormatVersion::V2Beta, Versions::Merged));
    }

    #[test]
    fn the_query_of_feedback() {
        insta::assert_snapshot!(feedback("feedbacks", Merging::Final));
    }

    #[test]
    fn rows_are_asked_for_without_their_feedback() {
        let of = |names: &[&str]| {
            rows(
                &asked(Merging::Final),
                &Columns::parse("f", names).unwrap(),
                FormatVersion::V1,
                Versions::Merged,
            )
        };
        assert_eq!(of(&["name", "feedbacks", "id"]), of(&["name", "id"]));
        assert!(!of(&["feedbacks"]).contains("feedback"));
    }

    #[test]
    fn the_query_of_experiments() {
        insta::assert_snapshot!(experiments("runs", Merging::Final));
    }

    #[test]
    fn a_query_with_a_filter_on_content_selects_what_decides_it() {
        let columns = Columns::parse("f", &["name", "inputs"]).unwrap();
        let filter = Filter::read(
            r#"and(eq(is_root, true), or(neq(error, null), like(inputs, "%a%")), gt(latency, 2))"#,
        )
        .unwrap();
        let pushed = Pushdown::of(&filter, "feedbacks AS f FINAL");
        let asked = RenderedQuery { resumes: true, filter: Some(&pushed), ..asked(Merging::Final) };
        insta::assert_snapshot!(rows(&asked, &columns, FormatVersion::V1, Versions::Merged));
    }

    #[test]
    fn where_the_engine_does_not_merge_versions_the_newest_decides() {
        let columns = Columns::parse("f", &["name"]).unwrap();
        let filter = Filter::read(r#"and(eq(name, "a"), eq(feedback_key, "k"))"#).unwrap();
        let pushed = Pushdown::of(&filter, &feedback_of_project("feedbacks", Merging::Ours));
        let asked = RenderedQuery { filter: Some(&pushed), resumes: true, ..asked(Merging::Ours) };
        let told = [
            rows(&asked, &columns, FormatVersion::V1, Versions::Neighbours),
            extent(&asked, Versions::Neighbours),
            count(&asked),
            experiments("runs", Merging::Ours),
            feedback("feedbacks", Merging::Ours),
        ];
        insta::assert_snapshot!(told.join("\n\n"));
    }

    #[test]
    fn an_id_that_moved_counts_where_its_newest_version_is() {
        let asked = RenderedQuery { moved: true, ..asked(Merging::Final) };
        let told = [
            sizes("runs"),
            moved("runs", false),
            moved("runs", true),
            count(&asked),
            extent(&asked, Versions::Merged),
        ];
        insta::assert_snapshot!(told.join("\n\n"));
    }
}
