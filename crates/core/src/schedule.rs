//! A schedule: consecutive windows of equal length, each exported after it has ended.
//!
//! Window `k` is `[start + k·I, start + (k+1)·I)`. Windows tile the time from `start` on, without
//! gap or overlap.

use crate::{
    Invalid,
    export::{self, ExportSpec},
    time::{Timestamp, Window},
};

/// The length of a schedule's windows, 1 to 168 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hours(u32);

/// Error message when a schedule is given an end.
pub const NO_END: &str =
    "must not be given together with interval_hours: a schedule goes on until it is cancelled";

/// Seconds between a window's end and its export, for rows that arrive late, unless the operator
/// configures another value.
pub const GRACE_SECONDS: u32 = 600;

/// How many days in the past a schedule may start, unless the operator configures another limit.
pub const MAX_DAYS_BACK: u32 = 366;

/// Concurrent exports per schedule, unless the operator configures another limit.
pub const MAX_UNDER_WAY: u32 = 50;

/// One week, in hours.
const LONGEST: u32 = 168;
const MICROS_PER_HOUR: i64 = 3_600_000_000;
/// The windows' times of day repeat after this many windows, whatever their length.
const PHASES: u64 = 24;

impl Hours {
    /// Validates a length in hours; a value out of range is an error on `field`.
    pub fn new(field: &str, hours: u32) -> Result<Self, Invalid> {
        if (1..=LONGEST).contains(&hours) {
            Ok(Self(hours))
        } else {
            Err(Invalid::new(field, format!("must be between 1 and {LONGEST}")))
        }
    }

    /// The length in hours.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Window `number` (from 0) of a schedule that starts at `start`; `None` if it would end after
    /// 2299.
    pub fn window(self, start: Timestamp, number: u64) -> Option<Window> {
        let length = i64::from(self.0) * MICROS_PER_HOUR;
        let begin = start.micros().checked_add(i64::try_from(number).ok()?.checked_mul(length)?)?;
        Window::new(
            Timestamp::from_micros(begin)?,
            Timestamp::from_micros(begin.checked_add(length)?)?,
        )
    }

    /// The first window. Fails if any window would touch more than `max_days` UTC days.
    pub fn first(self, start: Timestamp, max_days: u64) -> Result<Window, Invalid> {
        for window in (0..PHASES).filter_map(|number| self.window(start, number)) {
            export::window(window.start(), window.end(), max_days)
                .map_err(|fault| Invalid { field: "interval_hours".to_owned(), ..fault })?;
        }
        self.window(start, 0).ok_or_else(|| {
            Invalid::new("start_time", "must lie at least one interval before the year 2300")
        })
    }
}

/// Checks that a new schedule starts at most `max_days_back` days in the past; 0 means no limit.
pub fn check_start(start: Timestamp, max_days_back: u32, now: Timestamp) -> Result<(), Invalid> {
    if max_days_back == 0 || start >= now.plus_seconds(-86_400 * i64::from(max_days_back)) {
        return Ok(());
    }
    let message = format!(
        "may lie at most {max_days_back} days back: start the schedule later, and export what was before by exports with an end_time"
    );
    Err(Invalid::new("start_time", message))
}

impl ExportSpec {
    /// The spec of the export for window `number`; `None` if this is not a schedule or there is no
    /// such window.
    pub fn spawned(&self, number: u64) -> Option<Self> {
        let window = self.every?.window(self.window.start(), number)?;
        Some(Self { window, every: None, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse("t", text).unwrap()
    }

    #[test]
    fn an_interval_is_an_hour_to_a_week() {
        assert_eq!(
            [1, 24, 168].map(|hours| Hours::new("interval_hours", hours).unwrap().get()),
            [1, 24, 168]
        );
        for hours in [0, 169, u32::MAX] {
            assert_eq!(
                Hours::new("interval_hours", hours).unwrap_err().to_string(),
                "interval_hours: must be between 1 and 168"
            );
        }
    }

    #[test]
    fn no_window_may_touch_more_days_than_allowed() {
        let first = |start: &str, hours: u32, days| Hours(hours).first(at(start), days);
        assert_eq!(first("2024-01-01", 24, 1).unwrap().days(), 1);
        assert_eq!(first("2024-01-01T01:00:00Z", 24, 1).unwrap_err().field, "interval_hours");
        // The first window touches two days, the next one three.
        assert!(first("2024-01-01T06:00:00Z", 36, 2).is_err());
        assert!(first("2024-01-01T06:00:00Z", 36, 3).is_ok());
        assert_eq!(first("2299-12-31T23:00:00Z", 168, 366).unwrap_err().field, "start_time");
    }

    #[test]
    fn a_schedule_starts_only_so_many_days_back() {
        let (now, bound) = (at("2024-06-02"), at("2024-06-01"));
        assert!(
            check_start(bound, 1, now).is_ok() && check_start(at("2025-01-01"), 1, now).is_ok()
        );
        let fault = check_start(at("2024-05-31T23:59:59.999999Z"), 1, now).unwrap_err();
        assert!(
            fault.to_string().starts_with("start_time: may lie at most 1 days back"),
            "{fault}"
        );
        assert!(check_start(at("1970-01-01"), 0, now).is_ok(), "0 is no limit");
        assert!(check_start(at("1970-01-01"), u32::MAX, now).is_ok());
    }

    proptest! {
        #[test]
        fn windows_tile_the_time(start in -2_000_000_000_000_000i64..4_000_000_000_000_000, hours in 1u32..=168, number in 0u64..10_000) {
            let (start, hours) = (Timestamp::from_micros(start).unwrap(), Hours(hours));
            let (one, next) = (hours.window(start, number).unwrap(), hours.window(start, number + 1).unwrap());
            prop_assert_eq!(one.end(), next.start());
            prop_assert_eq!(one.end().seconds_since(one.start()), i64::from(hours.get()) * 3600);
            prop_assert_eq!(hours.window(start, 0).unwrap().start(), start);
        }
    }
}
