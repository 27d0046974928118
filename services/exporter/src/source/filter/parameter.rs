//! Query parameters in the format that ClickHouse's HTTP interface expects, which is that of its
//! TabSeparated format.

/// The parameters of one query; equal values share one parameter.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<String>);

impl Parameters {
    /// A value without special characters.
    pub(super) fn plain(&mut self, kind: &str, value: &str) -> String {
        let index = self.0.iter().position(|known| known == value).unwrap_or_else(|| {
            self.0.push(value.to_owned());
            self.0.len() - 1
        });
        format!("{{f{index}:{kind}}}")
    }

    /// An array of such values.
    pub(super) fn array(&mut self, kind: &str, values: &[String]) -> String {
        let quote = if kind == "UUID" { "'" } else { "" };
        let values: Vec<_> = values.iter().map(|value| format!("{quote}{value}{quote}")).collect();
        self.plain(&format!("Array({kind})"), &format!("[{}]", values.join(",")))
    }

    /// Arbitrary text.
    pub(super) fn text(&mut self, text: &str) -> String {
        self.plain("String", &escaped(text))
    }

    /// An array of texts.
    pub(super) fn texts(&mut self, texts: &[String]) -> String {
        let texts: Vec<_> = texts.iter().map(|text| format!("'{}'", escaped(text))).collect();
        self.plain("Array(String)", &format!("[{}]", texts.join(",")))
    }

    /// A double, exactly: its bits.
    pub(super) fn double(&mut self, double: f64) -> String {
        format!("reinterpretAsFloat64({})", self.plain("UInt64", &double.to_bits().to_string()))
    }

    /// An array of doubles.
    pub(super) fn doubles(&mut self, doubles: &[f64]) -> String {
        let bits: Vec<_> = doubles.iter().map(|double| double.to_bits().to_string()).collect();
        format!("arrayMap(bits -> reinterpretAsFloat64(bits), {})", self.array("UInt64", &bits))
    }

    /// Names and values.
    pub(super) fn finish(self) -> Vec<(String, String)> {
        self.0.into_iter().enumerate().map(|(index, value)| (format!("f{index}"), value)).collect()
    }
}

/// Escapes everything that could end a value, the text or the request: tab, line feed, quote, NUL.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '\'' => out.extend(['\\', character]),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            control if control.is_ascii_control() => {
                out.push_str(&format!("\\x{:02X}", u32::from(control)))
            }
            other => out.push(other),
        }
    }
    out
}

/// Formats units of 10^-12 as a number with twelve decimal places. ClickHouse's type has room for
/// 26 digits before the point.
pub(super) fn decimal(units: i128) -> String {
    const ONE: u128 = 1_000_000_000_000;
    let (sign, size) = (if units < 0 { "-" } else { "" }, units.unsigned_abs());
    format!("{sign}{}.{:012}", size / ONE, size % ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_value() {
        assert_eq!(escaped("a'b\\c\td\ne\0f\rg\u{7f}hé"), "a\\'b\\\\c\\td\\ne\\x00f\\rg\\x7Fhé");
        let mut parameters = Parameters::default();
        assert_eq!(parameters.texts(&["a'".into(), String::new()]), "{f0:Array(String)}");
        assert_eq!(parameters.text("x"), parameters.text("x"));
        assert_eq!(
            parameters.finish(),
            [("f0".to_owned(), "['a\\'','']".to_owned()), ("f1".to_owned(), "x".to_owned())]
        );
    }

    #[test]
    fn costs_keep_every_digit() {
        assert_eq!(decimal(-1), "-0.000000000001");
        assert_eq!(decimal(1_500_000_000_000), "1.500000000000");
    }
}
