//! What every store must do, whichever database it is. The cases work on `&Store`; time is
//! handed in, nothing waits.
//!
//! `suite!` makes one test of each case for one store. This file holds what the cases have in
//! common: who owns what, what is planned, and an exporter's moves.

pub(crate) mod ageing;
pub(crate) mod any_sequence;
pub(crate) mod audit;
pub(crate) mod claims;
pub(crate) mod experiments;
pub(crate) mod exports;
pub(crate) mod fairness;
pub(crate) mod keys;
pub(crate) mod leases;
pub(crate) mod limits;
pub(crate) mod notifications;
pub(crate) mod owners;
pub(crate) mod reports;
pub(crate) mod requests;
pub(crate) mod retries;
pub(crate) mod schedules;
pub(crate) mod tenants;

use tracelift_core::{
    column::Columns,
    destination::{Bucket, BucketInput, Destination, DisplayName, Identity},
    export::{Compression, Export, ExportSpec, ExportStatus, FileFormat, FormatVersion, Projects},
    failure::{Failure, FailureClass, Step},
    file::{Cursor, File, FileIntent, HydrationMiss, LeftOut},
    filter::Filter,
    id::{DestinationId, ExportId, ExporterId, SessionId, TaskId, TenantId},
    limit::AtOnce,
    oversized::Oversized,
    plan,
    task::{Event, Fence, Finished, Identity as RowIdentity, Lease, Task},
    time::{Timestamp, Window},
};
use uuid::Uuid;

use super::{
    Act, ClaimRequest, Claimed, CreateOutcome, ExportView, NewDestination, NewExport, Page,
    ReportError, ReportOutcome, RunView, Store, Tenant, Who,
};
use crate::sealer::Sealed;

