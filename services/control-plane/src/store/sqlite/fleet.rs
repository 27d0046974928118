//! Leases: giving runs to exporters, hearing them, taking runs back. Every write is conditional on the fence.

use rusqlite::{OptionalExtension as _, Transaction};
use tracelift_core::{
    id::{ExporterId, RunId},
    run::{Event, Fence, IllegalEvent, Lease, Run, State, Work},
    time::Timestamp,
};

use super::{News, destinations, exports, record, runs};
use crate::store::{Access, Change, Claimed, Heard, PublishedRun, ReportError, Reported, StoreError, Verdict};

type Held = [(RunId, Fence)];

pub(super) fn hello(
    tx: &Transaction<'_>,
    news: &mut News,
    lease: &Lease,
    held: &Held,
    max_retries: u32,
    now: Timestamp,
) -> Result<Vec<Verdict>, StoreError> {
    for run in leased_to(tx, &lease.exporter)? {
        if held.contains(&(run.id, run.fence)) {
            continue;
        }
        let same_process = run.lease().is_some_and(|held| held.incarnation == lease.incarnation);
        let event = if same_process { Event::HandedBack } else { Event::Lapsed { max_retries } };
        take_back(tx, news, run, event, now)?;
    }
    heartbeat(tx, lease, held, now)
}

pub(super) fn heartbeat(tx: &Transaction<'_>, lease: &Lease, held: &Held, now: Timestamp) -> Result<Vec<Verdict>, StoreError> {
    held.iter().map(|(id, fence)| verdict(tx, lease, *id, *fence, now)).collect()
}

fn verdict(tx: &Transaction<'_>, lease: &Lease, id: RunId, fence: Fence, now: Timestamp) -> Result<Verdict, StoreError> {
    let Some(run) = runs::one(tx, id)? else { return Ok(Verdict::Revoked) };
    let event = Event::Renewed { until: lease.until };
    let same_process = run.lease().is_some_and(|held| held.exporter == lease.exporter && held.incarnation == lease.incarnation);
    if same_process && run.hears(fence, &event) {
        if let Ok(run) = run.apply(event, now) {
            runs::save(tx, &run)?;
            return Ok(Verdict::Keep);
        }
        return Ok(Verdict::Revoked);
    }
    let stopped = matches!(run.state, State::Cancelled(_) | State::TimedOut(_));
    Ok(if stopped && run.fence.0 == fence.0 + 1 { Verdict::Cancel } else { Verdict::Revoked })
}

pub(super) fn claim(
    tx: &Transaction<'_>,
    news: &mut News,
    lease: &Lease,
    capacity: u32,
    now: Timestamp,
) -> Result<Vec<Claimed>, StoreError> {
    let held = leased_to(tx, &lease.exporter)?.len();
    let free = usize::try_from(capacity).unwrap_or(usize::MAX).saturating_sub(held);
    if free == 0 {
        return Ok(Vec::new());
    }
    // Finalising runs first: a whole export waits for them.
    let mut query = tx.prepare_cached(
        "SELECT * FROM runs WHERE state = 'queued' AND state_at <= ?1
         ORDER BY window_start IS NOT NULL, state_at, created_at, window_start, id LIMIT ?2",
    )?;
    let queued = query.query_map((now.micros(), i64::try_from(free).unwrap_or(i64::MAX)), runs::run)?;
    let queued: Vec<Run> = queued.collect::<Result<_, _>>()?;
    let mut claimed = Vec::with_capacity(queued.len());
    for run in queued {
        let Ok(run) = run.apply(Event::Claimed(lease.clone()), now) else { continue };
        runs::save(tx, &run)?;
        let reported = Reported { stage: "assigned".to_owned(), ..Reported::default() };
        runs::save_reported(tx, run.id, &reported)?;
        exports::settle(tx, news, run.export, now)?;
        claimed.push(with_details(tx, run)?);
    }
    Ok(claimed)
}

fn with_details(tx: &Transaction<'_>, run: Run) -> Result<Claimed, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM exports WHERE id = ?1")?;
    let export = query.query_row([run.export.to_string()], exports::export)?;
    let files = if run.frozen { runs::files(tx, run.id)? } else { Vec::new() };
    let published = match run.work {
        Work::Partition(_) => Vec::new(),
        Work::Finalise => runs::of_export(tx, run.export)?
            .into_iter()
            .filter_map(|run| match run.work {
                Work::Partition(window) => Some(PublishedRun { run, window }),
                Work::Finalise => None,
            })
            .collect(),
    };
    Ok(Claimed { run, export, files, published })
}

