//! Two exporters that do anything in any order, honest or confused, and what holds all the same.

use std::{collections::BTreeMap, future::Future, pin::Pin};

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};
use tracelift_core::{
    export::ExportStatus,
    failure::FailureClass,
    file::{File, Totals},
    id::{ExportId, TaskId},
    task::{Event, Fence, Lease, State, Task, TaskKind, Verdict},
};
use uuid::Uuid;

use super::{
    ALL, GRACE, LEASE, Owner, RETRIES, UNLIMITED, act, at, claim_under,
    experiments::{experiments, two_of_three_days},
    export, exporter, failed, file, finished, intent, lease_of, owner,
};
use crate::store::{ExportView, ReportOutcome, Retry, Store, TimeLimits};

const NAMES: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone)]
enum Move {
    Claim { who: usize, capacity: u32 },
    Report { who: usize, which: Index, said: ExporterMessage },
    Heartbeat { who: usize },
    Hello { who: usize, restarted: bool, forgets: bool },
    Lapse,
    Wait(i64),
    Cancel,
    Retry { which: Index },
    TimeOut,
}

/// Of a file: how far its number is from the next one.
#[derive(Debug, Clone, Copy)]
enum ExporterMessage {
    Intent(u32),
    Done(u32),
    Finished { right: bool },
    Published,
    Failed(FailureClass),
    HandedBack,
    Declined,
}

fn said() -> impl Strategy<Value = ExporterMessage> {
    prop_oneof![
        2 => (0u32..3).prop_map(ExporterMessage::Intent),
        6 => prop_oneof![1 => Just(0u32), 4 => Just(1), 1 => Just(2)].prop_map(ExporterMessage::Done),
        5 => prop::bool::weighted(0.8).prop_map(|right| ExporterMessage::Finished { right }),
        5 => Just(ExporterMessage::Published),
        1 => prop::sample::select(&FailureClass::ALL[..]).prop_map(ExporterMessage::Failed),
        1 => Just(ExporterMessage::HandedBack),
        1 => Just(ExporterMessage::Declined),
    ]
}

fn any_move() -> impl Strategy<Value = Move> {
    let who = 0..NAMES.len();
    prop_oneof![
        4 => (who.clone(), 0u32..4).prop_map(|(who, capacity)| Move::Claim { who, capacity }),
        12 => (who.clone(), any::<Index>(), said()).prop_map(|(who, which, said)| Move::Report { who, which, said }),
        2 => who.clone().prop_map(|who| Move::Heartbeat { who }),
        1 => (who, any::<bool>(), any::<bool>()).prop_map(|(who, restarted, forgets)| Move::Hello { who, restarted, forgets }),
        1 => Just(Move::Lapse),
        2 => any::<Index>().prop_map(|which| Move::Retry { which }),
        1 => prop::option::weighted(0.2, Just(())).prop_map(|late| late.map_or(Move::Wait(1), |()| Move::TimeOut)),
        2 => (1i64..50).prop_map(Move::Wait),
        1 => prop::option::weighted(0.15, Just(())).prop_map(|cancel| cancel.map_or(Move::Wait(1), |()| Move::Cancel)),
    ]
}

/// A store that is on its way.
pub(crate) type Fresh = Pin<Box<dyn Future<Output = Store>>>;

pub(crate) fn of_two_exporters(cases: u32, fresh: &dyn Fn() -> Fresh) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases, source_file: Some(file!()), ..Config::default() };
    let outcome = TestRunner::new(config).run(
        &(prop::collection::vec(any_move(), 1..80), any::<bool>()),
        |(moves, of_experiments)| {
            runtime.block_on(async {
                let store = fresh().await;
                let mut game = Game::new(&store, of_experiments).await;
                for step in moves {
                    game.play(step).await;
                }
                game.an_honest_exporter_can_bring_it_to_an_end().await;
            });
            Ok(())
        },
    );
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// What can be seen between two moves.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    export: ExportView,
    tasks: BTreeMap<TaskId, (Task, Vec<File>)>,
}

