//! Decodes one layer of escapes and keeps the origin of each byte. Handles percent
//! escapes, the escapes of JSON, Rust, C and JavaScript, and the backslash that Markdown
//! puts before punctuation.

use memchr::memchr2_iter;

/// A text whose escapes have been decoded.
pub(super) struct Decoded {
    pub(super) text: String,
    /// The offset in the escaped text where each byte of `text` began, followed by the
    /// length of the escaped text.
    origins: Vec<usize>,
}

impl Decoded {
    /// Returns the offset in the escaped text where byte `at` of the decoded text began.
    pub(super) fn origin(&self, at: usize) -> usize {
        self.origins[at]
    }
}

/// Decodes one layer of escapes. Returns `None` if `escaped` has none.
pub(super) fn decode(escaped: &str) -> Option<Decoded> {
    let bytes = escaped.as_bytes();
    let mut out = Out { bytes: Vec::new(), origins: Vec::new() };
    let mut copied = 0;
    for at in memchr2_iter(b'%', b'\\', bytes) {
        if at < copied {
            continue;
        }
        let Some((decoded, end)) = escape(&bytes[at..]) else { continue };
        out.copy(bytes, copied..at);
        match decoded {
            Escape::Byte(byte) => out.push(&[byte], at),
            Escape::Char(c) => out.push(c.encode_utf8(&mut [0; 4]).as_bytes(), at),
        }
        copied = at + end;
    }
    if copied == 0 {
        return None;
    }
    out.copy(bytes, copied..bytes.len());
    out.origins.push(bytes.len());
    Some(Decoded { text: into_text(out.bytes), origins: out.origins })
}

struct Out {
    bytes: Vec<u8>,
    origins: Vec<usize>,
}

impl Out {
    fn copy(&mut self, bytes: &[u8], range: std::ops::Range<usize>) {
        self.bytes.extend_from_slice(&bytes[range.clone()]);
        self.origins.extend(range);
    }

    fn push(&mut self, bytes: &[u8], origin: usize) {
        self.bytes.extend_from_slice(bytes);
        self.origins.extend(bytes.iter().map(|_| origin));
    }
}

enum Escape {
    Byte(u8),
    Char(char),
}

/// Returns the escape at the start of `bytes`, and its length.
fn escape(bytes: &[u8]) -> Option<(Escape, usize)> {
    let character = |c, length| Some((Escape::Char(c), length));
    match (bytes.first()?, bytes.get(1)?) {
        // Written by JavaScript's `escape`.
        (b'%', b'u') => character(char::from_u32(hex(bytes, 2, 4)?)?, 6),
        (b'%', _) => Some((Escape::Byte(u8::try_from(hex(bytes, 1, 2)?).ok()?), 3)),
        (b'\\', b'u') if bytes.get(2) == Some(&b'{') => {
            let digits = bytes[3..].iter().take(7).position(|byte| *byte == b'}')?;
            character(char::from_u32(hex(bytes, 3, digits)?)?, digits + 4)
        }
        (b'\\', b'u') => match hex(bytes, 2, 4)? {
            high @ 0xd800..=0xdbff if bytes.get(6..8) == Some(br"\u") => {
                let low = hex(bytes, 8, 4).filter(|low| (0xdc00..=0xdfff).contains(low))?;
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                character(char::from_u32(code)?, 12)
            }
            code => character(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
        },
        (b'\\', b'U') => character(char::from_u32(hex(bytes, 2, 8)?)?, 10),
        (b'\\', b'x') => character(char::from_u32(hex(bytes, 2, 2)?)?, 4),
        (b'\\', b'a' | b'b' | b'e' | b'f' | b'n' | b'r' | b't' | b'v') => character('\n', 2),
        // Bytes of UTF-8 as C and Git write them. A single digit is a group of a regular
        // expression, except in the escape of NUL.
        (b'\\', first @ b'0'..=b'7') => {
            let is_octal = |byte: &&u8| matches!(**byte, b'0'..=b'7');
            let most = if *first <= b'3' { 3 } else { 2 };
            let digits = bytes[1..].iter().take(most).take_while(is_octal).count();
            let byte = u8::try_from(number(bytes, 1, digits, 8)?).ok()?;
            (digits > 1 || byte == 0).then_some((Escape::Byte(byte), 1 + digits))
        }
        (b'\\', plain) if plain.is_ascii_punctuation() => character(char::from(*plain), 2),
        _ => None,
    }
}

fn hex(bytes: &[u8], from: usize, digits: usize) -> Option<u32> {
    number(bytes, from, digits, 16)
}

/// Parses `digits` digits of `radix` at `from`. Returns `None` if `digits` is 0.
fn number(bytes: &[u8], from: usize, digits: usize, radix: u32) -> Option<u32> {
    let digits = bytes.get(from..from + digits).filter(|digits| !digits.is_empty())?;
    digits
        .iter()
        .try_fold(0, |value, digit| Some(value * radix + char::from(*digit).to_digit(radix)?))
}

/// Converts `bytes` to text of the same length. Invalid UTF-8 becomes control characters,
/// which are not part of any identifier.
fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let mut text = String::with_capacity(error.as_bytes().len());
        for chunk in error.as_bytes().utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| '\u{7f}'));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn one_layer_of_each_escape_is_decoded_with_the_origin_of_every_byte() {
        for (escaped, text) in [
            ("%40alice%3Aexample.org", "@alice:example.org"),
            (r"\u0040alice\u003aex\/y", "@alice:ex/y"),
            (r"\\u0040", r"\u0040"),
            ("%2540", "%40"),
            (r"\ud83d\ude00 \ud83d", "\u{1f600} \u{fffd}"),
            (r"%C3%A9 %ff\x40", "\u{e9} \u{7f}@"),
            (r"\u{40}\u{1F600}%u0040", "@\u{1f600}@"),
            (r"\100a\303\274", "@a\u{fc}"),
            (r"\U00000040a\72b\568\0c", "@a:b.8\0c"),
            (r"a\.b\@c\_d", "a.b@c_d"),
        ] {
            let decoded = decode(escaped).unwrap();
            assert_eq!(decoded.text, text);
            assert_eq!(decoded.origins.len(), text.len() + 1);
            assert!(decoded.origins.is_sorted());
            assert!(decoded.origins.iter().all(|at| escaped.is_char_boundary(*at)));
        }
    }

    #[test]
    fn text_without_valid_escapes_is_not_decoded() {
        for text in [
            "",
            "plain",
            "100 %",
            "%",
            "%4",
            "%zz",
            "\\",
            r"\u12",
            r"C:\dir",
            "50%!",
            r"\u{}",
            "%u12",
            r"\1",
            r"\189",
            r"\U0000004",
            r"\u{110000}",
        ] {
            assert!(decode(text).is_none(), "{text}");
        }
    }
}
