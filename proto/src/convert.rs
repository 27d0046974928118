//! Conversions between messages and domain values, one file per .proto file.

pub(crate) mod admin;
mod assignment;
pub(crate) mod destinations;
pub(crate) mod exports;
mod fleet;
mod report;

use tracelift_core::{Invalid, time::Timestamp};

/// Converts to a protobuf timestamp, exact to the microsecond.
#[allow(clippy::cast_possible_truncation, reason = "a remainder of one million, times 1000, fits")]
pub fn time_to(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: (micros.rem_euclid(1_000_000) * 1000) as i32,
    }
}

/// Converts a required timestamp, rounding up to a whole microsecond as the bounds of windows
/// require. Missing or out of range is an error on `field`.
pub fn time_from(field: &str, time: Option<&prost_types::Timestamp>) -> Result<Timestamp, Invalid> {
    let time = time.ok_or_else(|| Invalid::missing(field))?;
    Timestamp::from_nanos(field, time.seconds, time.nanos)
}

fn required<'a, T>(field: &str, message: Option<&'a T>) -> Result<&'a T, Invalid> {
    message.ok_or_else(|| Invalid::missing(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_survive_the_wire_on_both_sides_of_1970() {
        for micros in [0, 1, 1_700_000_000_123_456, -1, -1_234_567] {
            let time = Timestamp::from_micros(micros).unwrap();
            assert_eq!(time_from("t", Some(&time_to(time))), Ok(time));
        }
    }

    #[test]
    fn a_time_between_two_microseconds_is_the_later_one() {
        let at = |seconds, nanos| {
            time_from("t", Some(&prost_types::Timestamp { seconds, nanos })).unwrap().micros()
        };
        assert_eq!(
            [at(0, 999_999_999), at(0, 1), at(0, 1000), at(-1, 999_999_999)],
            [1_000_000, 1, 1, 0]
        );
    }

    #[test]
    fn a_missing_or_impossible_time_is_named() {
        assert_eq!(time_from("t", None).unwrap_err().message, "is required");
        let far = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        assert!(time_from("t", Some(&far)).is_err());
    }
}
