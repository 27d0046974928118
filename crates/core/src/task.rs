//! A task, and the only place where it changes state.
//!
//! ```text
//!              Claimed (fence+1)                Finished            Published
//!   Queued ───────────────────────► Leased ───────────────► Leased ───────────► Completed
//!     ▲                               │     (commit point:  frozen
//!     │  Failed·retry, Lapsed,        │      file list       │
//!     │  HandedBack, Declined         │      is frozen)      │
//!     └───────────────────────────────┴──────────────────────┘
//!                                     │ Failed·give up ─────► Failed
//!   any of these ── Cancelled, TimedOut (fence+1) ──────────► Cancelled, TimedOut
//!   Failed, TimedOut ── Retried ────────────────────────────► Queued, progress kept
//! ```
//!
//! Every claim and every cancel increments the fence, so a report from an earlier holder is
//! recognised by its number alone. A lease has two deadlines: the exporter must send heartbeats
//! (liveness), and the task must make progress.

mod event;
mod kind;
mod report;
mod state;

pub use event::{Event, Finished, IllegalEvent};
pub use kind::TaskKind;
pub use report::{Progress, Report, TaskReport, Verdict};
pub use state::{Lease, RunStatus, State};

use crate::{
    failure::{Failure, FailureClass, Remedy, Step},
    file::{Cursor, File, FileIntent, HydrationMiss, LeftOut, MAX_NAMED_MISSES, Totals},
    id::{ExportId, TaskId, TenantId},
    plan,
    time::Timestamp,
};

/// Counts the claims and cancels of one task. Reports under an older fence are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Fence(pub u64);

impl Fence {
    fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A task, with everything that decides its next transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Task id; the run id of the public API if the task is a partition.
    pub id: TaskId,
    /// The export it belongs to.
    pub export: ExportId,
    /// The tenant that owns the export.
    pub tenant: TenantId,
    /// What the task does.
    pub kind: TaskKind,
    /// Current state.
    pub state: State,
    /// The current fence.
    pub fence: Fence,
    /// Number of the current attempt, from 0.
    pub attempt: u32,
    /// Attempts that no longer count against the retry limit: those made before the last file was
    /// completed, or before a caller requested a retry.
    pub spent: u32,
    /// Why each earlier attempt failed, by attempt number. Only the last [`MAX_ERRORS`] are kept;
    /// older entries are empty.
    pub errors: Vec<String>,
    /// How often the trace store recently aborted a response, at most [`MAX_BATCH_SHRINK`]. The
    /// higher, the fewer rows are read at once.
    pub batch_shrink: u32,
    /// First claim since the task was created or a caller last requested a retry.
    pub started_at: Option<Timestamp>,
    /// When reading of the rows began. Rows that reach the trace store later may be missing.
    pub read_at: Option<Timestamp>,
    /// Totals of the complete files, plus rows that were left out.
    pub totals: Totals,
    /// Content that could not be fetched for undecided rows; at most [`MAX_NAMED_MISSES`].
    pub undecided: Vec<HydrationMiss>,
    /// What identified a row; reported at the commit point.
    pub identity: Option<Identity>,
    /// Last row of the last complete file.
    pub cursor: Option<Cursor>,
    /// Intent of the next file, whose upload may still be open.
    pub intent: Option<FileIntent>,
    /// Whether the commit point has passed: no more files can be added.
    pub frozen: bool,
    /// When the task was planned.
    pub created_at: Timestamp,
    /// When the task last changed.
    pub updated_at: Timestamp,
}

/// What identifies a row: rows with equal identities are versions of one row, and only one is
/// exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The id alone; the newest version counts, whatever its start time.
    Id,
    /// The id and the start time, because the operator has opted out of [`Identity::Id`].
    IdAndStartTime,
}

impl Identity {
    /// Names of the identifying columns.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Id => &["id"],
            Self::IdAndStartTime => &["id", "start_time"],
        }
    }
}

