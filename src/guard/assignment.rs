//! Parses the text between the name of a secret and its value, in any language and log
//! format.

use super::cost;

/// The longest assignment in bytes, without spaces and including the type names around
/// the value.
const MAX_ASSIGNMENT: usize = 64;
/// The longest name of a type or field within an assignment.
const MAX_WORD: usize = 32;
/// The maximum number of number signs around a raw string.
const MAX_HASHES: usize = 8;

/// The text between a name and its value.
pub(super) struct Assignment {
    /// The position where the value starts.
    pub(super) end: usize,
    /// How clearly the text assigns a value.
    pub(super) clarity: Clarity,
    /// The quote that is open at the start of the value.
    pub(super) quote: Option<Quote>,
}

/// How clearly a text assigns a value, in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Clarity {
    /// Spaces alone, or a comma, which also occurs in lists and prose.
    None,
    /// A bar, as between the columns of a table.
    Bar,
    /// Any other assignment.
    Clear,
}

/// A quotation mark and the backslashes before it.
#[derive(Clone, Copy)]
pub(super) struct Quote {
    mark: u8,
    layer: usize,
}

impl Quote {
    /// Returns the quotation mark at `at`.
    fn at(bytes: &[u8], at: usize) -> Self {
        Self { mark: bytes[at], layer: layer_of_quote(bytes, at) }
    }

    /// Returns where the quotation whose text starts at `start` is closed on its line.
    ///
    /// A mark that opens a quotation also closes the previous one if both have the same
    /// layer. With three kinds of marks and four layers, no byte is searched more than 12
    /// times.
    pub(super) fn end(self, bytes: &[u8], start: usize) -> Option<usize> {
        let mut from = start;
        loop {
            let length = memchr::memchr2(self.mark, b'\n', &bytes[from..]);
            cost::add(length.unwrap_or(bytes.len() - from) / 8 + 1);
            let at = from + length?;
            if bytes[at] == b'\n' {
                return None;
            }
            if layer_of_quote(bytes, at) == self.layer {
                return Some(at);
            }
            from = at + 1;
        }
    }
}

/// Returns the escape layer of the quotation mark at `at`, from the number of backslashes
/// before it: 0 for `"` and for `\\"`, which ends with a backslash; 1 for `\"`; 3 for
/// `\\\"`, an escaped mark in the layer of `\"`; 7 for all deeper layers.
fn layer_of_quote(bytes: &[u8], at: usize) -> usize {
    let count = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
    cost::add(count);
    match count {
        _ if count % 2 == 0 => 0,
        _ if count % 4 == 1 => 1,
        _ if count % 8 == 3 => 3,
        _ => 7,
    }
}

impl Assignment {
    /// Parses the assignment after the name that ends at `start`: any sequence of
    /// assignment signs, quotes and brackets of all scripts, and the names of types and
    /// fields around a value.
    pub(super) fn after(text: &str, start: usize) -> Option<Self> {
        let is_plural = matches!(text.as_bytes().get(start), Some(b's' | b'S'));
        let start = start + usize::from(is_plural);
        let assignment = Self::read(text, start, false)?;
        (assignment.end > start).then_some(assignment)
    }

    /// Parses the remainder of an assignment at the start of `text`, a text whose key is
    /// the name.
    pub(super) fn within(text: &str) -> Option<Self> {
        Some(Self { clarity: Clarity::Clear, ..Self::read(text, 0, true)? })
    }

    /// Parses from `start`. A value may begin there only if `is_assigned`.
    fn read(text: &str, start: usize, is_assigned: bool) -> Option<Self> {
        let bytes = text.as_bytes();
        let (mut at, mut spaces) = (start, 0);
        let (mut clarity, mut in_struct, mut quote) = (Clarity::None, false, None);
        while at < bytes.len() {
            if at - start - spaces > MAX_ASSIGNMENT {
                return None;
            }
            let c = text[at..].chars().next()?;
            cost::add(1);
            match c {
                _ if c.is_whitespace() => {
                    spaces += c.len_utf8();
                    quote = quote.filter(|_| c.is_ascii());
                }
                '-' if matches!(bytes.get(at + 1), Some(b'>' | b' ')) => {}
                '"' | '\'' | '`' => {
                    quote = Some(Quote::at(bytes, at));
                    clarity = Clarity::Clear;
                }
                '=' | ':' | '>' | '<' | '(' | ')' | '[' | ']' | '{' | '}' | '*' | '\\' => {
                    quote = None;
                    in_struct |= c == '{';
                    clarity = Clarity::Clear;
                }
                '|' | ',' => {
                    quote = None;
                    clarity = clarity.max(if c == '|' { Clarity::Bar } else { Clarity::None });
                }
                _ if !c.is_ascii() && !c.is_alphanumeric() => {
                    quote = None;
                    clarity = Clarity::Clear;
                }
                _ if at == start && !is_assigned => break,
                _ => {
                    if let Some(mark) = string_prefix(bytes, at) {
                        at = mark;
                        continue;
                    }
                    let Some((next, opens)) = wrapper_at(bytes, at, in_struct) else { break };
                    clarity = Clarity::Clear;
                    in_struct |= opens;
                    at = next;
                    continue;
                }
            }
            at += c.len_utf8();
        }
        Some(Self { end: at, clarity, quote })
    }
}

/// Returns the position of the quotation mark of the string literal at `at` if the
/// literal has a prefix: `b"…"`, `r#"…"#`.
fn string_prefix(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let letters =
        rest.iter().take(2).take_while(|b| matches!(b, b'b' | b'c' | b'f' | b'r' | b'u')).count();
    let hashes = rest[letters..].iter().take(MAX_HASHES).take_while(|b| **b == b'#').count();
    cost::add(letters + hashes);
    let has_mark = matches!(rest.get(letters + hashes), Some(b'"' | b'\''));
    (letters > 0 && has_mark).then_some(at + letters + hashes)
}

/// Returns the end of the type name at `at` that is followed by an opening bracket, as in
/// `Some(` and `Token {`, or of a field name, as in `value: `. The second value is true
/// if it opens a struct.
fn wrapper_at(bytes: &[u8], at: usize, in_struct: bool) -> Option<(usize, bool)> {
    let word = &bytes[at..bytes.len().min(at + MAX_WORD + 1)];
    let is_path = |at: usize| word.get(at..at + 2) == Some(b"::");
    let is_word = |at: &usize| {
        word[*at].is_ascii_alphanumeric()
            || word[*at] == b'_'
            || is_path(*at)
            || (*at > 0 && is_path(*at - 1))
    };
    let length = (0..word.len()).take_while(is_word).count();
    cost::add(length);
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