/// Makes a test of every case, for the store that `$fresh` makes; `$sequences` says how many are
/// made up. The third argument is put on each test: what it needs, if that is more than Rust.
macro_rules! suite {
    ($fresh:path, $sequences:literal) => {
        $crate::store::conformance::suite!($fresh, $sequences, cfg(test));
    };
    ($fresh:path, $sequences:literal, $needs:meta) => {
        $crate::store::conformance::cases! { $fresh; $needs;
            owners {
                a_tenant_is_made_once,
                a_revoked_key_is_not_found_any_more,
                a_hash_is_stored_once,
                another_tenants_destination_does_not_exist,
                destinations_come_newest_first,
                credentials_are_replaced_for_their_owner_only,
                a_role_takes_the_place_of_keys_and_the_other_way_round,
                a_destination_in_use_is_not_deleted,
                a_deleted_destination_keeps_no_credentials_and_its_exports_are_still_shown,
                credentials_are_sealed_anew_only_if_they_are_unchanged,
                what_a_store_knows_is_remembered_and_handed_to_exporters,
            }
            exports {
                an_export_is_read_back_as_it_was_made,
                an_export_to_another_tenants_destination_is_not_stored,
                exports_come_newest_first_in_pages,
                what_is_made_between_two_pages_shifts_none_of_them,
                files_of_a_run_come_in_order_in_pages_to_their_owner_only,
                a_list_may_be_of_some_statuses_destinations_or_projects_only,
                runs_come_oldest_first_in_pages,
                another_tenants_export_is_invisible,
                a_view_adds_up_its_runs,
                cancelling_twice_changes_nothing_more,
                an_export_that_has_ended_is_not_cancelled,
                a_cancelled_export_does_not_count_files_in_the_making,
            }
            experiments {
                which_they_are_is_found_first_and_nobody_sees_the_run_that_does,
                what_is_found_is_exported_once_and_counted_together,
                of_reports_that_come_at_once_one_makes_partitions,
                who_was_lost_while_finding_makes_no_partitions,
                without_experiments_an_export_is_complete_and_empty,
                too_many_days_of_experiments_fail_the_export_in_words,
                finding_is_tried_again_and_fails_the_export_in_the_end,
                an_export_is_cancelled_while_its_experiments_are_found,
                finding_that_takes_too_long_times_out,
                finding_them_is_the_beginning_of_an_export_under_its_limits,
                each_export_of_a_schedule_finds_them_for_itself,
                a_repeated_request_is_answered_as_before_they_were_found,
            }
            schedules {
                a_window_is_exported_once_it_is_over,
                a_year_of_missed_windows_is_exported_step_by_step_oldest_first,
                however_many_look_at_once_a_window_is_exported_once,
                a_schedule_with_much_to_catch_up_on_keeps_no_other_waiting,
                a_schedule_has_only_so_many_exports_under_way_and_the_next_windows_wait_in_order,
                a_schedule_from_before_there_was_a_limit_goes_on_when_enough_have_ended,
                a_cancelled_schedule_spawns_nothing_more_and_leaves_what_it_spawned,
                a_schedule_never_times_out,
                runs_of_a_schedule_are_those_of_the_exports_it_spawned,
            }
            limits {
                an_export_has_only_so_many_runs_at_work,
                a_workspace_has_only_so_many_exports_at_work_and_the_others_wait_in_order,
                what_callers_do_not_see_is_never_held_back,
                a_workspace_with_a_thousand_runs_does_not_starve_one_with_one,
                with_one_slot_workspaces_take_turns,
                limits_hold_however_many_claim_at_once,
                a_workspace_makes_only_so_many_exports_an_hour,
                a_workspace_has_only_so_many_schedules_under_way,
                a_quota_holds_however_many_ask_at_once,
            }
            requests {
                a_repeated_request_gets_the_same_answer_and_makes_nothing,
                a_repeated_request_uses_up_no_quota,
                a_key_is_kept_for_a_day,
                of_requests_that_come_at_once_one_makes_an_export,
                a_removed_export_takes_its_key_along,
                a_repeated_request_makes_one_destination,
                of_requests_that_come_at_once_one_makes_a_destination,
            }
            retries {
                a_failed_run_goes_on_behind_its_files_and_its_export_ends_anew,
                it_has_as_many_attempts_as_a_new_one,
                it_waits_until_what_it_had_left_is_cleaned_up,
                a_run_that_waits_for_its_cleaning_keeps_no_other_waiting,
                cancelled_while_it_waits_it_is_cleaned_up_after_once,
                without_its_destination_a_run_is_not_retried,
                it_is_cleaned_up_after_again_when_it_fails_again,
                only_what_failed_or_timed_out_is_asked_for_anew,
                an_export_that_is_begun_anew_waits_its_turn,
            }
            claims {
                capacity_counts_what_is_held,
                no_run_is_claimed_twice_however_many_ask_at_once,
                exporters_that_ask_together_are_served_in_turns,
                a_run_is_not_claimed_before_its_time,
                a_claim_moves_the_fence_and_the_export_runs,
                a_run_goes_on_where_its_last_file_ended,
                a_run_past_its_commit_point_comes_with_its_files,
                the_finalising_run_waits_for_every_partition_and_is_never_listed,
                the_finalising_run_is_claimed_first,
                runs_that_end_at_once_begin_one_finalising_run,
            }
            reports {
                a_stale_report_changes_nothing,
                a_report_about_no_run_is_stale,
                a_repeated_report_is_heard_and_changes_nothing,
                a_file_out_of_order_is_illegal_and_not_stored,
                a_file_completed_in_the_moment_of_a_cancel_is_listed,
                wrong_totals_do_not_pass_the_commit_point,
                files_are_read_back_as_they_were_reported,
                progress_is_shown_while_its_exporter_works,
                rows_that_were_left_out_are_kept_with_their_run_and_added_up,
                words_that_a_database_cannot_hold_lose_no_report,
                an_export_fails_with_its_run_in_words_when_the_others_have_ended,
            }
            ageing {
                a_run_that_does_not_get_on_is_given_to_another_though_its_exporter_is_heard_of,
                whatever_gets_a_run_further_is_progress,
                a_run_that_takes_too_long_times_out_and_its_exporter_is_told,
                an_export_that_takes_too_long_stops_as_a_whole,
                what_a_stopped_run_left_is_cleaned_up_once,
                a_failed_run_is_cleaned_up_and_one_that_nobody_began_is_not,
                a_completed_export_is_counted_once_more,
                an_export_whose_window_is_open_says_so_and_is_counted_after_its_end_and_the_grace,
                a_search_for_experiments_in_an_open_window_is_told_though_it_found_none,
                an_export_whose_filter_reads_content_is_counted_too,
                records_of_old_exports_are_removed_and_young_or_busy_ones_stay,
            }
            leases {
                a_heartbeat_renews,
                a_heartbeat_tells_of_a_cancel,
                a_heartbeat_tells_of_a_lost_lease,
                a_new_process_of_an_exporter_loses_the_leases_of_the_old_one,
                a_run_that_never_reached_its_exporter_costs_no_attempt,
                a_lapsed_run_is_queued_again_and_says_who_was_lost,
                a_run_that_lapses_too_often_fails,
                only_the_holder_has_access,
                time_goes_on,
            }
            fairness {
                clean_ups_of_one_tenant_leave_slots_to_others,
                clean_ups_of_several_tenants_take_turns,
                a_clean_up_has_a_minute_and_few_attempts,
                who_waits_with_nothing_at_work_is_handed_a_slot_of_who_has_most,
                what_is_not_handed_back_in_time_is_taken,
                nothing_is_taken_from_who_has_an_even_share,
                a_report_is_heard_from_the_holder_only,
                control_planes_know_of_each_other_while_they_run,
            }
            audit {
                every_act_leaves_one_record_of_who_did_what,
                what_is_refused_is_recorded_with_the_reason,
                what_changes_nothing_leaves_no_record,
                an_act_that_fails_leaves_no_record,
                chains_of_tenants_are_apart_and_each_is_verified,
                of_acts_at_once_each_has_a_number_of_its_own,
                a_schedule_is_the_actor_of_what_it_spawns,
                records_are_listed_by_time_and_action_in_pages_newest_first,
                old_records_are_removed_and_the_rest_is_still_verified,
            }
            keys {
                a_key_is_read_back_with_when_it_expires_and_was_last_used,
                a_rotated_key_expires_after_the_overlap_and_the_new_one_may_do_the_same,
                a_key_is_revoked_and_rotated_by_its_own_tenant_or_the_operator_only,
                a_key_that_is_not_valid_is_not_rotated,
            }
            tenants {
                a_suspended_tenant_begins_nothing_until_it_is_resumed,
                of_a_deleted_tenant_everything_ends_and_its_id_is_not_used_again,
                what_is_made_in_the_moment_of_a_deletion_ends_too,
            }
            notifications {
                new_work_is_told,
                every_change_of_an_export_is_told,
                a_cancel_tells_the_holder_under_the_fence_it_knows,
                what_was_stopped_can_be_asked_for,
                what_is_told_can_be_read,
                an_exporter_that_connects_is_told,
            }
        }
        #[test]
        #[$needs]
        fn whatever_two_exporters_do() {
            $crate::store::conformance::any_sequence::of_two_exporters($sequences, &|| {
                Box::pin($fresh())
            });
        }
    };
}

