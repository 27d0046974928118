//! Text of others, made fit to stand in a line of ours.

/// The text with spaces in place of characters that could disturb what stands around it: control
/// characters, separators of lines and paragraphs, marks that change the direction of text, and
/// tags, which nobody sees.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if disturbs(letter) { ' ' } else { letter }).collect()
}

fn disturbs(letter: char) -> bool {
    let separates = matches!(letter, '\u{2028}' | '\u{2029}');
    let turns = matches!(
        letter,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
    );
    let is_tag = matches!(letter, '\u{e0000}'..='\u{e007f}');
    letter.is_control() || separates || turns || is_tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_breaks_or_turns_a_line() {
        assert_eq!(printable("a\r\n\u{1b}[31mb\u{85}c\u{7f}"), "a   [31mb c ");
        assert_eq!(printable("a\u{2028}b\u{2029}c"), "a b c");
        for mark in "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{e0041}".chars() {
            assert_eq!(printable(&format!("txt{mark}exe")), "txt exe", "{mark:?}");
        }
        let harmless = "é 日本語 עברית العربية 👩\u{200d}🚀 \"x\" \u{a0}";
        assert_eq!(printable(harmless), harmless);
    }
}
