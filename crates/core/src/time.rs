//! Instants in whole microseconds, half-open windows, and UTC days.
//!
//! Truncating to seconds and inclusive bounds are how similar exporters lost and duplicated rows;
//! these types allow neither.

mod written;

use std::fmt;

use chrono::{DateTime, Datelike, SecondsFormat, Utc};

use crate::{Invalid, InvalidKind, rounded::Rounded};

/// Microseconds since the Unix epoch, within the years 1900 to 2299 (the range of ClickHouse's
/// `DateTime64`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// 1900-01-01T00:00:00Z.
const EARLIEST: i64 = -2_208_988_800 * MICROS_PER_SECOND;
/// 2299-12-31T23:59:59.999999Z.
const LATEST: i64 = 10_413_792_000 * MICROS_PER_SECOND - 1;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The instant `micros` after the epoch; `None` outside the years 1900 to 2299.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (EARLIEST..=LATEST).contains(&micros).then_some(Self(micros))
    }

    /// Microseconds since the epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Parses the bound of a window, in any form that [`read`](Self::read) accepts, rounding up to
    /// a whole microsecond. Windows are half-open and rows have whole microseconds, so rounding up
    /// selects exactly the same rows.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        Self::read(field, text)?.up(field)
    }

    /// Like [`parse`](Self::parse), from whole seconds since the epoch plus nanoseconds.
    pub fn from_nanos(field: &str, seconds: i64, nanos: i32) -> Result<Self, Invalid> {
        let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self::rounded(
            field,
            Rounded { floor: nanos.div_euclid(1000), exact: nanos.rem_euclid(1000) == 0 },
        )?
        .up(field)
    }

    /// Parses a time in any form that pydantic accepts, rounding down. Without a zone it is UTC; a
    /// bare date is midnight; a number is Unix time, in milliseconds beyond ±2·10^10 and in seconds
    /// otherwise. Errors are on `field`.
    pub fn read(field: &str, text: &str) -> Result<Rounded<Self>, Invalid> {
        let micros = written::micros(text).ok_or_else(|| {
            Invalid::new(field, "must be a date and time such as 2024-01-01T00:00:00Z")
                .of_kind(InvalidKind::DateTime)
        })?;
        Self::rounded(field, micros)
    }

    fn rounded(field: &str, micros: Rounded<i128>) -> Result<Rounded<Self>, Invalid> {
        micros.try_map(|micros| {
            i64::try_from(micros).ok().and_then(Self::from_micros).ok_or_else(|| beyond(field))
        })
    }

    /// Adds seconds (which may be negative), clamped to the supported years.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(
            self.0
                .saturating_add(seconds.saturating_mul(MICROS_PER_SECOND))
                .clamp(EARLIEST, LATEST),
        )
    }

    /// Whole seconds since `earlier`; negative if `earlier` is later.
    pub fn seconds_since(self, earlier: Self) -> i64 {
        (self.0 - earlier.0) / MICROS_PER_SECOND
    }

    /// The UTC day that contains it.
    pub fn day(self) -> Day {
        Day(self.0.div_euclid(MICROS_PER_DAY))
    }

    fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

impl Rounded<Timestamp> {
    /// Rounds up to the next whole microsecond.
    fn up(self, field: &str) -> Result<Timestamp, Invalid> {
        let up = self.floor.0 + i64::from(!self.exact);
        Timestamp::from_micros(up).ok_or_else(|| beyond(field))
    }
}

fn beyond(field: &str) -> Invalid {
    Invalid::new(field, "must lie between the years 1900 and 2299")
}

impl fmt::Display for Timestamp {
    /// For example `2025-05-13T16:20:34.123456+00:00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.utc().to_rfc3339_opts(SecondsFormat::Micros, false))
    }
}

/// A UTC day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(i64);

impl Day {
    /// Midnight at its start, clamped to the supported years.
    pub fn start(self) -> Timestamp {
        Timestamp((self.0 * MICROS_PER_DAY).clamp(EARLIEST, LATEST))
    }

    /// The following day.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Year, month (1 to 12) and day of the month (1 to 31).
    pub fn civil(self) -> (i32, u32, u32) {
        let date = self.start().utc().date_naive();
        (date.year(), date.month(), date.day())
    }
}

/// A half-open interval of time, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    start: Timestamp,
    end: Timestamp,
}

impl Window {
    /// `[start, end)`; `None` unless `start < end`.
    pub fn new(start: Timestamp, end: Timestamp) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// Inclusive bound.
    pub fn start(self) -> Timestamp {
        self.start
    }

    /// Exclusive bound.
    pub fn end(self) -> Timestamp {
        self.end
    }

    /// Number of UTC days that it touches.
    pub fn days(self) -> u64 {
        (Timestamp(self.end.0 - 1).day().0 - self.start.day().0 + 1).unsigned_abs()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

#[cfg(test)]
mod tests;
