//! The screens in `examples/settings/screens`.

use std::{env, fs, path::Path};

use ratatui::buffer::Buffer;

/// The variable of the environment that makes the tests write the screens.
const BLESS: &str = "SETTINGS_BLESS";

/// What differs in each run: digits (`d`) and hexadecimal digits (`x`).
const CHANGING: [&str; 5] =
    ["xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "dddd-dd-dd", "dd:dd:dd", ":ddddd", "d.dd.d"];

/// Compares a screen with the stored one, or stores it if the variable is set.
pub(super) fn check(name: &str, screen: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("settings/screens");
    let path = directory.join(format!("{name}.txt"));
    let actual = masked(screen);
    #[expect(clippy::disallowed_methods, reason = "an author sets the variable for one run")]
    if env::var_os(BLESS).is_some() {
        fs::write(&path, &actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert!(
        actual == expected,
        "{name}, with {BLESS}=1 this is stored:\n{actual}\nnot\n{expected}"
    );
}

/// Returns the text of a screen, without the spaces at the end of each line.
pub(super) fn text(buffer: &Buffer) -> String {
    let rows = buffer.content().chunks(buffer.area().width.into());
    rows.map(|row| {
        let row: String = row.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", row.trim_end())
    })
    .collect()
}

/// Replaces what differs in each run by zeros.
fn masked(mut text: &str) -> String {
    let mut result = String::new();
    while let Some(first) = text.chars().next() {
        let shape = CHANGING.into_iter().find(|shape| begins(text, shape));
        let length = match shape {
            Some(shape) => {
                result.push_str(&shape.replace(['d', 'x'], "0"));
                // The fraction of a second has as many digits as it needs.
                let fraction = if shape == "dd:dd:dd" { fraction(&text[shape.len()..]) } else { 0 };
                shape.len() + fraction
            }
            None => {
                result.push(first);
                first.len_utf8()
            }
        };
        text = &text[length..];
    }
    result
}

fn begins(text: &str, shape: &str) -> bool {
    text.len() >= shape.len()
        && shape.bytes().zip(text.bytes()).all(|(expected, byte)| match expected {
            b'd' => byte.is_ascii_digit(),
            b'x' => byte.is_ascii_hexdigit(),
            _ => byte == expected,
        })
}

fn fraction(text: &str) -> usize {
    let Some(digits) = text.strip_prefix('.') else { return 0 };
    1 + digits.bytes().take_while(u8::is_ascii_digit).count()
}

#[test]
fn what_differs_in_each_run_is_replaced_by_zeros() {
    for (text, expected) in [
        ("at 127.0.0.1:34567.", "at 127.0.0.1:00000."),
        ("2026-01-31T12:34:56.789Z", "0000-00-00T00:00:00Z"),
        ("9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f", "00000000-0000-0000-0000-000000000000"),
        ("0.18.0", "0.00.0"),
        ("captured 12", "captured 12"),
    ] {
        assert_eq!(masked(text), expected);
    }
}
