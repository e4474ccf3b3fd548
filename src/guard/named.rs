//! Finds secrets without a recognisable form by the name before them: `access_token:
//! Some("…")`, `apiKey=…`, `Authorization: Basic …`.
//!
//! A name is recognised by its last word, in any spelling. An assignment of any language
//! or log format must follow, then a value that looks like a secret. Prose such as
//! "access token expired" contains the same words.

use std::ops::Range;

use super::{
    assignment::{Assignment, Clarity},
    cost,
    kind::IdentifierKind,
    runs::Runs,
    token::is_mixed,
};

/// The last word of a secret's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// `token`: a secret if a preceding word says so, or if its value is clearly random.
    /// Servers also use the word for stream positions.
    Token,
    /// `bearer`, which needs no assignment.
    Bearer,
    /// `authorization`, whose value has a scheme before the secret.
    Authorization,
    /// `secret`, `api_key`.
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
/// The schemes of `Authorization` that are followed by a list of parameters.
const SCHEMES_WITH_PARAMETERS: [&[u8]; 6] =
    [b"digest", b"oauth", b"hawk", b"signature", b"x-matrix", b"aws4-hmac-sha256"];
/// The longest scheme of `Authorization`.
const MAX_SCHEME: usize = 24;

/// The shortest value that is treated as a secret: the first with a digit, the second
/// without.
const SHORTEST_SECRET: usize = 16;
const SHORTEST_LETTERS: usize = 20;
const SHORTEST_PASSWORD: usize = 6;
/// The length of the prefix that is examined of a value without a digit.
const DECISIVE: usize = 32;
/// The longest quoted password, which may contain spaces.
const MAX_QUOTED: usize = 256;

/// The complete name of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SecretName {
    name: Name,
    /// Whether `name` itself, or a word before it, marks the value as a secret.
    is_qualified: bool,
}

impl SecretName {
    /// Returns the name whose last word, `name`, is at `at` in `text`.
    pub(super) fn at(name: Name, text: &str, at: usize) -> Self {
        let is_qualified = name != Name::Token || is_qualified(text.as_bytes(), at);
        Self { name, is_qualified }
    }

    fn kind(self) -> IdentifierKind {
        match self.name {
            Name::Token | Name::Bearer => IdentifierKind::Token,
            Name::Authorization | Name::Secret | Name::Password => IdentifierKind::Credentials,
        }
    }

    /// Returns the least clear assignment that is accepted after this name.
    fn least_clarity(self) -> Clarity {
        match self.name {
            // Only these two are recognised with a space alone before the value, as in
            // `access_token abc` and `Bearer abc`.
            Name::Bearer => Clarity::None,
            Name::Token if self.is_qualified => Clarity::None,
            // Their values do not look like the title of the next column.
            Name::Token | Name::Authorization | Name::Secret => Clarity::Bar,
            Name::Password => Clarity::Clear,
        }
    }
}

/// The search for secrets after names, from the start of a text to its end.
pub(super) struct NamedSecrets<'a> {
    text: &'a str,
    /// Bytes of passwords and other secrets without quotes.
    passwords: Runs,
    secrets: Runs,
    lines: Runs,
    /// Runs between white space. The next two are runs between digits and between letters.
    solid: Runs,
    without_digit: Runs,
    without_letter: Runs,
}

/// Returns whether `byte` can be part of an unquoted password.
fn is_password_byte(byte: u8) -> bool {
    !matches!(byte, 0..=b' ' | 0x7f | b'"' | b'\'' | b'`' | b'&' | b',' | b';')
        && !matches!(byte, b')' | b']' | b'}' | b'<' | b'>')
}

