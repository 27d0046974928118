//! Concurrency limits and quotas of a workspace, and fair sharing of exporter slots. Pure.

/// Concurrency limits; 0 means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtOnce {
    /// Partitions of one export that are leased at once.
    pub runs_per_export: u32,
    /// Exports of one workspace that run at once; the others stay queued.
    pub exports: u32,
}

impl AtOnce {
    /// No limits.
    pub const UNLIMITED: Self = Self { runs_per_export: 0, exports: 0 };
}

impl Default for AtOnce {
    fn default() -> Self {
        Self { runs_per_export: 45, exports: 15 }
    }
}

/// Quotas on what callers of one workspace may create; 0, the default, means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Exports and schedules created by callers per hour. Exports that a schedule spawns do not
    /// count.
    pub exports_per_hour: u32,
    /// Active schedules.
    pub schedules: u32,
}

/// The load of one competitor for exporter slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Tasks being worked on.
    pub at_work: usize,
    /// Tasks ready to be claimed.
    pub waiting: usize,
}

/// Splits `slots` among the queues: each slot goes to the queue with the fewest tasks at work that
/// still has tasks waiting; ties go to the first.
pub fn shares(queues: &[Queue], slots: usize) -> Vec<usize> {
    let mut shares = vec![0; queues.len()];
    for _ in 0..slots {
        let waits = queues
            .iter()
            .zip(&shares)
            .enumerate()
            .filter(|(_, (queue, share))| queue.waiting > **share);
        let Some((next, _)) = waits.min_by_key(|(_, (queue, share))| queue.at_work + **share)
        else {
            break;
        };
        shares[next] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(at_work: usize, waiting: usize) -> Queue {
        Queue { at_work, waiting }
    }

    #[test]
    fn one_run_is_not_kept_waiting_by_a_thousand() {
        assert_eq!(shares(&[queue(0, 1000), queue(0, 1)], 4), [3, 1]);
        assert_eq!(shares(&[queue(2, 1000), queue(0, 9)], 3), [1, 2]);
        assert_eq!(shares(&[queue(5, 1000), queue(3, 9), queue(0, 1)], 4), [1, 2, 1]);
        assert_eq!(shares(&[queue(0, 3), queue(0, 3)], 1), [1, 0], "of several the first");
        assert_eq!(shares(&[queue(9, 2)], 4), [2]);
        assert_eq!(shares(&[], 4), [0usize; 0]);
    }

    proptest! {
        #[test]
        fn all_slots_are_used_and_nobody_is_passed_over(
            queues in prop::collection::vec((0usize..20, 0usize..20).prop_map(|(at_work, waiting)| queue(at_work, waiting)), 0..8),
            slots in 0usize..60,
        ) {
            let shares = shares(&queues, slots);
            let waiting: usize = queues.iter().map(|queue| queue.waiting).sum();
            prop_assert_eq!(shares.iter().sum::<usize>(), slots.min(waiting));
            for (queue, share) in queues.iter().zip(&shares) {
                prop_assert!(*share <= queue.waiting);
                // A queue that could take more has at most one task fewer than any queue that got a
                // slot.
                for (other, theirs) in queues.iter().zip(&shares).filter(|(_, theirs)| **theirs > 0) {
                    prop_assert!(*share == queue.waiting || other.at_work + theirs <= queue.at_work + share + 1);
                }
            }
        }
    }
}
