//! Finds recovery keys: the private keys of secret storage and key backup, in the form
//! shown to users.

use std::{ops::Range, sync::LazyLock};

use memchr::memmem::Finder;

use super::cost;

/// Two header bytes, the key, and a parity byte.
/// <https://spec.matrix.org/v1.18/appendices/#cryptographic-key-representation>
const BYTES: usize = 2 + 32 + 1;
const HEADER: [u8; 2] = [0x8b, 0x01];
/// With this header, the bytes always have 48 characters in base58 and the same first
/// ones.
const CHARS: usize = 48;
static START: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("Es"));
/// The number of characters between separators, if there are any.
const GROUP: usize = 4;
/// The longest separator, in characters. It may be a line break with indentation.
const SEPARATOR: usize = 4;

/// Passes each recovery key in `text`, with or without spaces, to `found`.
pub(super) fn recovery_keys(text: &str, mut found: impl FnMut(Range<usize>)) {
    let mut from = 0;
    for at in START.find_iter(text.as_bytes()) {
        if at >= from
            && let Some(end) = recovery_key_at(text, at)
        {
            from = end;
            found(at..end);
        }
    }
}

/// Returns the end of the recovery key at `at`, if it is not part of a longer word.
fn recovery_key_at(text: &str, at: usize) -> Option<usize> {
    if text.as_bytes()[..at].last().is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let mut digits = [0; CHARS];
    let (mut count, mut separator) = (0, 0);
    for (offset, c) in text[at..].char_indices() {
        cost::add(1);
        match digit(c) {
            Some(digit) => {
                digits[count] = digit;
                (count, separator) = (count + 1, 0);
            }
            // Most candidates fail at their first separator.
            None => {
                separator += 1;
                let is_separator = c.is_whitespace() || matches!(c, '+' | '-' | '\u{200b}');
                if !is_separator || !count.is_multiple_of(GROUP) || separator > SEPARATOR {
                    return None;
                }
            }
        }
        if count == CHARS {
            let end = at + offset + 1;
            let goes_on = text.as_bytes().get(end).is_some_and(u8::is_ascii_alphanumeric);
            return (!goes_on && is_recovery_key(&digits)).then_some(end);
        }
    }
    None
}

/// Returns whether the base58 `digits` are a key with valid header and parity.
fn is_recovery_key(digits: &[u8; CHARS]) -> bool {
    const LIMBS: usize = BYTES.div_ceil(4);

    cost::add(CHARS);
    // The number as 32-bit limbs, lowest first.
    let mut limbs = [0_u32; LIMBS];
    for group in digits.chunks_exact(GROUP) {
        let (mut carry, mut base) = (0, 1);
        for digit in group {
            (carry, base) = (carry * 58 + u64::from(*digit), base * 58);
        }
        for limb in &mut limbs {
            carry += u64::from(*limb) * base;
            (*limb, carry) = (carry as u32, carry >> 32);
        }
    }
    let mut bytes = [0; LIMBS * 4];
    for (bytes, limb) in bytes.chunks_exact_mut(4).zip(limbs.iter().rev()) {
        bytes.copy_from_slice(&limb.to_be_bytes());
    }
    let (zeros, bytes) = bytes.split_at(LIMBS * 4 - BYTES);
    zeros.iter().all(|byte| *byte == 0)
        && bytes.starts_with(&HEADER)
        && bytes.iter().fold(0, |parity, byte| parity ^ byte) == 0
}

/// Returns the value of `c` as a base58 digit.
fn digit(c: char) -> Option<u8> {
    const NONE: u8 = u8::MAX;
    static VALUES: [u8; 128] = {
        let alphabet = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
        let mut values = [NONE; 128];
        let mut value = 0;
        while value < 58 {
            values[alphabet[value as usize] as usize] = value;
            value += 1;
        }
        values
    };
    VALUES.get(c as usize).copied().filter(|value| *value != NONE)
}
