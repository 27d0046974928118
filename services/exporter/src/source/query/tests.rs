//! The SQL of the source, as text.

use tracelift_core::filter::Filter;

use super::*;
use crate::source::feedback::sql::{feedback, feedback_of_project};

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
