//! One simulated exporter: speaks the stream as a real one does, heartbeats and progress included,
//! and does no work. An empty run is complete with no rows and no files.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, watch},
    time::{Interval, MissedTickBehavior, interval_at, sleep_until},
};
use tonic::transport::Endpoint;
use tracelift_proto::{
    fleet::v1::{
        self, assignment::Kind, connect_request::Message as ExporterMessage,
        connect_response::Message as ControlMessage, fleet_service_client::FleetServiceClient,
        report::Event,
    },
    v1::RunProgress,
};
use tracelift_test_grpc::{
    Bearer,
    fleet::{self, FleetSession},
};
use uuid::Uuid;

use crate::{
    Outcome,
    ledger::{Arrival, Ledger},
};

/// What exporters do with partitions. Everything else they end at once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Play {
    /// End them at once.
    AtOnce,
    /// Hold each anywhere between half and one and a half times as long.
    Hold(Duration),
    /// Hold them until told otherwise.
    Keep,
}

/// What it is told at its start.
pub(crate) struct Exporter {
    pub(crate) name: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) token: Bearer,
    pub(crate) capacity: u32,
    /// Room among those that are just connecting.
    pub(crate) connecting: Arc<Semaphore>,
    pub(crate) play: watch::Receiver<Play>,
    pub(crate) ledger: Arc<Ledger>,
}

/// A run that it holds.
struct Job {
    export: String,
    fence: u64,
    /// When it is to be finished; `None` when it is kept, or finished already.
    due: Option<tokio::time::Instant>,
    kept: bool,
    rows: u64,
}

/// As the real one: how often progress is said.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

impl Exporter {
    /// Connects and works until it is dropped.
    pub(crate) async fn run(self) {
        let (name, ledger) = (self.name.clone(), self.ledger.clone());
        if let Err(error) = self.work().await {
            ledger.fail(format!("{name}: {error}"));
        }
    }

    async fn work(self) -> Outcome<()> {
        let (session, beat) = self.connect().await?;
        let Self { mut play, ledger, capacity, .. } = self;
        let mut work = Holding {
            session,
            ledger,
            play: *play.borrow_and_update(),
            capacity,
            seq: 0,
            last: HashSet::new(),
            jobs: HashMap::new(),
            free: VecDeque::new(),
        };
        let (mut beats, mut ticks) = (spread(beat), spread(PROGRESS_INTERVAL));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = work.next_due();
            tokio::select! {
                message = work.session.hear() => match message? {
                    Some(message) => work.hear(message).await?,
                    None => return Err("the control plane closed the stream".into()),
                },
                _ = beats.tick() => work.heartbeat().await?,
                _ = ticks.tick() => work.progress().await?,
                () = sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => work.finish_due().await?,
                Ok(()) = play.changed() => work.changed(*play.borrow_and_update()),
            }
        }
    }

    async fn connect(&self) -> Outcome<(FleetSession, Duration)> {
        let _place = self.connecting.acquire().await?;
        let began = Instant::now();
        let channel = self.endpoint.connect().await?;
        let client = FleetServiceClient::with_interceptor(channel, self.token.clone());
        let hello = fleet::hello(&self.name, &Uuid::new_v4().to_string(), self.capacity);
        let (session, welcome) = FleetSession::connect(client, hello).await?;
        let beat = welcome
            .heartbeat_interval
            .and_then(|beat| Duration::try_from(beat).ok())
            .ok_or("the welcome names no heartbeat")?;
        self.ledger.write().welcomes.push(began.elapsed());
        Ok((session, beat))
    }
}

/// An exporter at work.
struct Holding {
    session: FleetSession,
    ledger: Arc<Ledger>,
    play: Play,
    capacity: u32,
    seq: u64,
    /// Numbers of runs' last reports that are not stored yet.
    last: HashSet<u64>,
    jobs: HashMap<String, Job>,
    /// Since when slots are free that were used before.
    free: VecDeque<Instant>,
}

impl Holding {
    async fn hear(&mut self, told: ControlMessage) -> Outcome<()> {
        match told {
            ControlMessage::Assignment(assignment) => self.take(assignment).await,
            ControlMessage::Ack(v1::Ack { seq }) => {
                self.ledger.write().ended += usize::from(self.last.remove(&seq));
                Ok(())
            }
            ControlMessage::Publish(v1::Publish { task_id, fence, .. }) => {
                self.end(task_id, fence, Event::Published(v1::Published {})).await
            }
            ControlMessage::Cancel(v1::Cancel { task_id, fence })
            | ControlMessage::Revoked(v1::Revoked { task_id, fence }) => {
                self.stop(&task_id, fence);
                Ok(())
            }
            ControlMessage::HeartbeatReply(reply) => {
                let lost =
                    reply.verdicts.iter().filter(|verdict| verdict.verdict() != v1::Verdict::Keep);
                lost.for_each(|verdict| self.stop(&verdict.task_id, verdict.fence));
                Ok(())
            }
            ControlMessage::Drain(_) | ControlMessage::Welcome(_) => {
                Err("the control plane says what nobody asked for".into())
            }
        }
    }

