//! Parses times in the forms that pydantic (its crate `speedate`) accepts, without losing digits.
//! What pydantic rejects is rejected here too: leap seconds, 24:00, zones of hours alone.

use chrono::NaiveDate;

use crate::rounded::Rounded;

/// Larger Unix times are in milliseconds.
const SECONDS: i128 = 20_000_000_000;
const MICROS: i128 = 1_000_000;

/// Microseconds since the epoch; `None` if `text` is not a time.
pub(super) fn micros(text: &str) -> Option<Rounded<i128>> {
    unix(text).or_else(|| calendar(text))
}

/// `1704067200`, `-0.5`, `1704067200000`
fn unix(text: &str) -> Option<Rounded<i128>> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !number(whole) || !number(fraction) {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let seconds = Rounded::read(text, 6);
    let beyond = seconds.floor < -SECONDS * MICROS
        || seconds.floor + i128::from(!seconds.exact) > SECONDS * MICROS;
    Some(if beyond { Rounded::read(text, 3) } else { seconds })
}

/// `2024-01-01`, `2024-01-01T00:00`, `2024-01-01 00:00:00,5+0200`
fn calendar(text: &str) -> Option<Rounded<i128>> {
    let mut rest = Rest(text);
    let (year, _, month, _, day) =
        (rest.number(4)?, rest.one(&['-'])?, rest.number(2)?, rest.one(&['-'])?, rest.number(2)?);
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let midnight = i128::from(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp()) * MICROS;
    if rest.0.is_empty() {
        return Some(Rounded { floor: midnight, exact: true });
    }
    rest.one(&['T', 't', ' ', '_'])?;
    let (hour, _, minute) = (rest.below(24)?, rest.one(&[':'])?, rest.below(60)?);
    let (second, fraction) = rest.seconds()?;
    let seconds = i128::from(hour * 3600 + minute * 60 + second) - rest.zone()?;
    rest.0
        .is_empty()
        .then_some(Rounded { floor: midnight + seconds * MICROS + fraction.floor, ..fraction })
}

/// The unparsed rest.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    /// Consumes one of these characters.
    fn one(&mut self, any: &[char]) -> Option<char> {
        let found = self.0.chars().next().filter(|found| any.contains(found))?;
        self.0 = &self.0[found.len_utf8()..];
        Some(found)
    }

    /// Consumes exactly `digits` digits.
    fn number(&mut self, digits: usize) -> Option<u32> {
        let number =
            self.0.get(..digits).filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()))?;
        self.0 = &self.0[digits..];
        number.parse().ok()
    }

    /// Consumes a two-digit number below `limit`.
    fn below(&mut self, limit: u32) -> Option<u32> {
        self.number(2).filter(|number| *number < limit)
    }

    /// Consumes `:SS` and a fraction, both optional; returns seconds and microseconds.
    fn seconds(&mut self) -> Option<(u32, Rounded<i128>)> {
        let none = Rounded { floor: 0, exact: true };
        if self.one(&[':']).is_none() {
            return Some((0, none));
        }
        let second = self.below(60)?;
        if self.one(&['.', ',']).is_none() {
            return Some((second, none));
        }
        let length = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) =
            self.0.split_at_checked(length).filter(|(digits, _)| !digits.is_empty())?;
        self.0 = rest;
        Some((second, Rounded::read(&format!("0.{digits}"), 6)))
    }

    /// Consumes a zone, if any; returns its offset in seconds east of UTC.
    fn zone(&mut self) -> Option<i128> {
        if self.0.is_empty() || self.one(&['Z', 'z']).is_some() {
            return Some(0);
        }
        let west = self.one(&['+', '-', '\u{2212}'])? != '+';
        let (hours, _, minutes) = (self.below(24)?, self.one(&[':']), self.below(60)?);
        let east = i128::from(hours * 3600 + minutes * 60);
        Some(if west { -east } else { east })
    }
}