pub(super) fn report(
    tx: &Transaction<'_>,
    news: &mut News,
    id: RunId,
    fence: Fence,
    event: Event,
    now: Timestamp,
) -> Result<Heard, ReportError> {
    let Some(run) = runs::one(tx, id)? else { return Ok(Heard::Stale) };
    if !run.hears(fence, &event) {
        return Ok(if already_published(&run, fence, &event) { Heard::Yes(Box::new(run)) } else { Heard::Stale });
    }
    let file = match &event {
        Event::FileDone(file) if file.number >= run.totals.files => Some(file.clone()),
        _ => None,
    };
    let requeues = matches!(event, Event::HandedBack | Event::Declined | Event::Failed { .. });
    let run = run.apply(event, now).map_err(ReportError::Illegal)?;
    runs::save(tx, &run)?;
    if let Some(file) = file {
        runs::insert_file(tx, id, &file)?;
    }
    if requeues {
        forget_reported(tx, &run)?;
        news.push(Change::Work);
    }
    exports::settle(tx, news, run.export, now)?;
    Ok(Heard::Yes(Box::new(run)))
}

/// The last report of a run, sent again because its answer was lost.
fn already_published(run: &Run, fence: Fence, event: &Event) -> bool {
    matches!((&run.state, event), (State::Completed(_), Event::Published)) && run.fence == fence
}

pub(super) fn progress(
    tx: &Transaction<'_>,
    news: &mut News,
    id: RunId,
    fence: Fence,
    reported: &Reported,
    now: Timestamp,
) -> Result<Heard, StoreError> {
    let Some(run) = runs::one(tx, id)? else { return Ok(Heard::Stale) };
    if run.lease().is_none() || run.fence != fence {
        return Ok(Heard::Stale);
    }
    runs::save_reported(tx, id, reported)?;
    tx.prepare_cached("UPDATE runs SET updated_at = ?2 WHERE id = ?1")?.execute((id.to_string(), now.micros()))?;
    news.push(Change::Export(run.export));
    Ok(Heard::Yes(Box::new(run)))
}

pub(super) fn lapse(tx: &Transaction<'_>, news: &mut News, max_retries: u32, now: Timestamp) -> Result<usize, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM runs WHERE state = 'leased' AND state_at <= ?1")?;
    let lapsed: Vec<Run> = query.query_map([now.micros()], runs::run)?.collect::<Result<_, _>>()?;
    let count = lapsed.len();
    for run in lapsed {
        take_back(tx, news, run, Event::Lapsed { max_retries }, now)?;
    }
    Ok(count)
}

fn take_back(tx: &Transaction<'_>, news: &mut News, run: Run, event: Event, now: Timestamp) -> Result<(), StoreError> {
    let unheard = |error: IllegalEvent| StoreError::Corrupt(error.to_string());
    let run = run.apply(event, now).map_err(unheard)?;
    runs::save(tx, &run)?;
    forget_reported(tx, &run)?;
    exports::settle(tx, news, run.export, now)?;
    news.push(Change::Work);
    Ok(())
}

/// What an exporter said of files that it did not finish is not true any more.
pub(super) fn forget_reported(tx: &Transaction<'_>, run: &Run) -> Result<(), StoreError> {
    let stage = match run.state {
        State::Queued { .. } => "queued",
        _ => "ended",
    };
    runs::save_reported(tx, run.id, &Reported { stage: stage.to_owned(), ..Reported::default() })
}

pub(super) fn access(
    tx: &Transaction<'_>,
    id: RunId,
    fence: Fence,
    exporter: &ExporterId,
    incarnation: &str,
) -> Result<Option<Access>, StoreError> {
    let Some(run) = runs::one(tx, id)? else { return Ok(None) };
    let holder = run.lease().is_some_and(|lease| lease.exporter == *exporter && lease.incarnation == incarnation);
    if !holder || run.fence != fence {
        return Ok(None);
    }
    let mut query =
        tx.prepare_cached("SELECT d.* FROM destinations d JOIN exports e ON e.destination_id = d.id WHERE e.id = ?1 AND d.tenant_id = ?2")?;
    let found = query.query_row((run.export.to_string(), run.tenant.to_string()), |row| {
        Ok(Access {
            tenant: run.tenant,
            destination: record::id(row, "id")?,
            bucket: destinations::bucket(row)?,
            sealed: destinations::sealed(row)?,
        })
    });
    Ok(found.optional()?)
}

fn leased_to(tx: &Transaction<'_>, exporter: &ExporterId) -> Result<Vec<Run>, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM runs WHERE exporter_id = ?1 AND state = 'leased'")?;
    let found = query.query_map([exporter.as_str()], runs::run)?;
    Ok(found.collect::<Result<_, _>>()?)
}
