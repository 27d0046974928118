//! The plan of a round, derived from its seed alone: the same seed creates the same exports and
//! breaks the same parts.

use std::{ops::Range, time::Duration};

use fastrand::Rng;

/// The parts that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Exporter,
    ControlPlane,
    Postgres,
    ClickHouse,
    Bucket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// SIGKILL, then a restart.
    Kill,
    /// SIGSTOP, then SIGCONT.
    Freeze,
    /// SIGTERM, then a restart once the process has ended.
    Restart,
}

/// A part that is broken for a while.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FaultKind {
    pub(crate) at: Duration,
    pub(crate) role: Role,
    /// The number of the part among those of its role.
    pub(crate) number: usize,
    pub(crate) action: Action,
    pub(crate) lasts: Duration,
}

/// An export to create, and perhaps cancel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) at: Duration,
    /// Seconds from the start of the data set.
    pub(crate) seconds: Range<i64>,
    /// 1 to 4, as in the API.
    pub(crate) compression: i32,
    pub(crate) cancel_after: Option<Duration>,
}

/// One round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// Created while everything is up, so that the recovery from one kill can be measured: none is
    /// cancelled, and one exporter fewer can still take all of their runs.
    pub(crate) first: Vec<Wanted>,
    /// Created while parts break.
    pub(crate) second: Vec<Wanted>,
    pub(crate) troubles: Vec<FaultKind>,
}

/// The parts of the system under test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) exporters: usize,
    pub(crate) control_planes: usize,
    pub(crate) postgres: bool,
}

const DAY: i64 = 86_400;
const DAYS: i64 = 3;
/// Faults start within this time.
const SPAN: u64 = 14_000;

impl Plan {
    pub(crate) fn new(seed: u64, round: u64, shape: Shape) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_add(round.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let first = (0..2).map(|_| wanted(&mut rng, 0..800, false)).collect();
        let second = (0..8).map(|n| wanted(&mut rng, 0..11_000, n >= 5)).collect();
        let mut troubles: Vec<_> = (0..rng.usize(7..=10)).map(|_| fault(&mut rng, shape)).collect();
        troubles.sort_by_key(|fault| fault.at);
        Self { first, second, troubles }
    }
}

fn wanted(rng: &mut Rng, at: Range<u64>, cancelled: bool) -> Wanted {
    let seconds = match rng.u8(0..4) {
        0 | 1 => 0..DAYS * DAY,
        2 => {
            let day = rng.i64(0..DAYS);
            day * DAY..(day + 1) * DAY
        }
        _ => {
            let start = rng.i64(0..(DAYS - 1) * DAY);
            start..rng.i64(start + DAY / 4..DAYS * DAY)
        }
    };
    let cancel_after = cancelled.then(|| millis(rng, 200..8000));
    Wanted { at: millis(rng, at), seconds, compression: rng.i32(1..=4), cancel_after }
}

fn fault(rng: &mut Rng, shape: Shape) -> FaultKind {
    let (role, many) = match rng.u8(0..12) {
        0..=4 => (Role::Exporter, shape.exporters),
        5..=7 => (Role::ControlPlane, shape.control_planes),
        8 | 9 if shape.postgres => (Role::Postgres, 1),
        8 | 9 => (Role::ControlPlane, shape.control_planes),
        10 => (Role::ClickHouse, 1),
        _ => (Role::Bucket, 1),
    };
    let (action, lasts) = match rng.u8(0..6) {
        0..=2 => (Action::Kill, 300..3000),
        // Half of these last longer than a lease.
        3 => (Action::Freeze, 500..3000),
        4 => (Action::Freeze, 5000..8000),
        _ => (Action::Restart, 300..2000),
    };
    FaultKind {
        at: millis(rng, 0..SPAN),
        role,
        number: rng.usize(0..many),
        action,
        lasts: millis(rng, lasts),
    }
}

fn millis(rng: &mut Rng, range: Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { exporters: 3, control_planes: 2, postgres: true };

    #[test]
    fn a_seed_gives_one_plan_and_each_round_another() {
        let plan = Plan::new(7, 1, SHAPE);
        assert_eq!(plan, Plan::new(7, 1, SHAPE));
        assert_ne!(plan, Plan::new(7, 2, SHAPE));
        assert_ne!(plan, Plan::new(8, 1, SHAPE));
    }

    #[test]
    fn every_part_is_killed_frozen_and_restarted_in_some_round() {
        let troubles: Vec<_> =
            (0..100).flat_map(|round| Plan::new(1, round, SHAPE).troubles).collect();
        for role in
            [Role::Exporter, Role::ControlPlane, Role::Postgres, Role::ClickHouse, Role::Bucket]
        {
            for action in [Action::Kill, Action::Freeze, Action::Restart] {
                assert!(
                    troubles.iter().any(|fault| (fault.role, fault.action) == (role, action)),
                    "{role:?} {action:?}"
                );
            }
        }
    }
}