impl<'a> NamedSecrets<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let is_secret = |byte: u8| byte.is_ascii() && byte != b'\\' && is_password_byte(byte);
        let ends_sentence = |byte| matches!(byte, b'.' | b'\\');
        Self {
            text,
            passwords: Runs::trimmed(is_password_byte, ends_sentence),
            secrets: Runs::trimmed(is_secret, ends_sentence),
            lines: Runs::of(|byte| byte != b'\n'),
            solid: Runs::of(|byte| !byte.is_ascii_whitespace()),
            without_digit: Runs::of(|byte| !byte.is_ascii_digit()),
            without_letter: Runs::of(|byte| byte.is_ascii() && !byte.is_ascii_alphabetic()),
        }
    }

    /// Returns the secret after the name whose last word is at `word`.
    pub(super) fn behind(
        &mut self,
        name: Name,
        word: Range<usize>,
    ) -> Option<(Range<usize>, IdentifierKind)> {
        let name = SecretName::at(name, self.text, word.start);
        let assignment = Assignment::after(self.text, word.end)?;
        if assignment.clarity < name.least_clarity() {
            return None;
        }
        let range = match name.name {
            Name::Password => self.password(&assignment),
            _ => self.secret(name, &assignment),
        };
        Some((range?, name.kind()))
    }

    /// Returns the secret in the text, given that the key of its property is `name`.
    pub(super) fn under(&mut self, name: SecretName) -> Option<(Range<usize>, IdentifierKind)> {
        let range = match name.name {
            Name::Password => Some(0..self.text.len()).filter(|all| self.is_password(all)),
            _ => self.secret(name, &Assignment::within(self.text)?),
        };
        Some((range?, name.kind()))
    }

    /// Returns the secret after `assignment`: the whole quotation if it contains no
    /// space, or else everything up to a byte that ends the secret.
    fn secret(&mut self, name: SecretName, assignment: &Assignment) -> Option<Range<usize>> {
        let bytes = self.text.as_bytes();
        let quoted = assignment.quote.and_then(|quote| quote.end(bytes, assignment.end));
        let mut range = self.word(assignment.end, quoted);
        if name.name == Name::Authorization
            && let Some(start) = behind_scheme(bytes, &range)
        {
            let scheme = &bytes[range];
            if scheme.eq_ignore_ascii_case(b"bearer") {
                // `Bearer` is a name itself, so its secret is found separately.
                return None;
            }
            let has_parameters =
                SCHEMES_WITH_PARAMETERS.iter().any(|known| scheme.eq_ignore_ascii_case(known));
            range = if has_parameters {
                start..quoted.unwrap_or_else(|| self.lines.end(bytes, start)).max(start)
            } else {
                self.word(start, quoted)
            };
        }
        let is_secret = match name.is_qualified {
            true => self.is_secret(&range),
            false => is_random(&bytes[range.clone()]),
        };
        is_secret.then_some(range)
    }

    /// Returns the text from `start` to `quoted`, the end of its quotation, or to the
    /// first space before that.
    fn word(&mut self, start: usize, quoted: Option<usize>) -> Range<usize> {
        let bytes = self.text.as_bytes();
        let start = start.min(bytes.len());
        match quoted.filter(|end| (start..=self.solid.end(bytes, start)).contains(end)) {
            Some(end) => start..without_backslashes(bytes, start, end),
            None => start..self.secrets.end(bytes, start),
        }
    }

    /// Returns the password after `assignment`: the whole quotation, or else everything
    /// up to a space.
    fn password(&mut self, assignment: &Assignment) -> Option<Range<usize>> {
        let (start, bytes) = (assignment.end, self.text.as_bytes());
        let quoted = assignment.quote.and_then(|quote| quote.end(bytes, start));
        let end = match quoted.filter(|end| end - start <= MAX_QUOTED) {
            Some(end) => without_backslashes(bytes, start, end),
            None => self.passwords.end(bytes, start),
        };
        Some(start..end).filter(|range| self.is_password(range))
    }

    /// Returns whether `range`, which follows the name of a password, is one.
    fn is_password(&mut self, range: &Range<usize>) -> bool {
        let bytes = self.text.as_bytes();
        let is_chosen = range.len() >= SHORTEST_PASSWORD
            && self.has_digit(range)
            && self.without_letter.end(bytes, range.start) < range.end;
        (is_chosen && !is_error_code(&bytes[range.clone()])) || self.is_secret(range)
    }

    /// Returns whether `range`, which follows the name of a secret, is one.
    fn is_secret(&mut self, range: &Range<usize>) -> bool {
        let value = &self.text.as_bytes()[range.clone()];
        if is_error_code(value) {
            return false;
        }
        let start = &value[..value.len().min(DECISIVE)];
        cost::add(start.len());
        (value.len() >= SHORTEST_SECRET && self.has_digit(range))
            || (value.len() >= SHORTEST_LETTERS && !reads_like_words(start))
    }

    fn has_digit(&mut self, range: &Range<usize>) -> bool {
        self.without_digit.end(self.text.as_bytes(), range.start) < range.end
    }
}

/// Returns the start of the secret after the scheme of `Authorization`, if `word` can be
/// a scheme. Any scheme is accepted.
fn behind_scheme(bytes: &[u8], word: &Range<usize>) -> Option<usize> {
    let scheme = bytes.get(word.clone()).filter(|scheme| scheme.len() <= MAX_SCHEME)?;
    let is_scheme = scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let spaces = bytes[word.end..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    cost::add(scheme.len() + spaces);
    (is_scheme && !scheme.is_empty() && spaces > 0).then_some(word.end + spaces)
}

/// Moves `end` before the backslashes that escape the quotation mark there.
fn without_backslashes(bytes: &[u8], start: usize, end: usize) -> usize {
    let count = bytes[start..end].iter().rev().take_while(|byte| **byte == b'\\').count();
    cost::add(count);
    end - count
}

/// Returns whether `value` is a Matrix error code, such as `M_WEAK_PASSWORD`.
fn is_error_code(value: &[u8]) -> bool {
    const LONGEST: usize = 64;

    let is_code = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    cost::add(value.len().min(2));
    value.starts_with(b"M_") && value.len() <= LONGEST && value.iter().all(is_code)
}

/// Returns whether a word before the `token` at `at` marks it as a secret.
fn is_qualified(bytes: &[u8], at: usize) -> bool {
    let before = &bytes[..at];
    let separator = before.last().is_some_and(|byte| matches!(byte, b'_' | b'-' | b' ' | b'.'));
    let before = &before[..before.len() - usize::from(separator)];
    QUALIFIERS.iter().any(|word| {
        let Some(start) = before.len().checked_sub(word.len()) else { return false };
        let found = &before[start..];
        // `id` is also the end of other words, such as `invalid`.
        let begins = word.len() > 2
            || before[..start].last().is_none_or(|byte| {
                !byte.is_ascii_alphabetic()
                    || (byte.is_ascii_lowercase() && found[0].is_ascii_uppercase())
            });
        begins && found.eq_ignore_ascii_case(word)
    })
}

/// Returns whether `value` is random enough to be a secret under any name.
fn is_random(value: &[u8]) -> bool {
    value.len() >= SHORTEST_LETTERS && is_mixed(value)
}

/// Returns whether `text` consists of words as programs join them, `snake_case` or
/// `camelCase`, each of 3 to 14 letters.
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
