//! Finds secrets in a text that have no form of their own, by the name before them:
//! `access_token: Some("…")`, `apiKey=…`, `Authorization: Basic …`.
//!
//! A name is known by its last word, however it is spelled. Then comes what assigns, in
//! any language and log format; then the value, which has to look like a secret: prose
//! such as "access token expired" has these words, too.

use std::ops::Range;

use memchr::memchr2;

use super::{kind::IdentifierKind, runs::Runs, token::is_mixed, work};

/// What the name of a secret ends with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// `token`: a secret if another word before says so, else if its value is clearly
    /// random. Servers call positions in a list tokens, too.
    Token,
    /// `bearer`, which no assignment has to follow.
    Bearer,
    /// `secret`, `api_key`, `authorization`.
    Secret,
    /// `password`, `passphrase`: chosen by people.
    Password,
}

/// The words before `token` that make it a secret.
const QUALIFIERS: [&[u8]; 11] = [
    b"access",
    b"refresh",
    b"login",
    b"auth",
    b"session",
    b"push",
    b"device",
    b"registration",
    b"api",
    b"bearer",
    b"id",
];
/// What stands before the value of `Authorization`. `Bearer` is a name itself.
const SCHEMES: [&[u8]; 5] = [b"basic", b"token", b"digest", b"apikey", b"negotiate"];

/// The longest assignment, with names of types around the value, in bytes.
const MAX_ASSIGNMENT: usize = 64;
/// The longest name of a type or of a field in it.
const MAX_WORD: usize = 24;
/// The shortest value with a digit that is taken for a secret, and without.
const SHORTEST_SECRET: usize = 16;
const SHORTEST_LETTERS: usize = 20;
const SHORTEST_PASSWORD: usize = 6;
/// How much of a value decides.
const DECISIVE: usize = 32;
/// The longest password in quotes, which may have spaces.
const MAX_QUOTED: usize = 128;

/// Looks for secrets behind names from the start of a text to its end.
pub(super) struct NamedSecrets<'a> {
    text: &'a str,
    values: Runs,
    /// What passwords without quotes consist of.
    words: Runs,
}

impl<'a> NamedSecrets<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let is_value = |byte: u8| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'.' | b'~' | b'=')
        };
        let is_word = |byte: u8| {
            !matches!(byte, 0..=b' ' | 0x7f | b'"' | b'\'' | b'`' | b'&' | b',' | b';')
                && !matches!(byte, b')' | b']' | b'}' | b'<' | b'>')
        };
        Self { text, values: Runs::of(is_value), words: Runs::of(is_word) }
    }

    /// Returns the secret behind the name of which the last word is at `word`.
    pub(super) fn behind(
        &mut self,
        name: Name,
        word: Range<usize>,
    ) -> Option<(Range<usize>, IdentifierKind)> {
        let is_qualified = name != Name::Token || is_qualified(self.text.as_bytes(), word.start);
        let assignment = Assignment::after(self.text, word.end)?;
        let kind = match name {
            Name::Token | Name::Bearer => IdentifierKind::Token,
            Name::Secret | Name::Password => IdentifierKind::Credentials,
        };
        // Only these two are read together with a value by a space alone: in
        // `access_token abc` and in `Bearer abc`.
        let needs_sign = name != Name::Bearer && (name != Name::Token || !is_qualified);
        if needs_sign && !assignment.has_sign {
            return None;
        }
        let range = if name == Name::Password {
            self.password(&assignment)?
        } else {
            let range = self.value(assignment.end);
            let range = match self.is_scheme(name, &range) {
                true => self.value(range.end + 1),
                false => range,
            };
            let value = &self.text.as_bytes()[range.clone()];
            let is_secret = if is_qualified { is_secret(value) } else { is_random(value) };
            is_secret.then_some(range)?
        };
        Some((range, kind))
    }

    /// Returns the value that starts at `start`, without the end of a sentence.
    fn value(&mut self, start: usize) -> Range<usize> {
        let start = start.min(self.text.len());
        let end = self.values.end(self.text.as_bytes(), start);
        let dots = self.text.as_bytes()[start..end].iter().rev().take_while(|b| **b == b'.');
        start..end - dots.count()
    }

    fn is_scheme(&self, name: Name, value: &Range<usize>) -> bool {
        let bytes = self.text.as_bytes();
        let value = &bytes[value.start..value.end.min(value.start + MAX_WORD)];
        name == Name::Secret && SCHEMES.iter().any(|scheme| value.eq_ignore_ascii_case(scheme))
    }

    /// Returns the password behind `assignment`: all that is in quotes, else all without
    /// a space.
    fn password(&mut self, assignment: &Assignment) -> Option<Range<usize>> {
        let start = assignment.end;
        let bytes = self.text.as_bytes();
        let quoted = assignment.quote.and_then(|quote| {
            let most = &bytes[start..bytes.len().min(start + MAX_QUOTED)];
            let length = memchr2(quote, b'\n', most)?;
            work::looked_at(length / 8 + 1);
            Some(start + length)
        });
        let end = quoted.unwrap_or_else(|| self.words.end(bytes, start));
        let end = start + self.text[start..end].trim_end_matches(['.', '\\']).len();
        let decisive = &bytes[start..end.min(start + DECISIVE)];
        work::looked_at(decisive.len());
        let is_chosen = decisive.len() >= SHORTEST_PASSWORD
            && decisive.iter().any(u8::is_ascii_digit)
            && decisive.iter().any(u8::is_ascii_alphabetic);
        (is_chosen || is_secret(&bytes[start..end])).then_some(start..end)
    }
}