/// A lease that some process of an exporter has had.
#[derive(Debug, Clone, Copy)]
struct Had {
    who: usize,
    incarnation: u32,
    task: TaskId,
    fence: Fence,
    kind: TaskKind,
}

/// What is said last of a run.
fn last_word(kind: TaskKind) -> Event {
    match kind {
        TaskKind::FindExperiments(_) => Event::ExperimentsFound(two_of_three_days()),
        TaskKind::Partition(_) | TaskKind::Finalize => Event::Published,
        TaskKind::CleanUp(_) => Event::CleanedUp { adopted: None },
        TaskKind::Reconcile => Event::Counted { rows: 7 },
    }
}

struct Game<'a> {
    store: &'a Store,
    owner: Owner,
    export: ExportId,
    now: i64,
    incarnations: [u32; 2],
    had: Vec<Had>,
    finalizing: Option<TaskId>,
    /// What this move has asked for anew.
    asked_anew: Option<TaskId>,
    seen: Seen,
}

impl<'a> Game<'a> {
    async fn new(store: &'a Store, of_experiments: bool) -> Self {
        let owner = owner(store, 1).await;
        let export = if of_experiments {
            experiments(store, owner, 1, 3).await
        } else {
            export(store, owner, 1, 3).await
        };
        let seen = see(store, owner, export).await;
        Self {
            store,
            owner,
            export,
            now: 0,
            incarnations: [0; 2],
            had: Vec::new(),
            finalizing: None,
            asked_anew: None,
            seen,
        }
    }

    fn lease(&self, who: usize) -> Lease {
        lease_of(NAMES[who], &self.incarnations[who].to_string(), self.now)
    }

    /// What an exporter ever had, an earlier process of it included: it may be confused.
    fn all_of(&self, who: usize) -> Vec<Had> {
        self.had.iter().copied().filter(|had| had.who == who).collect()
    }

    async fn play(&mut self, step: Move) {
        self.now += 1;
        match step {
            Move::Claim { who, capacity } => self.claim(who, capacity).await,
            Move::Report { who, which, said } => {
                let all = self.all_of(who);
                if !all.is_empty() {
                    self.report(*which.get(&all), said).await;
                }
            }
            Move::Heartbeat { who } => {
                let all = self.all_of(who);
                let held = all.iter().map(|had| (had.task, had.fence)).collect();
                let verdicts =
                    self.store.heartbeat(self.lease(who), held, at(self.now)).await.unwrap();
                for (had, verdict) in all.into_iter().zip(verdicts) {
                    let now = Had { incarnation: self.incarnations[who], ..had };
                    assert_eq!(verdict == Verdict::Keep, self.has_access(now).await, "{had:?}");
                }
            }
            Move::Hello { who, restarted, forgets } => {
                self.incarnations[who] += u32::from(restarted);
                let all = self.all_of(who);
                let held = if forgets {
                    Vec::new()
                } else {
                    all.iter().map(|had| (had.task, had.fence)).collect()
                };
                self.store
                    .hello(Uuid::from_u128(1), self.lease(who), held, RETRIES, at(self.now))
                    .await
                    .unwrap();
                if forgets {
                    for had in all {
                        assert!(
                            !self.has_access(had).await,
                            "it holds nothing after saying so: {had:?}"
                        );
                    }
                }
            }
            Move::Lapse => {
                self.store.lapse(RETRIES, at(self.now)).await.unwrap();
            }
            Move::Wait(seconds) => self.now += seconds,
            Move::Cancel => {
                self.store
                    .cancel_export(act(), self.owner.tenant, self.export, at(self.now))
                    .await
                    .unwrap();
            }
            Move::Retry { which } => self.retry(which).await,
            Move::TimeOut => {
                self.store
                    .time_out(TimeLimits { task: 60, export: 300 }, at(self.now))
                    .await
                    .unwrap();
            }
        }
        self.look().await;
    }

