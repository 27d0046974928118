//! A run: one time partition of one export, and the only place where it changes state.
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
//!   Failed, TimedOut ── Retried ────────────────────────────► Queued, as far as it had come
//! ```
//!
//! Every claim and every cancel moves the fence, so a report of an earlier holder is recognised by
//! its number alone. A lease has two deadlines: its exporter must be heard of (liveness), and its
//! run must get on (progress).

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

/// Counts claims and cancels of one run; only reports under the newest one are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Fence(pub u64);

impl Fence {
    fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A run, with everything that decides what may happen to it next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its export.
    pub export: ExportId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What there is to do.
    pub kind: TaskKind,
    /// Where it stands.
    pub state: State,
    /// The newest one given out.
    pub fence: Fence,
    /// Which attempt this is, from 0.
    pub attempt: u32,
    /// How many attempts count no more: those that were made before its last file was complete, or
    /// before a caller asked for it anew.
    pub spent: u32,
    /// Why each earlier attempt failed; empty where nobody remembers ([`MAX_ERRORS`]).
    pub errors: Vec<String>,
    /// How often the trace store broke off lately, at most [`MAX_BATCH_SHRINK`]: the higher, the fewer
    /// rows are read at once.
    pub batch_shrink: u32,
    /// When it was first claimed, since a caller last asked for it.
    pub started_at: Option<Timestamp>,
    /// When somebody began to read what it holds. Rows that come to the trace store later may be
    /// missing from it.
    pub read_at: Option<Timestamp>,
    /// Its complete files, added up, and the rows that were left out.
    pub totals: Totals,
    /// The content of its undecided rows that could not be had; at most [`MAX_NAMED_MISSES`].
    pub undecided: Vec<HydrationMiss>,
    /// What was read as one row, once its exporter has said so at the commit point.
    pub identity: Option<Identity>,
    /// The last row of its last complete file.
    pub cursor: Option<Cursor>,
    /// The upload that may be open.
    pub intent: Option<FileIntent>,
    /// Whether the commit point has passed: no file will be added any more.
    pub frozen: bool,
    /// When it was planned.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What an export has once: rows that differ in it are different rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// An id, in its newest version, whatever its start time.
    Id,
    /// An id at a start time, because the operator has ruled the other one out.
    IdAndStartTime,
}

impl Identity {
    /// The columns that tell rows apart.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Id => &["id"],
            Self::IdAndStartTime => &["id", "start_time"],
        }
    }
}

/// So many of a run's errors are remembered, the newest ones.
pub const MAX_ERRORS: usize = 20;
/// How long a run that an exporter had no room for waits, in seconds.
const DECLINED_WAIT: i64 = 2;
/// After that many broken answers in a row a run is read row by row, and the row that cannot be
/// read is named.
pub const MAX_BATCH_SHRINK: u32 = 5;

impl Task {
    /// A run that nobody has worked on.
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

    /// Its status in the API's words.
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

    /// When it ended.
    pub fn finished_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Queued { .. } | State::Leased(_) => None,
            State::Completed(at)
            | State::Failed(at)
            | State::Cancelled(at)
            | State::TimedOut(at) => Some(at),
        }
    }

    /// The lease, while somebody works on it.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Leased(lease) => Some(lease),
            _ => None,
        }
    }

    /// Whether something of it may be left open in the bucket that no exporter will end: it has
    /// ended without completing after somebody had worked on it.
    pub fn leaves_something(&self) -> bool {
        let stopped =
            matches!(self.state, State::Failed(_) | State::Cancelled(_) | State::TimedOut(_));
        let touched = self.started_at.is_some() || self.intent.is_some();
        stopped && touched && !self.frozen && matches!(self.kind, TaskKind::Partition(_))
    }

    /// Whether a report under `fence` is of the holder that counts.
    ///
    /// A file that was completed in the moment of a cancel is heard too: it stands in the bucket,
    /// so it is listed.
    pub fn hears(&self, fence: Fence, event: &Event) -> bool {
        let stopped = matches!(self.state, State::Cancelled(_) | State::TimedOut(_));
        match event {
            Event::FileDone(_) if stopped => fence.next() == self.fence,
            _ => fence == self.fence && self.lease().is_some(),
        }
    }

    /// The run after `event`. Repeating a report that was already heard changes nothing.
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
                self.spent = self.attempt; // attempts that get on may be as many as it takes
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
                // Its own exporter may have reported the file meanwhile. A run that was asked for
                // anew waits for this.
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
            (State::Failed(_) | State::TimedOut(_), Event::Retried) if partition => self.retry(now),
            _ => return illegal,
        }
        self.updated_at = now;
        Ok(self)
    }

    /// Whether it was read before the end of its window: rows that belong to it may have come
    /// since.
    pub fn window_open(&self) -> bool {
        self.kind.window().zip(self.read_at).is_some_and(|(window, read_at)| read_at < window.end())
    }

    /// An attempt that goes on behind files, or takes an upload over, keeps what was read before
    /// it.
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
        let after = match failure.class.remedy(self.attempt - self.spent, max_retries) {
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

    /// Entry n is of attempt n: of those that are forgotten an empty one stays.
    fn remember(&mut self, error: String) {
        self.errors.push(error);
        if let Some(forgotten) = self.errors.len().checked_sub(MAX_ERRORS + 1) {
            self.errors[forgotten].clear();
        }
    }

    /// As far as it had come, with as many attempts as a new one and all the time.
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
