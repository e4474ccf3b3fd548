//! Makes each change to arbitrary content of the account's event.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| matrix_analytics_fuzz::change_content(text));
