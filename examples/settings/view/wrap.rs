//! Breaks a text into lines.

use ratatui::text::Span;

/// Returns the lines of `text`, at most `width` columns each, broken at spaces where possible.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_inclusive(' ') {
        if columns(&line) + columns(word.trim_end()) > width && !line.is_empty() {
            push(&mut lines, &mut line);
        }
        for char in word.chars() {
            if columns(&line) + columns(char.encode_utf8(&mut [0; 4])) > width && char != ' ' {
                push(&mut lines, &mut line);
            }
            line.push(char);
        }
    }
    push(&mut lines, &mut line);
    lines
}

fn push(lines: &mut Vec<String>, line: &mut String) {
    lines.push(line.trim_end().to_owned());
    line.clear();
}

/// Returns the number of columns that `text` takes on the screen.
fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_at_spaces_and_a_long_word_anywhere() {
        for (text, lines) in [
            ("", &[""][..]),
            ("ab", &["ab"]),
            ("abc de", &["abc", "de"]),
            ("ab cd ef", &["ab", "cd", "ef"]),
            ("a b c d", &["a b", "c d"]),
            ("abcdefghij", &["abcd", "efgh", "ij"]),
            ("a bcdefg", &["a", "bcde", "fg"]),
            ("  ab", &["  ab"]),
            ("日本語", &["日本", "語"]),
        ] {
            assert_eq!(wrap(text, 4), lines, "{text}");
        }
    }
}
