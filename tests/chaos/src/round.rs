//! One round: exports are asked for, parts break, everything comes up again and to rest, and is
//! judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tracelift_proto::v1::{Export, ExportStatus};
use tracelift_runtime::tasks;

use crate::{
    caller::Caller,
    fleet::{Fleet, World},
    judge,
    plan::{Plan, Shape, Wanted},
    recovery,
    tally::Tally,
};

/// What became of an export that was asked for.
struct Asked {
    /// Of an acknowledged one.
    id: Option<String>,
    /// Whether it was cancelled before it had ended.
    cancelled: bool,
    /// Why the caller gave up, if so.
    trouble: Option<String>,
}

/// A round that does not come to rest by then is broken.
const REST: Duration = Duration::from_secs(180);
/// For what comes after an export's end: clean-up runs.
const SETTLE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(250);

/// Runs a round; `known` holds what earlier rounds have judged.
pub(crate) async fn run(
    plan: Plan,
    shape: Shape,
    fleet: &mut Fleet,
    world: &World,
    tally: &mut Tally,
    known: &mut BTreeSet<String>,
) {
    let mut asked = JoinSet::new();
    ask(&mut asked, &world.caller, plan.first);
    if let Some((part, recovery)) = recovery::measure(fleet, &world.caller, shape.exporters).await {
        tally.kills += 1;
        match recovery {
            Some(time) => println!("    its runs went on after {:.2} s", time.as_secs_f64()),
            None => tally.failures.push("no run of a killed exporter went on".to_owned()),
        }
        tally.recoveries.extend(recovery);
        ask(&mut asked, &world.caller, plan.second);
        fleet.heal(part).await;
    } else {
        tally.failures.push("no exporter took a run".to_owned());
    }
    troubles(&plan.troubles, fleet, tally).await;
    fleet.heal_all().await;
    let healed = Instant::now();
    let asked = asked.join_all().await;
    let ended = rest(fleet, &world.caller, &asked, tally, known, healed).await;
    println!(
        "    at rest {:.1} s after all was up: {} exports",
        healed.elapsed().as_secs_f64(),
        ended.len()
    );
    settle(world, &ended).await;
    for export in &ended {
        judge::found(world, export).await.judge(&world.rows, tally);
        known.insert(export.id.clone());
    }
    tally.failures.append(&mut fleet.deaths);
    tally.rounds += 1;
}

fn ask(asked: &mut JoinSet<Asked>, caller: &Caller, wanted: Vec<Wanted>) {
    for wanted in wanted {
        let caller = caller.clone();
        tasks::start_in(asked, "export", async move {
            sleep(wanted.at).await;
            let id = match caller.create(&wanted).await {
                Ok(id) => id,
                Err(status) => {
                    return Asked {
                        id: None,
                        cancelled: false,
                        trouble: Some(format!("an export was refused: {status}")),
                    };
                }
            };
            let Some(after) = wanted.cancel_after else {
                return Asked { id: Some(id), cancelled: false, trouble: None };
            };
            sleep(after).await;
            match caller.cancel(&id).await {
                Ok(()) => Asked { id: Some(id), cancelled: true, trouble: None },
                Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                    Asked { id: Some(id), cancelled: false, trouble: None }
                }
                Err(status) => Asked {
                    id: Some(id),
                    cancelled: true,
                    trouble: Some(format!("a cancel was refused: {status}")),
                },
            }
        });
    }
}

/// Breaks parts as planned, each for its time.
async fn troubles(troubles: &[crate::plan::Trouble], fleet: &mut Fleet, tally: &mut Tally) {
    let began = Instant::now();
    let mut coming = troubles.iter().peekable();
    let mut over: BTreeMap<Instant, usize> = BTreeMap::new();
    loop {
        let next = coming.peek().map(|trouble| began + trouble.at);
        let Some(wake) = next.into_iter().chain(over.keys().next().copied()).min() else { return };
        sleep_until(wake.min(Instant::now() + TICK)).await;
        fleet.revive();
        let now = Instant::now();
        while let Some((at, part)) =
            over.first_key_value().map(|(at, part)| (*at, *part)).filter(|(at, _)| *at <= now)
        {
            over.remove(&at);
            fleet.heal(part).await;
        }
        while let Some(trouble) = coming.next_if(|trouble| began + trouble.at <= now) {
            let part = fleet.find(trouble.role, trouble.number);
            if fleet.harm(part, trouble.deed).await {
                tally.did(trouble.deed);
                println!(
                    "    {:>5.1} s {:?} {} for {:.1} s",
                    trouble.at.as_secs_f64(),
                    trouble.deed,
                    fleet.name(part),
                    trouble.lasts.as_secs_f64()
                );
                over.insert(Instant::now() + trouble.lasts, part);
            }
        }
    }
}

/// Waits until every export has ended; those of this round, also the ones whose acknowledgement was
/// lost.
async fn rest(
    fleet: &mut Fleet,
    caller: &Caller,
    asked: &[Asked],
    tally: &mut Tally,
    known: &BTreeSet<String>,
    healed: Instant,
) -> Vec<Export> {
    tally.failures.extend(asked.iter().filter_map(|asked| asked.trouble.clone()));
    let mut exports;
    loop {
        fleet.revive();
        exports = caller.list().await.unwrap_or_default();
        exports.retain(|export| !known.contains(&export.id));
        let all = asked
            .iter()
            .filter_map(|asked| asked.id.as_ref())
            .all(|id| exports.iter().any(|export| export.id == *id));
        let ended = exports.iter().all(|export| export.finished_at.is_some());
        if (all && ended) || healed.elapsed() > REST {
            break;
        }
        sleep(TICK).await;
    }
    for id in asked.iter().filter_map(|asked| asked.id.as_ref()) {
        if !exports.iter().any(|export| export.id == *id) {
            tally.failures.push(format!("export {id} was acknowledged and is not there"));
        }
    }
    for export in &exports {
        let cancelled =
            asked.iter().any(|asked| asked.cancelled && asked.id.as_ref() == Some(&export.id));
        let good = if cancelled { ExportStatus::Cancelled } else { ExportStatus::Completed };
        if export.status() != good {
            tally.failures.push(format!(
                "export {} is {:?} and not {good:?}: {}",
                export.id,
                export.status(),
                export.error
            ));
            stuck(caller, export).await;
        }
    }
    exports
}

/// Prints how the runs of an export stand.
async fn stuck(caller: &Caller, export: &Export) {
    for run in caller.runs(&export.id).await.unwrap_or_default() {
        println!(
            "    run {} {:?} at {:?}, exporter {}, {:?}",
            run.id,
            run.status(),
            run.stage,
            run.exporter_id,
            run.errors
        );
    }
}

/// Waits until nothing is left to clean up, or it has had its time.
async fn settle(world: &World, exports: &[Export]) {
    let began = Instant::now();
    while began.elapsed() < SETTLE {
        let mut open = false;
        for export in exports {
            open |= judge::open(world, export).await;
        }
        if !open {
            return;
        }
        sleep(TICK).await;
    }
}
