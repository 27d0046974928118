//! One round: exports are created, parts break, everything recovers and comes to rest, and the
//! results are checked.

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
    checker,
    fleet::{Fleet, World},
    plan::{Plan, Shape, Wanted},
    recovery,
    report::Report,
};

/// The outcome of a requested export.
struct Asked {
    /// Its id, if the creation was acknowledged.
    id: Option<String>,
    /// Whether it was cancelled before it had ended.
    cancelled: bool,
    /// Why the caller gave up, if it did.
    fault: Option<String>,
}

/// A round that is not at rest by then has failed.
const REST: Duration = Duration::from_secs(180);
/// Time for the tasks that follow an export's end: clean-up.
const SETTLE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(250);

/// Runs a round; `known` holds the exports checked in earlier rounds.
pub(crate) async fn run(
    plan: Plan,
    shape: Shape,
    fleet: &mut Fleet,
    world: &World,
    report: &mut Report,
    known: &mut BTreeSet<String>,
) {
    let mut asked = JoinSet::new();
    ask(&mut asked, &world.caller, plan.first);
    if let Some((part, recovery)) = recovery::measure(fleet, &world.caller, shape.exporters).await {
        report.kills += 1;
        match recovery {
            Some(time) => println!("    its runs went on after {:.2} s", time.as_secs_f64()),
            None => report.failures.push("no run of a killed exporter went on".to_owned()),
        }
        report.recoveries.extend(recovery);
        ask(&mut asked, &world.caller, plan.second);
        fleet.heal(part).await;
    } else {
        report.failures.push("no exporter took a run".to_owned());
    }
    troubles(&plan.troubles, fleet, report).await;
    fleet.heal_all().await;
    let healed = Instant::now();
    let asked = asked.join_all().await;
    let ended = rest(fleet, &world.caller, &asked, report, known, healed).await;
    println!(
        "    at rest {:.1} s after all was up: {} exports",
        healed.elapsed().as_secs_f64(),
        ended.len()
    );
    settle(world, &ended).await;
    for export in &ended {
        checker::found(world, export).await.checker(&world.rows, report);
        known.insert(export.id.clone());
    }
    report.failures.append(&mut fleet.deaths);
    report.rounds += 1;
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
                        fault: Some(format!("an export was refused: {status}")),
                    };
                }
            };
            let Some(after) = wanted.cancel_after else {
                return Asked { id: Some(id), cancelled: false, fault: None };
            };
            sleep(after).await;
            match caller.cancel(&id).await {
                Ok(()) => Asked { id: Some(id), cancelled: true, fault: None },
                Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                    Asked { id: Some(id), cancelled: false, fault: None }
                }
                Err(status) => Asked {
                    id: Some(id),
                    cancelled: true,
                    fault: Some(format!("a cancel was refused: {status}")),
                },
            }
        });
    }
}

/// Breaks parts as planned, each for its planned time.
async fn troubles(troubles: &[crate::plan::FaultKind], fleet: &mut Fleet, report: &mut Report) {
    let began = Instant::now();
    let mut coming = troubles.iter().peekable();
    let mut over: BTreeMap<Instant, usize> = BTreeMap::new();
    loop {
        let next = coming.peek().map(|fault| began + fault.at);
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
        while let Some(fault) = coming.next_if(|fault| began + fault.at <= now) {
            let part = fleet.find(fault.role, fault.number);
            if fleet.harm(part, fault.action).await {
                report.did(fault.action);
                println!(
                    "    {:>5.1} s {:?} {} for {:.1} s",
                    fault.at.as_secs_f64(),
                    fault.action,
                    fleet.name(part),
                    fault.lasts.as_secs_f64()
                );
                over.insert(Instant::now() + fault.lasts, part);
            }
        }
    }
}

/// Waits until every export of this round has ended, including those whose acknowledgement was
/// lost.
async fn rest(
    fleet: &mut Fleet,
    caller: &Caller,
    asked: &[Asked],
    report: &mut Report,
    known: &BTreeSet<String>,
    healed: Instant,
) -> Vec<Export> {
    report.failures.extend(asked.iter().filter_map(|asked| asked.fault.clone()));
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
            report.failures.push(format!("export {id} was acknowledged and is not there"));
        }
    }
    for export in &exports {
        let cancelled =
            asked.iter().any(|asked| asked.cancelled && asked.id.as_ref() == Some(&export.id));
        let good = if cancelled { ExportStatus::Cancelled } else { ExportStatus::Completed };
        if export.status() != good {
            report.failures.push(format!(
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

/// Prints the state of an export's runs.
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

/// Waits until there is nothing left to clean up, or until a timeout.
async fn settle(world: &World, exports: &[Export]) {
    let began = Instant::now();
    while began.elapsed() < SETTLE {
        let mut open = false;
        for export in exports {
            open |= checker::open(world, export).await;
        }
        if !open {
            return;
        }
        sleep(TICK).await;
    }
}
