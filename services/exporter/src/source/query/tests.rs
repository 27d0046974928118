//! The SQL of the source, as text.

use tracelift_core::filter::Filter;

use super::*;
use crate::source::feedback::sql::{feedback, feedback_of_project};

fn schema() -> SourceSchema {
    SourceSchema::reference("runs", "feedbacks")
}

fn asked(schema: &SourceSchema, merging: Merging) -> RenderedQuery<'_> {
    RenderedQuery { schema, merging, moved: false, filter: None, resumes: false }
}

#[test]
fn the_query_of_all_columns() {
    insta::assert_snapshot!(rows(
        &asked(&schema(), Merging::Final),
        &Columns::default(),
        FormatVersion::V1,
        Versions::AsStored
    ));
}

#[test]
fn a_resumed_query_of_few_columns_reads_their_pointers_only() {
    let schema = schema();
    let columns = Columns::parse("f", &["outputs", "total_cost"]).unwrap();
    let asked = RenderedQuery { resumes: true, ..asked(&schema, Merging::Final) };
    insta::assert_snapshot!(rows(&asked, &columns, FormatVersion::V2Beta, Versions::Merged));
}

#[test]
fn the_query_of_feedback() {
    insta::assert_snapshot!(feedback(&schema().feedbacks, Merging::Final));
}

#[test]
fn rows_are_asked_for_without_their_feedback() {
    let of = |names: &[&str]| {
        rows(
            &asked(&schema(), Merging::Final),
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
    insta::assert_snapshot!(experiments(&schema(), Merging::Final));
}

#[test]
fn the_query_of_the_pointers_of_one_row() {
    let told = "SELECT r.inputs_s3_urls, r.outputs_s3_urls, r.s3_urls FROM runs AS r
WHERE r.tenant_id = {tenant:UUID} AND r.session_id = {session:UUID} \
AND r.start_time = fromUnixTimestamp64Micro({time:Int64}, 'UTC') AND r.id = {id:UUID}
ORDER BY r.modified_at DESC LIMIT 1";
    assert_eq!(pointers(&schema()), told);
}

#[test]
fn the_query_of_the_row_behind_a_cursor() {
    let schema = schema();
    let asked = RenderedQuery { resumes: true, ..asked(&schema, Merging::Final) };
    let told = "SELECT toUnixTimestamp64Micro(r.start_time), toString(r.id) FROM runs AS r FINAL \
WHERE r.tenant_id = {tenant:UUID} AND r.session_id = {session:UUID}
  AND r.start_time >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')
  AND r.start_time < fromUnixTimestamp64Micro({end:Int64}, 'UTC')
  AND r.start_time >= fromUnixTimestamp64Micro({cursor_time:Int64}, 'UTC')
  AND (r.start_time > fromUnixTimestamp64Micro({cursor_time:Int64}, 'UTC') OR toString(r.id) > {cursor_id:String})
ORDER BY r.start_time, toString(r.id) LIMIT 1";
    assert_eq!(next(&asked), told);
}

#[test]
fn a_query_with_a_filter_on_content_selects_what_decides_it() {
    let schema = schema();
    let columns = Columns::parse("f", &["name", "inputs"]).unwrap();
    let filter = Filter::read(
        r#"and(eq(is_root, true), or(neq(error, null), like(inputs, "%a%")), gt(latency, 2))"#,
    )
    .unwrap();
    let pushed = Pushdown::of(&filter, &schema, "feedbacks AS f FINAL");
    let asked =
        RenderedQuery { resumes: true, filter: Some(&pushed), ..asked(&schema, Merging::Final) };
    insta::assert_snapshot!(rows(&asked, &columns, FormatVersion::V1, Versions::Merged));
}

#[test]
fn where_the_engine_does_not_merge_versions_the_newest_decides() {
    let schema = schema();
    let columns = Columns::parse("f", &["name"]).unwrap();
    let filter = Filter::read(r#"and(eq(name, "a"), eq(feedback_key, "k"))"#).unwrap();
    let pushed =
        Pushdown::of(&filter, &schema, &feedback_of_project(&schema.feedbacks, Merging::Ours));
    let asked =
        RenderedQuery { filter: Some(&pushed), resumes: true, ..asked(&schema, Merging::Ours) };
    let told = [
        rows(&asked, &columns, FormatVersion::V1, Versions::Neighbours),
        extent(&asked, Versions::Neighbours),
        count(&asked),
        experiments(&schema, Merging::Ours),
        feedback(&schema.feedbacks, Merging::Ours),
    ];
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn an_id_that_moved_counts_where_its_newest_version_is() {
    let schema = schema();
    let asked = RenderedQuery { moved: true, ..asked(&schema, Merging::Final) };
    let told = [
        sizes(&schema),
        moved(&schema, false),
        moved(&schema, true),
        count(&asked),
        extent(&asked, Versions::Merged),
    ];
    insta::assert_snapshot!(told.join("\n\n"));
}