    async fn claim(&mut self, who: usize, capacity: u32) {
        let claimed = claim_under(self.store, self.lease(who), capacity, UNLIMITED, self.now).await;
        for claimed in &claimed {
            let (task, fence) = (claimed.task.id, claimed.task.fence);
            if claimed.task.kind == TaskKind::Finalize {
                assert_eq!(
                    *self.finalizing.get_or_insert(task),
                    task,
                    "an export has one finalising run"
                );
            } else if let TaskKind::Partition(_) = claimed.task.kind {
                let (before, files) = &self.seen.tasks[&task];
                assert!(
                    matches!(before.state, State::Queued { not_before } if not_before <= at(self.now)),
                    "{before:?}"
                );
                assert_eq!(
                    (before.fence.0 + 1, before.totals, before.cursor),
                    (fence.0, claimed.task.totals, claimed.task.cursor)
                );
                assert!(!claimed.task.frozen || claimed.files == *files);
            }
            self.had.push(Had {
                who,
                incarnation: self.incarnations[who],
                task,
                fence,
                kind: claimed.task.kind,
            });
        }
        let seen = see(self.store, self.owner, self.export).await;
        let held = seen.tasks.values().filter(|(task, _)| {
            task.lease().is_some_and(|lease| lease.exporter == exporter(NAMES[who]))
        });
        assert!(claimed.is_empty() || held.count() <= capacity as usize);
    }

    /// A caller asks for any run, whether or not that makes sense.
    async fn retry(&mut self, which: Index) {
        let ids: Vec<_> = self.seen.tasks.keys().copied().collect();
        if ids.is_empty() {
            return; // its experiments are not found yet
        }
        let id = *which.get(&ids);
        let before = &self.seen.tasks[&id].0;
        let may = matches!(before.state, State::Failed(_) | State::TimedOut(_))
            && self.seen.export.export.status != ExportStatus::Cancelled;
        let answer = self
            .store
            .retry_run(act(), self.owner.tenant, self.export, id, at(self.now))
            .await
            .unwrap()
            .unwrap();
        let after = see(self.store, self.owner, self.export).await;
        assert_eq!(matches!(answer, Retry::Queued(_)), may, "{answer:?}");
        if !may {
            assert_eq!(after, self.seen);
            return;
        }
        let task = &after.tasks[&id].0;
        assert_eq!(
            (task.totals, task.cursor, task.attempt, task.spent),
            (before.totals, before.cursor, before.attempt + 1, before.attempt + 1)
        );
        assert_eq!(
            (after.export.export.status, after.export.export.finished_at),
            (ExportStatus::Running, None)
        );
        self.asked_anew = Some(id);
    }

    async fn report(&mut self, had: Had, said: ExporterMessage) {
        let totals =
            self.seen.tasks.get(&had.task).map(|(task, _)| task.totals).unwrap_or_default();
        let number = |offset: u32| (totals.files + offset).saturating_sub(1);
        let event = match said {
            ExporterMessage::Intent(offset) => Event::FileIntent(intent(number(offset))),
            ExporterMessage::Done(offset) => Event::FileDone(file(number(offset))),
            ExporterMessage::Finished { right } => {
                finished(totals.files, totals.rows + u64::from(!right))
            }
            ExporterMessage::Published => last_word(had.kind),
            ExporterMessage::Failed(class) => failed(class),
            ExporterMessage::HandedBack => Event::HandedBack,
            ExporterMessage::Declined => Event::Declined,
        };
        let heard = self.store.report(None, had.task, had.fence, event, GRACE, at(self.now)).await;
        if !matches!(heard, Ok(ReportOutcome::Applied(_))) {
            let after = see(self.store, self.owner, self.export).await;
            assert_eq!(after, self.seen, "{heard:?} changes nothing");
        }
    }

