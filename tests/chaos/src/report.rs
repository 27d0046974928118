//! What was done and found, and its one-line summary.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use crate::plan::Action;

/// Counts over all rounds.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rounds: u64,
    pub(crate) kills: u64,
    pub(crate) freezes: u64,
    pub(crate) restarts: u64,
    pub(crate) exports: u64,
    pub(crate) cancelled: u64,
    pub(crate) rows: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Rows whose content differs from the source, or that do not belong to their export.
    pub(crate) wrong: u64,
    /// Objects and uploads that should not exist, and objects that are missing.
    pub(crate) leftovers: Vec<String>,
    /// Exports that ended with the wrong status or not at all; programs that panicked.
    pub(crate) failures: Vec<String>,
    pub(crate) recoveries: Vec<Duration>,
}

impl Report {
    pub(crate) fn did(&mut self, action: Action) {
        match action {
            Action::Kill => self.kills += 1,
            Action::Freeze => self.freezes += 1,
            Action::Restart => self.restarts += 1,
        }
    }

    pub(crate) fn good(&self) -> bool {
        self.lost + self.doubled + self.wrong == 0
            && self.leftovers.is_empty()
            && self.failures.is_empty()
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            rounds,
            kills,
            freezes,
            restarts,
            exports,
            cancelled,
            rows,
            lost,
            doubled,
            wrong,
            ..
        } = self;
        write!(
            f,
            "{rounds} rounds, {kills} kills, {freezes} stops, {restarts} restarts; {exports} exports ({cancelled} cancelled), "
        )?;
        write!(
            f,
            "{rows} rows checked: {lost} lost, {doubled} doubled, {wrong} wrong, {} leftovers, ",
            self.leftovers.len()
        )?;
        write!(f, "{} failures; ", self.failures.len())?;
        let mut times = self.recoveries.clone();
        times.sort();
        match (times.get(times.len() / 2), times.last()) {
            (Some(median), Some(worst)) => {
                write!(
                    f,
                    "recovery median {:.2} s, worst {:.2} s of {}",
                    median.as_secs_f64(),
                    worst.as_secs_f64(),
                    times.len()
                )
            }
            _ => f.write_str("no recovery measured"),
        }
    }
}