/// Returns whether a word before the `token` at `at` makes it a secret.
fn is_qualified(bytes: &[u8], at: usize) -> bool {
    let before = &bytes[..at];
    let separator = before.last().is_some_and(|byte| matches!(byte, b'_' | b'-' | b' ' | b'.'));
    let before = &before[..before.len() - usize::from(separator)];
    QUALIFIERS.iter().any(|word| {
        let Some(start) = before.len().checked_sub(word.len()) else { return false };
        let found = &before[start..];
        // `id` is the end of other words, such as `invalid`.
        let begins = word.len() > 2
            || before[..start].last().is_none_or(|byte| {
                !byte.is_ascii_alphabetic()
                    || (byte.is_ascii_lowercase() && found[0].is_ascii_uppercase())
            });
        begins && found.eq_ignore_ascii_case(word)
    })
}

/// What stands between a name and its value.
struct Assignment {
    /// Where the value starts.
    end: usize,
    /// Whether there is more of it than spaces.
    has_sign: bool,
    /// The quote that is open where the value starts.
    quote: Option<u8>,
}

impl Assignment {
    /// Returns the assignment at `start`: any run of its signs, of quotes and brackets
    /// of all scripts, and of the names of the types and fields around a value.
    fn after(text: &str, start: usize) -> Option<Self> {
        let bytes = text.as_bytes();
        let mut at = start;
        if matches!(bytes.get(at), Some(b's' | b'S')) {
            at += 1;
        }
        let first = at;
        let (mut has_sign, mut in_struct, mut quote) = (false, false, None);
        while at < bytes.len() {
            if at - start > MAX_ASSIGNMENT {
                return None;
            }
            let c = text[at..].chars().next()?;
            work::looked_at(1);
            match c {
                ' ' | '\t' | '\n' | '\r' => {}
                '-' if matches!(bytes.get(at + 1), Some(b'>' | b' ')) => {}
                '"' | '\'' | '`' => quote = bytes.get(at).copied(),
                '=' | ':' | '>' | '<' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | ',' | '*'
                | '\\' => {
                    quote = None;
                    in_struct |= c == '{';
                }
                _ if !c.is_ascii() && !c.is_alphanumeric() => quote = None,
                _ => {
                    let word = wrapper_at(bytes, at, in_struct).filter(|_| at > first);
                    let Some((next, opens)) = word else { break };
                    has_sign = true;
                    in_struct |= opens;
                    at = next;
                    continue;
                }
            }
            has_sign |= !c.is_whitespace() && c != '-';
            at += c.len_utf8();
        }
        (at > first).then_some(Self { end: at, has_sign, quote })
    }
}

/// Returns the end of the name of a type at `at` that something opens behind, as in
/// `Some(` and `Token {`, or of a field in one, as in `value: `; and whether it opens a
/// struct.
fn wrapper_at(bytes: &[u8], at: usize, in_struct: bool) -> Option<(usize, bool)> {
    let word = bytes[at..].iter().take(MAX_WORD + 1);
    let is_word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
    let length = word.take_while(is_word).count();
    work::looked_at(length);
    let rest = &bytes[at + length..];
    match rest {
        _ if length == 0 || length > MAX_WORD => None,
        [b'(', ..] => Some((at + length + 1, false)),
        [b' ', b'{', ..] => Some((at + length + 2, true)),
        [b'{', ..] => Some((at + length + 1, true)),
        [b':', b' ' | b'"', ..] if in_struct => Some((at + length + 1, in_struct)),
        _ => None,
    }
}

/// Returns whether `value`, behind the name of a secret, is one.
fn is_secret(value: &[u8]) -> bool {
    let start = &value[..value.len().min(DECISIVE)];
    work::looked_at(start.len());
    let has_digit = start.iter().any(u8::is_ascii_digit);
    (value.len() >= SHORTEST_SECRET && has_digit)
        || (value.len() >= SHORTEST_LETTERS && !reads_like_words(start))
}

/// Returns whether `value` is random, whatever its name.
fn is_random(value: &[u8]) -> bool {
    value.len() >= SHORTEST_LETTERS && is_mixed(value)
}

/// Returns whether `text` consists of words as programs join them: `snake_case`,
/// `camelCase`, each of three to 14 letters.
fn reads_like_words(text: &[u8]) -> bool {
    text.split(|byte| !byte.is_ascii_alphabetic()).filter(|part| !part.is_empty()).all(|part| {
        let words = part.chunk_by(|a, b| !(a.is_ascii_lowercase() && b.is_ascii_uppercase()));
        words.into_iter().all(|word| {
            let rest = &word[1..];
            (3..=14).contains(&word.len())
                && (rest.iter().all(u8::is_ascii_lowercase)
                    || word.iter().all(u8::is_ascii_uppercase))
        })
    })
}