macro_rules! cases {
    ($fresh:path; $needs:meta; $($module:ident { $($case:ident,)* })*) => {
        $(mod $module {
            $(
                #[tokio::test]
                #[$needs]
                async fn $case() {
                    let store = $fresh().await;
                    $crate::store::conformance::$module::$case(&store).await;
                }
            )*
        })*
    };
}

pub(crate) use {cases, suite};

/// Seconds after the beginning of the test's time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::parse("t", "2024-06-01T00:00:00Z").unwrap().plus_seconds(seconds)
}

/// Somebody's act; most cases are about something else.
pub(crate) fn act() -> Act {
    Act::by(Who::Anonymous)
}

/// How often a run is tried again.
pub(crate) const RETRIES: u32 = 2;

/// Seconds for rows that come late.
pub(crate) const GRACE: u32 = 600;

/// How long a lease lasts.
pub(crate) const LEASE: i64 = 30;

/// How many seconds a run may take to get on.
pub(crate) const PATIENCE: u32 = 600;

/// Most cases are about something else.
pub(crate) const UNLIMITED: AtOnce = AtOnce::UNLIMITED;

pub(crate) const ALL: Page = Page::ALL;

/// A tenant with a destination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) tenant: TenantId,
    pub(crate) destination: DestinationId,
}

pub(crate) fn sealed(n: u128) -> Sealed {
    Sealed(format!("k1.nonce.{n}"))
}

pub(crate) fn tenant(n: u128) -> Tenant {
    Tenant::new(TenantId(Uuid::from_u128(n)), format!("tenant {n}"), at(0))
}

