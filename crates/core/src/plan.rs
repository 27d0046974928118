//! Plans the first tasks of an export. Partitions cover one UTC day of one project each, and tile
//! the export without gap or overlap.

use std::collections::BTreeMap;

use crate::{
    export::{ExportSpec, Projects},
    failure::{Failure, FailureClass, Step},
    id::SessionId,
    task::TaskKind,
    time::{Timestamp, Window},
};

/// Maximum partitions of an all-experiments export: roughly the number of days in the longest range
/// that an operator can allow.
pub const MAX_PARTITIONS: usize = 4000;

/// The rows of one project within one UTC day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Partition {
    /// Project id.
    pub session: SessionId,
    /// The range of start times.
    pub window: Window,
}

impl Partition {
    /// Whether a row could belong to both.
    pub fn overlaps(self, other: Self) -> bool {
        let apart =
            self.window.end() <= other.window.start() || other.window.end() <= self.window.start();
        self.session == other.session && !apart
    }
}

/// An experiment that has rows in an export's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experiment {
    /// Project id.
    pub session: SessionId,
    /// Start time of the first of these rows.
    pub first: Timestamp,
    /// Start time of the last of these rows.
    pub last: Timestamp,
}

/// The export would exceed [`MAX_PARTITIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl From<TooMany> for Failure {
    fn from(_: TooMany) -> Self {
        let detail = format!(
            "the experiments of this range have rows on more than {MAX_PARTITIONS} days in all: split the range into several exports"
        );
        Self { step: Step::Read, class: FailureClass::TooLarge, detail }
    }
}

/// The first tasks of a new export. A schedule has none.
pub fn first(spec: &ExportSpec) -> Vec<TaskKind> {
    match spec.projects {
        _ if spec.every.is_some() => Vec::new(),
        Projects::One(session) => days(spec.window)
            .map(|window| TaskKind::Partition(Partition { session, window }))
            .collect(),
        Projects::Experiments => vec![TaskKind::FindExperiments(spec.window)],
    }
}

/// The partitions of the experiments found in `window`, by project, oldest first. Each experiment
/// gets the days from its first to its last row; a duplicate counts once.
pub fn of_experiments(window: Window, found: &[Experiment]) -> Result<Vec<Partition>, TooMany> {
    let found: BTreeMap<_, _> =
        found.iter().map(|experiment| (experiment.session, experiment)).collect();
    let partitions = found.into_values().flat_map(|experiment| {
        let start = window.start().max(experiment.first.day().start());
        let end = window.end().min(experiment.last.day().next().start());
        let session = experiment.session;
        Window::new(start, end)
            .into_iter()
            .flat_map(days)
            .map(move |window| Partition { session, window })
    });
    let partitions: Vec<_> = partitions.take(MAX_PARTITIONS + 1).collect();
    if partitions.len() > MAX_PARTITIONS { Err(TooMany) } else { Ok(partitions) }
}

/// Splits `window` at UTC midnights, oldest part first.
fn days(window: Window) -> impl Iterator<Item = Window> {
    let mut start = window.start();
    std::iter::from_fn(move || {
        let part = Window::new(start, start.day().next().start().min(window.end()))?;
        start = part.end();
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn window() -> impl Strategy<Value = Window> {
        let micros = -2_000_000_000_000_000i64..4_000_000_000_000_000;
        (micros, 1i64..40_000_000_000_000).prop_filter_map("in range", |(start, length)| {
            Window::new(Timestamp::from_micros(start)?, Timestamp::from_micros(start + length)?)
        })
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse("t", text).unwrap()
    }

    fn experiment(n: u128, first: &str, last: &str) -> Experiment {
        Experiment { session: SessionId(Uuid::from_u128(n)), first: at(first), last: at(last) }
    }

    #[test]
    fn an_experiment_has_a_partition_for_each_day_between_its_first_and_its_last_row() {
        let window = Window::new(at("2024-01-01T06:00:00Z"), at("2024-02-01")).unwrap();
        let found = [
            experiment(2, "2024-01-30T12:00:00Z", "2024-01-31T23:59:59.999999Z"),
            experiment(1, "2024-01-01T06:00:00Z", "2024-01-01T07:00:00Z"),
            experiment(1, "2024-01-01T06:00:00Z", "2024-01-01T07:00:00Z"),
        ];
        let shown: Vec<_> = of_experiments(window, &found)
            .unwrap()
            .iter()
            .map(|part| (part.session.0.as_u128(), part.window))
            .collect();
        let expected = [
            (1, "2024-01-01T06:00:00Z", "2024-01-02"),
            (2, "2024-01-30", "2024-01-31"),
            (2, "2024-01-31", "2024-02-01"),
        ];
        assert_eq!(
            shown,
            expected.map(|(n, start, end)| (n, Window::new(at(start), at(end)).unwrap()))
        );
        assert_eq!(of_experiments(window, &[]), Ok(Vec::new()));
        assert_eq!(
            of_experiments(window, &[experiment(1, "2023-01-01", "2023-01-02")]),
            Ok(Vec::new()),
            "outside of the window"
        );
    }

    #[test]
    fn an_export_has_only_so_many_partitions() {
        let window = Window::new(at("2024-01-01"), at("2024-01-03")).unwrap();
        let found =
            |n: u128| (0..n).map(|n| experiment(n, "2024-01-01", "2024-01-02")).collect::<Vec<_>>();
        assert_eq!(of_experiments(window, &found(2000)).unwrap().len(), MAX_PARTITIONS);
        assert_eq!(of_experiments(window, &found(2001)), Err(TooMany));
    }

    proptest! {
        #[test]
        fn partitions_tile_the_window(window in window()) {
            let parts: Vec<_> = days(window).collect();
            prop_assert_eq!(parts.len() as u64, window.days());
            prop_assert_eq!(parts[0].start(), window.start());
            prop_assert_eq!(parts[parts.len() - 1].end(), window.end());
            for pair in parts.windows(2) {
                prop_assert_eq!(pair[0].end(), pair[1].start());
            }
        }

        #[test]
        fn a_partition_lies_within_one_day(window in window()) {
            for part in days(window) {
                prop_assert_eq!(part.days(), 1);
            }
        }

        #[test]
        fn every_row_between_an_experiments_first_and_last_lies_in_one_of_its_partitions(window in window(), shares in prop::array::uniform3(0.0..1.0f64)) {
            let [first, row, last] = {
                let length = (window.end().micros() - window.start().micros() - 1) as f64;
                let mut times = shares.map(|share| Timestamp::from_micros(window.start().micros() + (length * share) as i64).unwrap());
                times.sort();
                times
            };
            let found = [Experiment { session: SessionId(Uuid::nil()), first, last }];
            let parts = of_experiments(window, &found).unwrap();
            let holding = parts.iter().filter(|part| part.window.start() <= row && row < part.window.end());
            prop_assert_eq!(holding.count(), 1);
            prop_assert!(parts.iter().all(|part| window.start() <= part.window.start() && part.window.end() <= window.end()));
        }
    }
}
