use proptest::prelude::*;

use super::*;

fn shown(text: &str) -> String {
    Timestamp::parse("t", text).map_or_else(|fault| fault.to_string(), |t| t.to_string())
}

#[test]
fn every_form_that_pydantic_takes_is_taken() {
    let midnight = "2024-01-01T00:00:00.000000+00:00";
    for text in [
        "2024-01-01",
        "2024-01-01T00:00",
        "2024-01-01T00:00Z",
        "2024-01-01t00:00:00z",
        "2024-01-01 00:00:00",
        "2024-01-01_00:00:00.000",
        "2024-01-01T00:00:00.000000000000Z",
        "2024-01-01T00:00:00+00:00",
        "2024-01-01T00:00:00+0000",
        "2024-01-01T02:00:00+02:00",
        "2023-12-31T18:30-05:30",
        "2023-12-31T18:30:00\u{2212}0530",
        "2024-01-01T23:59:00+23:59",
        "1704067200",
        "+1704067200",
        "00001704067200.",
        "1704067200.000",
        "1704067200000",
        "1704067200000.0",
    ] {
        assert_eq!(shown(text), midnight, "{text}");
    }
    for (text, time) in [
        ("2024-01-01T00:00:00,5Z", "2024-01-01T00:00:00.500000+00:00"),
        ("2024-01-01T02:00:00.123456+02:00", "2024-01-01T00:00:00.123456+00:00"),
        ("-1704067200", "1916-01-02T00:00:00.000000+00:00"),
        ("-.5", "1969-12-31T23:59:59.500000+00:00"),
        ("0", "1970-01-01T00:00:00.000000+00:00"),
        ("20000000001", "1970-08-20T11:33:20.001000+00:00"),
        ("20000000000.5", "1970-08-20T11:33:20.000500+00:00"),
        ("-20000000001", "1969-05-14T12:26:39.999000+00:00"),
        ("1704067200000.5", "2024-01-01T00:00:00.000500+00:00"),
        ("20240101", "1970-08-23T06:15:01.000000+00:00"),
    ] {
        assert_eq!(shown(text), time, "{text}");
    }
}

#[test]
fn what_pydantic_refuses_is_refused_by_field_name() {
    for text in [
        "",
        ".",
        "-",
        "+.",
        "1e9",
        "1_704_067_200",
        " 1704067200",
        "1704067200Z",
        "1704067200,5",
        "nan",
        "yesterday",
        "2024-1-1",
        "24-01-01",
        "20240101T000000Z",
        "2024/01/01",
        "\u{ff12}024-01-01",
        "2024-02-30",
        "2024-13-01",
        "2024-001",
        "2024-01-01T",
        "2024-01-01Z",
        "2024-01-01T00",
        "2024-01-01T00Z",
        "2024-01-01T0000",
        "2024-01-01T0:00:00",
        "2024-01-01T00:00:0",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2024-01-01T23:59:60Z",
        "2024-01-01T00:00:00.",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00+00",
        "2024-01-01T00:00:00+5",
        "2024-01-01T00:00:00+05:3",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+0560",
        "2024-01-01T00:00:00 Z",
        "2024-01-01T00:00:00Z ",
        "2024-01-01T00:00:00Z+00:00",
        "2024-01-01é",
    ] {
        assert_eq!(
            shown(text),
            "t: must be a date and time such as 2024-01-01T00:00:00Z",
            "{text}"
        );
    }
    for text in
        ["1850-01-01T00:00:00Z", "2300-01-01", "0000-01-01", "20000000000", "99999999999999999999"]
    {
        assert_eq!(shown(text), "t: must lie between the years 1900 and 2299", "{text}");
    }
}

#[test]
fn a_bound_between_two_microseconds_is_the_later_one() {
    for (text, time) in [
        ("2024-01-01T23:59:59.999999999Z", "2024-01-02T00:00:00.000000+00:00"),
        ("2024-01-01T00:00:00.0000005Z", "2024-01-01T00:00:00.000001+00:00"),
        (
            "2024-01-01T00:00:00.0000010000000000000000000000001Z",
            "2024-01-01T00:00:00.000002+00:00",
        ),
        ("1704067200.0000001", "2024-01-01T00:00:00.000001+00:00"),
        ("1704067200000.0001", "2024-01-01T00:00:00.000001+00:00"),
        ("-0.0000001", "1970-01-01T00:00:00.000000+00:00"),
        ("2299-12-31T23:59:59.9999991Z", "t: must lie between the years 1900 and 2299"),
    ] {
        assert_eq!(shown(text), time, "{text}");
    }
    assert_eq!(Timestamp::from_nanos("t", 0, 1), Ok(Timestamp(1)));
    assert_eq!(Timestamp::from_nanos("t", -1, 999_999_001), Ok(Timestamp(0)));
    assert_eq!(
        Timestamp::from_nanos("t", i64::MAX, 0).unwrap_err().message,
        "must lie between the years 1900 and 2299"
    );
}

#[test]
fn days_before_1970_are_days_too() {
    let day = Timestamp::parse("t", "1969-12-31T23:59:59.999999Z").map(|t| t.day().civil());
    assert_eq!(day, Ok((1969, 12, 31)));
}

/// `2024-01-01T00:00:00.123456789Z`, in the given zone.
fn written(nanos: i128, minutes_east: i32) -> String {
    let seconds =
        i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap() + i64::from(minutes_east) * 60;
    let local =
        DateTime::from_timestamp(seconds, u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap())
            .unwrap();
    let (sign, minutes) = (if minutes_east < 0 { '-' } else { '+' }, minutes_east.abs());
    format!(
        "{}{sign}{:02}:{:02}",
        local.format("%Y-%m-%dT%H:%M:%S%.9f"),
        minutes / 60,
        minutes % 60
    )
}

/// Nanoseconds within the allowed years.
fn nanos() -> impl Strategy<Value = i128> {
    i128::from(EARLIEST) * 1000..i128::from(LATEST) * 1000
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(micros in EARLIEST..=LATEST) {
        let time = Timestamp::from_micros(micros).unwrap();
        prop_assert_eq!(Timestamp::read("t", &time.to_string()), Ok(Rounded { floor: time, exact: true }));
    }

    #[test]
    fn a_bound_has_the_same_rows_behind_it_as_in_exact_arithmetic(at in nanos(), zone in -1439i32..1440, row in -3i64..3) {
        let bound = Timestamp::parse("t", &written(at, zone)).unwrap();
        let row = i64::try_from(at.div_euclid(1000)).unwrap() + row;
        prop_assert_eq!(row >= bound.micros(), i128::from(row) * 1000 >= at);
        let (seconds, nanos) = (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000));
        prop_assert_eq!(Timestamp::from_nanos("t", i64::try_from(seconds).unwrap(), i32::try_from(nanos).unwrap()), Ok(bound));
        let unix = format!("{}{}.{:09}", if at < 0 { "-" } else { "" }, at.abs() / 1_000_000_000, at.abs() % 1_000_000_000);
        prop_assert_eq!(Timestamp::parse("t", &unix), Ok(bound));
    }

    #[test]
    fn no_text_makes_the_reader_fall_over(text in "\\PC{0,40}") {
        let _ = Timestamp::parse("t", &text);
    }
}