pub(crate) async fn owner(store: &Store, n: u128) -> Owner {
    let owner = Owner {
        tenant: TenantId(Uuid::from_u128(n)),
        destination: DestinationId(Uuid::from_u128(0xd000 + n)),
    };
    store.create_tenant(act(), tenant(n)).await.unwrap();
    store
        .create_destination(act(), NewDestination::of(destination(owner, 0), Some(sealed(n))))
        .await
        .unwrap();
    owner
}

pub(crate) fn bucket() -> Bucket {
    let write_options = vec![("StorageClass".to_owned(), "GLACIER_IR".to_owned())];
    let (bucket_name, prefix, endpoint_url) =
        ("traces".into(), "root/a".into(), "https://s3.example.com".into());
    BucketInput { bucket_name, prefix, endpoint_url, write_options, ..BucketInput::default() }
        .check()
        .unwrap()
}

pub(crate) fn destination(owner: Owner, created: i64) -> Destination {
    Destination {
        id: owner.destination,
        tenant: owner.tenant,
        display_name: DisplayName::parse("display_name", "it's a bucket").unwrap(),
        bucket: bucket(),
        identity: Identity::Keys,
        credentials_keys: vec!["access_key_id".into(), "secret_access_key".into()],
        created_at: at(created),
        updated_at: at(created),
    }
}