/// Errors kept per task; the oldest are dropped first.
pub const MAX_ERRORS: usize = 20;
/// Retries of a clean-up. A bucket that refuses its own clean-up takes slots from others; its lifecycle
/// rule removes what is left.
const MAX_CLEAN_UP_RETRIES: u32 = 3;
/// Attempts of a task after which a caller cannot retry it any more: each leaves a record.
pub const MAX_ATTEMPTS: u32 = 1000;
/// Wait after an exporter declined the task, in seconds.
const DECLINED_WAIT: i64 = 2;
/// Limit of [`Task::batch_shrink`]. At the limit rows are read one at a time, so that the failure
/// names the row that cannot be read.
pub const MAX_BATCH_SHRINK: u32 = 5;

impl Task {
    /// A new task, queued from `now`.
    pub fn new(
        id: TaskId,
        export: ExportId,
        tenant: TenantId,
        kind: TaskKind,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            export,
            tenant,
            kind,
            state: State::Queued { not_before: now },
            fence: Fence::default(),
            attempt: 0,
            spent: 0,
            errors: Vec::new(),
            batch_shrink: 0,
            started_at: None,
            read_at: None,
            totals: Totals::default(),
            undecided: Vec::new(),
            identity: None,
            cursor: None,
            intent: None,
            frozen: false,
            created_at: now,
            updated_at: now,
        }
    }

    /// The status that the API shows.
    pub fn status(&self) -> RunStatus {
        match self.state {
            State::Queued { .. } if self.fence == Fence::default() => RunStatus::Created,
            State::Queued { .. } | State::Leased(_) => RunStatus::Running,
            State::Completed(_) => RunStatus::Completed,
            State::Failed(_) => RunStatus::Failed,
            State::Cancelled(_) => RunStatus::Cancelled,
            State::TimedOut(_) => RunStatus::TimedOut,
        }
    }

    /// When the task reached a final state.
    pub fn finished_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Queued { .. } | State::Leased(_) => None,
            State::Completed(at)
            | State::Failed(at)
            | State::Cancelled(at)
            | State::TimedOut(at) => Some(at),
        }
    }

    /// The lease, while an exporter holds one.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Leased(lease) => Some(lease),
            _ => None,
        }
    }

    /// Whether the task may have left an upload open that no exporter will resume: a partition that
    /// was claimed and then stopped or failed before its commit point.
    pub fn leaves_something(&self) -> bool {
        let stopped =
            matches!(self.state, State::Failed(_) | State::Cancelled(_) | State::TimedOut(_));
        let touched = self.started_at.is_some() || self.intent.is_some();
        stopped && touched && !self.frozen && matches!(self.kind, TaskKind::Partition(_))
    }

    /// Whether to accept a report under `fence`.
    ///
    /// A file that was completed while the export was being cancelled is accepted too: it exists in
    /// the bucket, so it must be listed.
    pub fn hears(&self, fence: Fence, event: &Event) -> bool {
        let stopped = matches!(self.state, State::Cancelled(_) | State::TimedOut(_));
        match event {
            Event::FileDone(_) if stopped => fence.next() == self.fence,
            _ => fence == self.fence && self.lease().is_some(),
        }
    }

    /// The task after `event`. Applying a report twice changes nothing the second time. Fails if
    /// the event is not allowed in the current state, or contradicts the recorded files.
    pub fn apply(mut self, event: Event, now: Timestamp) -> Result<Self, IllegalEvent> {
        let illegal = Err(IllegalEvent::State { event: event.name(), state: self.state_name() });
        let (partition, frozen) = (matches!(self.kind, TaskKind::Partition(_)), self.frozen);
        let may_grow = partition && !frozen;
        match (&mut self.state, event) {
            (State::Queued { not_before }, Event::Claimed(lease)) if *not_before <= now => {
                self.fence = self.fence.next();
                self.started_at = self.started_at.or(Some(now));
                self.read_from(now);
                self.state = State::Leased(lease);
            }
            (State::Leased(lease), Event::Renewed { until }) => {
                lease.until = until.max(lease.until)
            }
            (State::Leased(_), Event::Progressed) => self.got_on(now),
            (State::Leased(_), Event::FileIntent(intent)) if may_grow => {
                self.expect_file(intent.number)?;
                self.intent = Some(intent);
                self.got_on(now);
            }
            (State::Leased(_), Event::FileDone(file)) if file.number < self.totals.files => {}
            (State::Leased(_), Event::FileDone(file)) if may_grow => {
                self.add(&file)?;
                self.got_on(now);
                self.batch_shrink = self.batch_shrink.saturating_sub(1);
                self.spent = self.attempt; // attempts that make progress are not limited
            }
            (State::Cancelled(_) | State::TimedOut(_), Event::FileDone(file))
                if file.number < self.totals.files => {}
            (State::Cancelled(_) | State::TimedOut(_), Event::FileDone(file)) if may_grow => {
                self.add(&file)?
            }
            (
                State::Queued { .. } | State::Failed(_) | State::Cancelled(_) | State::TimedOut(_),
                Event::CleanedUp { adopted },
            ) if partition => {
                // The partition's own exporter may have reported the file meanwhile. A retried
                // partition waits for this event.
                if let Some(file) =
                    adopted.filter(|file| file.number == self.totals.files && may_grow)
                {
                    self.add(&file)?;
                }
                self.intent = None;
            }
            (State::Leased(_), Event::Finished(finished)) if partition => {
                let Finished { files, rows, rest, identity } = finished;
                if (files, rows) != (self.totals.files, self.totals.rows) {
                    return Err(IllegalEvent::Totals { files, rows, recorded: self.totals });
                }
                if !frozen {
                    self.leave_out(rest);
                    self.identity = Some(identity);
                }
                self.frozen = true;
                self.got_on(now);
            }
            (State::Leased(_), Event::Published) if frozen || self.kind == TaskKind::Finalize => {
                self.state = State::Completed(now)
            }
            (State::Leased(_), Event::CleanedUp { .. })
                if matches!(self.kind, TaskKind::CleanUp(_)) =>
            {
                self.state = State::Completed(now)
            }
            (State::Leased(_), Event::ExperimentsFound(found))
                if let TaskKind::FindExperiments(window) = self.kind =>
            {
                match plan::of_experiments(window, &found) {
                    Ok(_) => self.state = State::Completed(now),
                    Err(too_many) => self.fail(&too_many.into(), 0, now),
                }
            }
            (State::Leased(_), Event::Counted { .. }) if self.kind == TaskKind::Reconcile => {
                self.state = State::Completed(now)
            }
            (State::Leased(_), Event::Failed { failure, max_retries }) => {
                self.fail(&failure, max_retries, now)
            }
            (State::Leased(lease), Event::Lapsed { max_retries }) => {
                let detail =
                    format!("exporter {} was not heard of before its lease lapsed", lease.exporter);
                self.fail(
                    &Failure { step: Step::Lease, class: FailureClass::Lost, detail },
                    max_retries,
                    now,
                );
            }
            (State::Leased(lease), Event::Stalled { max_retries }) => {
                let detail = format!(
                    "exporter {} did not get on for {} seconds",
                    lease.exporter, lease.patience
                );
                self.fail(
                    &Failure { step: Step::Lease, class: FailureClass::Lost, detail },
                    max_retries,
                    now,
                );
            }
            (State::Leased(lease), Event::AskedBack) => {
                lease.asked_back = lease.asked_back.or(Some(now));
            }
            // Its holder may write until it hears of it, or until its lease lapses: nobody else may
            // before that.
            (State::Leased(lease), Event::TakenBack) => {
                self.state = State::Queued { not_before: now.max(lease.until) };
            }
            (State::Leased(_), Event::HandedBack) => self.state = State::Queued { not_before: now },
            (State::Leased(_), Event::Declined) => {
                self.state = State::Queued { not_before: now.plus_seconds(DECLINED_WAIT) }
            }
            (State::Queued { .. } | State::Leased(_), Event::Cancelled) => {
                self.fence = self.fence.next();
                self.state = State::Cancelled(now);
            }
            (State::Queued { .. } | State::Leased(_), Event::TimedOut) => {
                self.fence = self.fence.next();
                self.state = State::TimedOut(now);
            }
            (State::Failed(_) | State::TimedOut(_), Event::Retried)
                if partition && self.attempt < MAX_ATTEMPTS =>
            {
                self.retry(now)
            }
            _ => return illegal,
        }
        self.updated_at = now;
        Ok(self)
    }

    /// Whether rows were read before their window ended: rows of the window may have arrived since.
    pub fn window_open(&self) -> bool {
        self.kind.window().zip(self.read_at).is_some_and(|(window, read_at)| read_at < window.end())
    }

    /// An attempt that resumes after complete files or takes over an upload keeps the earlier time.
    fn read_from(&mut self, now: Timestamp) {
        let anew = self.totals.files == 0 && self.intent.is_none() && !self.frozen;
        if self.kind.window().is_some() && (anew || self.read_at.is_none()) {
            self.read_at = Some(now);
        }
    }

    fn got_on(&mut self, now: Timestamp) {
        if let State::Leased(lease) = &mut self.state {
            lease.progressed_at = now.max(lease.progressed_at);
        }
    }

    fn expect_file(&self, number: u32) -> Result<(), IllegalEvent> {
        let expected = self.totals.files;
        if number == expected {
            Ok(())
        } else {
            Err(IllegalEvent::FileOrder { expected, found: number })
        }
    }

    fn add(&mut self, file: &File) -> Result<(), IllegalEvent> {
        self.expect_file(file.number)?;
        self.totals =
            self.totals.plus(Totals { undecided: 0, decided_against: 0, ..Totals::of([file]) });
        self.leave_out(file.left_out.clone());
        self.cursor = Some(file.cursor);
        self.intent = None;
        Ok(())
    }

    fn leave_out(&mut self, left_out: LeftOut) {
        self.totals = self.totals.plus(Totals::of_left_out(&left_out));
        let room = MAX_NAMED_MISSES.saturating_sub(self.undecided.len());
        self.undecided.extend(left_out.named.into_iter().take(room));
    }

    fn fail(&mut self, failure: &Failure, max_retries: u32, now: Timestamp) {
        if matches!(failure.class, FailureClass::SourceMemory | FailureClass::SourceBroke) {
            self.batch_shrink = (self.batch_shrink + 1).min(MAX_BATCH_SHRINK);
        }
        let queued =
            |seconds: u32| State::Queued { not_before: now.plus_seconds(i64::from(seconds)) };
        let is_clean_up = matches!(self.kind, TaskKind::CleanUp(_));
        let max_retries =
            if is_clean_up { max_retries.min(MAX_CLEAN_UP_RETRIES) } else { max_retries };
        let tried = self.attempt - self.spent;
        let after = match failure.class.remedy(tried, max_retries) {
            Remedy::WaitFor { .. } if is_clean_up && tried >= max_retries => State::Failed(now),
            Remedy::WaitFor { seconds } if is_clean_up => {
                self.attempt += 1;
                queued(seconds)
            }
            Remedy::WaitFor { seconds } => {
                self.state = queued(seconds);
                return;
            }
            Remedy::RetryAfter { seconds } => {
                self.attempt += 1;
                queued(seconds)
            }
            Remedy::GiveUp => State::Failed(now),
        };
        self.remember(failure.to_string());
        self.state = after;
    }

    /// Entry n belongs to attempt n, so dropped entries are emptied, not removed.
    fn remember(&mut self, error: String) {
        self.errors.push(error);
        if let Some(forgotten) = self.errors.len().checked_sub(MAX_ERRORS + 1) {
            self.errors[forgotten].clear();
        }
    }

    /// Keeps the files and resets the retry count and the time limit.
    fn retry(&mut self, now: Timestamp) {
        if matches!(self.state, State::TimedOut(_)) {
            self.remember("it took longer than the operator allows".to_owned());
        }
        self.attempt += 1;
        self.spent = self.attempt;
        self.started_at = None;
        self.state = State::Queued { not_before: now };
    }

    fn state_name(&self) -> &'static str {
        match self.state {
            State::Queued { .. } => "queued",
            State::Leased(_) if self.frozen => "leased and frozen",
            State::Leased(_) => "leased",
            State::Completed(_) => "completed",
            State::Failed(_) => "failed",
            State::Cancelled(_) => "cancelled",
            State::TimedOut(_) => "timed out",
        }
    }
}

#[cfg(test)]
mod tests;