    async fn has_access(&self, had: Had) -> bool {
        let found = self
            .store
            .access(
                act(),
                (had.task, had.fence),
                exporter(NAMES[had.who]),
                had.incarnation.to_string(),
                at(self.now),
            )
            .await;
        found.unwrap().is_some()
    }

    /// What must hold after each move.
    async fn look(&mut self) {
        let after = see(self.store, self.owner, self.export).await;
        let mut holders = BTreeMap::new();
        for had in self.had.clone() {
            if self.has_access(had).await {
                let holder = (had.who, had.incarnation, had.fence);
                assert_eq!(
                    *holders.entry(had.task).or_insert(holder),
                    holder,
                    "a run has one holder"
                );
            }
        }
        let mut sum = Totals::default();
        for (id, (task, files)) in &after.tasks {
            sum = sum.plus(task.totals);
            let Some((before, files_before)) = self.seen.tasks.get(id) else {
                assert!(self.seen.tasks.is_empty(), "experiments are found once");
                continue;
            };
            assert!(task.fence >= before.fence);
            assert!(files.starts_with(files_before));
            assert!(
                files.iter().zip(0..).all(|(file, number)| file.number == number),
                "files are dense"
            );
            assert_eq!(Totals::of(files), task.totals);
            assert!(!before.frozen || files == files_before, "the file list is frozen");
            assert_eq!(
                task.errors.len(),
                task.attempt as usize + usize::from(matches!(task.state, State::Failed(_)))
            );
            assert!(task.attempt - task.spent <= RETRIES);
            if before.finished_at().is_some() && self.asked_anew != Some(*id) {
                assert_eq!(
                    (&task.state, task.fence),
                    (&before.state, before.fence),
                    "what has ended stays ended"
                );
            }
        }
        let (now, before) = (&after.export.export, &self.seen.export.export);
        assert_eq!(
            (after.export.rows, after.export.bytes, after.export.files),
            (sum.rows, sum.bytes, sum.files)
        );
        let anew = self.asked_anew.take().is_some();
        assert!(
            anew || !before.status.ended()
                || (now.status, now.finished_at) == (before.status, before.finished_at)
        );
        assert_eq!(now.finished_at.is_some(), now.status.ended());
        self.seen = after;
    }

    /// Nothing that happened leaves an export in the air.
    async fn an_honest_exporter_can_bring_it_to_an_end(&mut self) {
        self.now += 1000 + LEASE;
        self.store.lapse(RETRIES, at(self.now)).await.unwrap();
        self.now += 1000;
        while let Some(claimed) =
            claim_under(self.store, lease_of("honest", "1", self.now), 1, UNLIMITED, self.now)
                .await
                .pop()
        {
            let task = claimed.task;
            let mut events =
                vec![finished(task.totals.files, task.totals.rows), last_word(task.kind)];
            if !matches!(task.kind, TaskKind::Partition(_)) {
                events.remove(0);
            }
            for event in events {
                let heard = self
                    .store
                    .report(None, task.id, task.fence, event, GRACE, at(self.now))
                    .await
                    .unwrap();
                assert!(matches!(heard, ReportOutcome::Applied(_)));
            }
        }
        self.look().await;
        assert!(self.seen.export.export.status.ended(), "{:#?}", self.seen);
    }
}

async fn see(store: &Store, owner: Owner, id: ExportId) -> Seen {
    let export = store.export(owner.tenant, id).await.unwrap().unwrap();
    let mut tasks = BTreeMap::new();
    for view in store.tasks(owner.tenant, id, ALL).await.unwrap().unwrap() {
        let files = store.files(view.task.id).await.unwrap();
        assert_eq!(view.keys, files.iter().map(|file| file.key.clone()).collect::<Vec<_>>());
        tasks.insert(view.task.id, (view.task, files));
    }
    Seen { export, tasks }
}