/// Export `n` of `days` days, and its runs.
pub(crate) fn planned(owner: Owner, n: u128, days: i64, created: i64) -> (Export, Vec<Task>) {
    let start = Timestamp::parse("t", "2024-01-01T00:00:00Z").unwrap();
    let (id, session) = (ExportId(Uuid::from_u128(0xe0000 + n)), SessionId(Uuid::from_u128(0x5e)));
    let window = Window::new(start, start.plus_seconds(days * 86_400)).unwrap();
    let export = Export {
        id,
        tenant: owner.tenant,
        spec: ExportSpec {
            destination: owner.destination,
            projects: Projects::One(session),
            window,
            every: None,
            compression: Compression::Snappy,
            format: FileFormat::Parquet,
            format_version: FormatVersion::V2Beta,
            columns: Columns::parse("export_fields", &["id".to_owned(), "inputs".to_owned()])
                .unwrap(),
            filter: Some(Filter::read(r#"eq(name, "it's \"ä\"")"#).unwrap()),
        },
        status: ExportStatus::Created,
        source: None,
        error: None,
        created_at: at(created),
        updated_at: at(created),
        finished_at: None,
    };
    let tasks = first_runs(&export);
    (export, tasks)
}

/// The runs that an export begins with.
pub(crate) fn first_runs(export: &Export) -> Vec<Task> {
    let id = |number| {
        TaskId(Uuid::from_u128(0x4000_0000 + (export.id.0.as_u128() - 0xe0000) * 1000 + number))
    };
    let works = plan::first(&export.spec).into_iter().zip(0u128..);
    works
        .map(|(kind, number)| {
            Task::new(id(number), export.id, export.tenant, kind, export.created_at)
        })
        .collect()
}

/// Stores export `n` of `days` days, made at second 0.
pub(crate) async fn export(store: &Store, owner: Owner, n: u128, days: i64) -> ExportId {
    let (export, tasks) = planned(owner, n, days, 0);
    let id = export.id;
    make(store, export, tasks).await;
    id
}

/// Stores an export that must be taken.
pub(crate) async fn make(store: &Store, export: Export, tasks: Vec<Task>) {
    let expected = ExportView::planned(export.clone(), &tasks);
    assert_eq!(
        store.create_export(act(), NewExport::of(export, tasks)).await.unwrap(),
        CreateOutcome::Now(Box::new(expected))
    );
}

pub(crate) fn exporter(name: &str) -> ExporterId {
    ExporterId::parse("exporter", name).unwrap()
}

/// A lease for the first process of an exporter.
pub(crate) fn lease(name: &str, now: i64) -> Lease {
    lease_of(name, "first", now)
}

pub(crate) fn lease_of(name: &str, incarnation: &str, now: i64) -> Lease {
    Lease {
        exporter: exporter(name),
        incarnation: incarnation.to_owned(),
        until: at(now + LEASE),
        progressed_at: at(now),
        patience: PATIENCE,
        asked_back: None,
    }
}

pub(crate) async fn claim(store: &Store, name: &str, capacity: u32, now: i64) -> Vec<Claimed> {
    claim_under(store, lease(name, now), capacity, UNLIMITED, now).await
}

pub(crate) async fn claim_under(
    store: &Store,
    lease: Lease,
    capacity: u32,
    limits: AtOnce,
    now: i64,
) -> Vec<Claimed> {
    store
        .claim(vec![ClaimRequest { lease, capacity }], limits, at(now))
        .await
        .unwrap()
        .remove(0)
        .tasks
}

/// The one run that there is to claim.
pub(crate) async fn claim_one(store: &Store, name: &str, now: i64) -> Task {
    let mut claimed = claim(store, name, 1, now).await;
    assert_eq!(claimed.len(), 1);
    claimed.remove(0).task
}

/// A report that must be heard.
pub(crate) async fn report(store: &Store, task: &Task, event: Event, now: i64) -> Task {
    match store.report(None, task.id, task.fence, event.clone(), GRACE, at(now)).await {
        Ok(ReportOutcome::Applied(task)) => *task,
        other => panic!("{event:?} was answered {other:?}"),
    }
}

/// A report that must be illegal.
pub(crate) async fn illegal(store: &Store, task: &Task, event: Event) -> String {
    match store.report(None, task.id, task.fence, event, GRACE, at(1)).await {
        Err(ReportError::Illegal(error)) => error.to_string(),
        other => panic!("it was answered {other:?}"),
    }
}

/// Files, commit point and manifest of a run.
pub(crate) async fn complete(store: &Store, task: &Task, files: u32, now: i64) -> Task {
    for number in 0..files {
        report(store, task, Event::FileDone(file(number)), now).await;
    }
    report(store, task, finished(files, u64::from(files) * 10), now).await;
    report(store, task, Event::Published, now).await
}

/// 10 rows in 100 bytes.
pub(crate) fn file(number: u32) -> File {
    File {
        number,
        key: format!("root/a/file-{number:05}.parquet"),
        rows: 10,
        bytes: 100,
        etag: "\"e\"".into(),
        sha256: "0a".repeat(32),
        min_start_time: at(-10),
        max_start_time: at(-1),
        cursor: Cursor { start_time: at(i64::from(number)), id: Uuid::from_u128(7) },
        hydrated_objects: 3,
        hydration_misses: 1,
        misses: vec![HydrationMiss {
            row_id: Uuid::from_u128(8),
            column: "inputs".into(),
            reason: "404 \"gone\"".into(),
        }],
        oversized: Oversized::from_named([("redshift_varchar", 2), ("athena_row", 1)]),
        left_out: LeftOut::default(),
    }
}

/// The commit point of a run of which nothing was left out.
pub(crate) fn finished(files: u32, rows: u64) -> Event {
    Event::Finished(Finished {
        files,
        rows,
        rest: LeftOut::default(),
        identity: RowIdentity::IdAndStartTime,
    })
}

pub(crate) fn intent(number: u32) -> FileIntent {
    FileIntent {
        number,
        key: format!("root/a/file-{number:05}.parquet"),
        upload_id: "u".into(),
        token: "t".into(),
        whole: None,
    }
}

pub(crate) fn failed(class: FailureClass) -> Event {
    Event::Failed {
        failure: Failure { step: Step::Upload, class, detail: "the bucket said no".into() },
        max_retries: RETRIES,
    }
}

pub(crate) fn held(tasks: &[&Task]) -> Vec<(TaskId, Fence)> {
    tasks.iter().map(|task| (task.id, task.fence)).collect()
}

pub(crate) async fn view(store: &Store, owner: Owner, id: ExportId) -> ExportView {
    store.export(owner.tenant, id).await.unwrap().unwrap()
}

pub(crate) async fn run_view(store: &Store, task: &Task) -> RunView {
    store.run(task.tenant, task.export, task.id).await.unwrap().unwrap()
}

/// Everything that can be read of an export.
pub(crate) async fn everything(store: &Store, owner: Owner, id: ExportId) -> String {
    let tasks = store.tasks(owner.tenant, id, ALL).await.unwrap().unwrap();
    let mut files = Vec::new();
    for task in &tasks {
        files.push(store.files(task.task.id).await.unwrap());
    }
    format!("{:#?}\n{tasks:#?}\n{files:#?}", view(store, owner, id).await)
}
