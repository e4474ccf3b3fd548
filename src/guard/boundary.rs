//! Word boundaries in every script.

/// A group of scripts. A word does not continue from one group into another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    /// Latin letters, including accented ones, and ASCII digits.
    Latin,
    /// All other scripts with spaces between words.
    Spaced,
}

/// Returns whether a word whose edge is `inside` ends before or after the neighbouring
/// character `outside`.
///
/// A letter or digit continues only a word of its own script: `morgan` is part of
/// `morgané` and `morgan2`, but not of `用户morgan`. Punctuation, spaces, and combining and
/// format characters never continue a word. Neither do letters of scripts without spaces
/// between words, such as Chinese, Japanese or Thai.
pub(super) fn is_boundary(inside: char, outside: char) -> bool {
    let continued = script(outside);
    continued.is_none() || continued != script(inside)
}

/// Returns whether `c` is a letter of a script that never continues an ASCII identifier.
pub(super) fn is_foreign(c: char) -> bool {
    !c.is_ascii() && script(c) != Some(Script::Latin)
}

/// Returns whether `c` can be part of a non-ASCII name: a letter, a digit, or a mark on
/// one.
pub(super) fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || is_mark(c)
}

fn script(c: char) -> Option<Script> {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric().then_some(Script::Latin);
    }
    if !c.is_alphanumeric() || has_no_spaces(c) {
        return None;
    }
    let is_latin = matches!(c,
        '\u{aa}' | '\u{ba}' | '\u{c0}'..='\u{2af}' | '\u{1d00}'..='\u{1dbf}'
        | '\u{1e00}'..='\u{1eff}' | '\u{2c60}'..='\u{2c7f}' | '\u{a720}'..='\u{a7ff}'
        | '\u{ab30}'..='\u{ab6f}' | '\u{fb00}'..='\u{fb06}');
    Some(if is_latin { Script::Latin } else { Script::Spaced })
}

/// Returns whether the script of `c` has no spaces between words, or appends particles to
/// them, as Korean does.
fn has_no_spaces(c: char) -> bool {
    matches!(c,
        // Thai to Myanmar, Hangul, Khmer.
        '\u{e00}'..='\u{109f}' | '\u{1100}'..='\u{11ff}' | '\u{1780}'..='\u{17ff}'
        // Radicals, kana, Bopomofo, Hangul, Han, Yi.
        | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ffdc}' | '\u{1b000}'..='\u{1b16f}' | '\u{20000}'..='\u{3ffff}')
}

/// Returns whether `c` is a mark on the previous letter that does not count as a letter
/// itself. The standard library does not distinguish these from punctuation.
fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5bd}' | '\u{64b}'..='\u{65f}'
        // Vowel signs and viramas of Indian scripts, tone marks of Thai and Lao.
        | '\u{93c}' | '\u{94d}' | '\u{9bc}' | '\u{9cd}' | '\u{a3c}' | '\u{a4d}' | '\u{abc}'
        | '\u{acd}' | '\u{b3c}' | '\u{b4d}' | '\u{bcd}' | '\u{c4d}' | '\u{cbc}' | '\u{ccd}'
        | '\u{d4d}' | '\u{dca}' | '\u{e38}'..='\u{e4e}' | '\u{eb8}'..='\u{ecd}'
        | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{3099}' | '\u{309a}'
        | '\u{fe20}'..='\u{fe2f}')
}

#[cfg(test)]
mod tests {
    use super::is_boundary;

    #[test]
    fn a_word_continues_only_in_its_own_script() {
        for (inside, outside, expected) in [
            ('a', 'b', false),
            ('a', '9', false),
            ('a', 'é', false),
            ('é', 'a', false),
            ('д', 'ж', false),
            ('a', '_', true),
            ('a', '-', true),
            ('a', '请', true),
            ('请', '请', true),
            ('請', 'a', true),
            ('ไ', 'ก', true),
            ('a', 'д', true),
            ('a', 'ａ', true),
            ('a', '\u{301}', true),
            ('a', '\u{200d}', true),
            ('a', '\u{a0}', true),
            ('_', 'a', true),
        ] {
            assert_eq!(is_boundary(inside, outside), expected, "{inside:?} {outside:?}");
        }
    }
}