    async fn take(&mut self, assignment: v1::Assignment) -> Outcome<()> {
        let (at, v1::Assignment { task_id, export_id, fence, kind, .. }) =
            (Instant::now(), assignment);
        if self.jobs.len() >= self.capacity as usize {
            // As the real one does: a slot that a cancel has freed can be given away before the
            // cancel is heard.
            self.ledger.write().declined += 1;
            return self
                .say(ExporterMessage::Declined(v1::Declined {
                    task_id,
                    fence,
                    reason: "no room is left for another run".to_owned(),
                }))
                .await;
        }
        let partition = matches!(kind, Some(Kind::Partition(_)));
        let waited = self.free.pop_front().map(|since| at - since);
        {
            let mut seen = self.ledger.write();
            seen.arrivals.push(Arrival { at, waited, partition });
            seen.partitions += usize::from(partition);
        }
        self.jobs.insert(
            task_id.clone(),
            Job { export: export_id, fence, due: None, kept: partition, rows: 0 },
        );
        self.say(ExporterMessage::Accepted(v1::Accepted { task_id: task_id.clone(), fence }))
            .await?;
        if partition {
            let due = self.due();
            if let Some(job) = self.jobs.get_mut(&task_id) {
                job.due = due;
            }
            return self.finish_due().await;
        }
        let last = match kind {
            Some(Kind::Publish(_) | Kind::Finalize(_)) => Event::Published(v1::Published {}),
            Some(Kind::CleanUp(_)) => Event::CleanedUp(v1::CleanedUp { adopted: None }),
            Some(Kind::Reconcile(_)) => Event::Counted(v1::Counted { rows: 0 }),
            Some(Kind::Partition(_) | Kind::FindExperiments(_)) | None => {
                return Err("an assignment that this fleet cannot do".into());
            }
        };
        self.end(task_id, fence, last).await
    }

    /// When a partition that is begun now is to be finished.
    fn due(&self) -> Option<tokio::time::Instant> {
        let now = tokio::time::Instant::now();
        match self.play {
            Play::AtOnce => Some(now),
            Play::Hold(time) => Some(now + time.mul_f64(0.5 + chance())),
            Play::Keep => None,
        }
    }

    fn next_due(&self) -> Option<tokio::time::Instant> {
        self.jobs.values().filter_map(|job| job.due).min()
    }

    async fn finish_due(&mut self) -> Outcome<()> {
        let now = tokio::time::Instant::now();
        let due: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.due.is_some_and(|due| due <= now))
            .map(|(task, _)| task.clone())
            .collect();
        for task_id in due {
            let seq = self.next();
            if let Some(job) = self.jobs.get_mut(&task_id) {
                (job.due, job.kept) = (None, false);
                let (fence, event) = (job.fence, Event::Finished(v1::Finished::default()));
                self.say(fleet::report(&task_id, fence, seq, event)).await?;
            }
        }
        Ok(())
    }

    /// What is kept is begun anew; what is to be held, as if it had been for a while.
    fn changed(&mut self, play: Play) {
        self.play = play;
        let now = tokio::time::Instant::now();
        for job in self.jobs.values_mut().filter(|job| job.kept) {
            job.due = match play {
                Play::AtOnce => Some(now),
                Play::Hold(time) => Some(now + time.mul_f64(chance())),
                Play::Keep => None,
            };
        }
    }

    /// The last report of a task, which has the newest number: its slot is free.
    async fn end(&mut self, task_id: String, fence: u64, event: Event) -> Outcome<()> {
        let seq = self.next();
        if self.jobs.remove(&task_id).is_none() {
            return Ok(()); // it was stopped
        }
        self.last.insert(seq);
        self.say(fleet::report(&task_id, fence, seq, event)).await?;
        self.free.push_back(Instant::now());
        Ok(())
    }

    fn stop(&mut self, task: &str, fence: u64) {
        if self.jobs.get(task).is_some_and(|job| job.fence == fence)
            && let Some(job) = self.jobs.remove(task)
        {
            self.free.push_back(Instant::now());
            self.ledger.write().stops.push((job.export, Instant::now()));
        }
    }

    async fn heartbeat(&self) -> Outcome<()> {
        let held = self.jobs.iter().map(|(task, job)| fleet::held(task, job.fence));
        let capacity = Some(v1::Capacity { tasks: self.capacity });
        self.say(ExporterMessage::Heartbeat(v1::Heartbeat { held: held.collect(), capacity })).await
    }

    async fn progress(&mut self) -> Outcome<()> {
        let mut said = Vec::new();
        for (run, job) in &mut self.jobs {
            job.rows += 10_000;
            let progress = Some(RunProgress { rows: job.rows, ..RunProgress::default() });
            said.push(ExporterMessage::Progress(v1::Progress {
                task_id: run.clone(),
                fence: job.fence,
                stage: "reading".to_owned(),
                progress,
            }));
        }
        for said in said {
            self.say(said).await?;
        }
        Ok(())
    }

    fn next(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    async fn say(&self, said: ExporterMessage) -> Outcome<()> {
        Ok(self.session.say(said).await?)
    }
}

/// As the real one: every so often, from anywhere within the first time on.
fn spread(period: Duration) -> Interval {
    interval_at(tokio::time::Instant::now() + period.mul_f64(chance()), period)
}

/// Anywhere from 0 to 1.
fn chance() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}
