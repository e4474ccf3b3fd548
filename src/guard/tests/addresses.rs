//! IP addresses, and texts of the same form: versions, object identifiers, paths.

use super::{Context, assert_left_alone, redacted, scanner};

#[test]
fn an_address_is_found_within_any_run_of_digits() {
    for (text, expected) in [
        ("81.187.23.9.443", "[ip_address]"),
        ("IP 81.187.23.9.443 > 10.0.12.1.51234: Flags", "IP [ip_address] > [ip_address]: Flags"),
        ("2001:db8::81.187.23.9", "[ip_address]"),
        ("peer 64:ff9b::81.187.23.9, up", "peer [ip_address], up"),
        ("::ffff:081.187.023.009", "[ip_address]"),
        ("081.187.023.009", "[ip_address]"),
        ("81.187.23.9:81.187.23.10", "[ip_address]:[ip_address]"),
        ("81.187.23.9:443:81.187.23.10:80", "[ip_address]:[ip_address]"),
        ("81.187.23.9:f", "[ip_address]:f"),
        ("...81.187.23.9...", "...[ip_address]..."),
        (":81.187.23.9:", ":[ip_address]:"),
        ("81.187.23.9::1", "[ip_address][ip_address]"),
        ("::1:81.187.23.9::1:81.187.23.10", "[ip_address][ip_address]"),
        ("81.187.23.9:fe80::1", "[ip_address]:[ip_address]"),
        ("2001:db8:0:0:0:0:0:1:8448", "[ip_address]"),
        ("line:fe80::1.", "line:[ip_address]."),
        ("a=fe80::1:", "a=[ip_address]:"),
        ("fe80::/10", "[ip_address]/10"),
        ("[2001:db8::7]:8448/x", "[ip_address]/x"),
        ("localhost/81.187.23.9:443", "localhost/[ip_address]"),
        ("matrix.example.org/81.187.23.9", "matrix.example.org/[ip_address]"),
        ("http://81.187.23.9/", "http://[ip_address]/"),
        ("conversion=81.187.23.9", "conversion=[ip_address]"),
        ("{\"conversion\":\"81.187.23.9\"}", "{\"conversion\":\"[ip_address]\"}"),
        ("inversion: 81.187.23.9", "inversion: [ip_address]"),
        ("81.187.23.9.backup", "[ip_address].backup"),
        ("81.187.23.9.fritz.box", "[ip_address].fritz.box"),
        ("node.81.187.23.9", "node.[ip_address]"),
        ("cafe.81.187.23.9.443", "cafe.[ip_address]"),
        ("peer_2001:db8:85a3:1:2:8a2e:370:7334", "peer_[ip_address]"),
        ("2001:db8:85a3::7334_443", "[ip_address]_443"),
        ("<b>2001:db8:1234::</b>", "<b>[ip_address]</b>"),
        ("2001:db8:1234::*", "[ip_address]*"),
    ] {
        assert_eq!(redacted(text), expected, "{text}");
    }
}

#[test]
fn text_that_only_has_the_form_of_an_address_is_left_alone() {
    for text in [
        "Mozilla/5.0 (Linux; U; Android 4.4.2; en-US) UCBrowser8.4.0.159",
        "UCBrowser/8.4.0.159",
        "Mozilla/5.0 (Windows; U; rv:1.9.1.11) Gecko/20100701 Firefox/3.5.11",
        "Mozilla/5.0 (Linux) Vivaldi/6.5.3206.39 MiuiBrowser/17.8.70.6 OPR/99.0.88.12",
        "2.5.29.31",
        "1.3.101.112",
        "Ed25519 (1.3.101.112), X25519 (1.3.101.110)",
        "is_fade::b1_c",
        "OID 2.5.4.97 and 1.3.6.1.5.5.7.3.1 and 1.3.132.0.34 and 1.2.840.113549.1.1.11",
        "f32::<_",
        "f32::<f64>",
        "core::f32::consts, f64::{self}",
        "version 10.20.30.40",
        "app_version=10.20.30.40",
        "appVersion: 10.20.30.40",
        "APP_VERSION='10.20.30.40'",
        "00:1a:2b:3c:4d:5e",
        "AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89",
        "10:20:30:40:50:60",
        "1.2.3.4.5.6",
        "20.10.30.40.50.60",
        "::1::1::1",
        ":::1",
        "300.10.20.30",
        "3.20.4.11.2",
    ] {
        assert_left_alone(text);
    }
}

#[test]
fn a_key_names_a_version_only_if_version_is_a_whole_word() {
    for key in [
        "version",
        "Version",
        "VERSION",
        "app_version",
        "appVersion",
        "app-version",
        "APP_VERSION",
        "versionName",
        "version_code",
        "os.version",
        "versions",
        "version2",
        "[user_id] version",
    ] {
        assert!(super::super::version::is_named_version(key), "{key}");
    }
    for key in [
        "conversion",
        "conversions",
        "inversion_of_control",
        "CONVERSION",
        "Subversion",
        "versioned",
        "diversion",
        "reversion",
        "versional",
        "",
    ] {
        assert!(!super::super::version::is_named_version(key), "{key}");
    }
}

#[test]
fn a_possible_version_under_a_version_key_is_left_alone() {
    let found = |text| scanner().scan(text, Context::Version).len();
    assert_eq!(found("10.20.30.40"), 0);
    assert_eq!(found("10.20.30.40:8448"), 1);
    assert_eq!(found("2001:db8::1"), 1);
}
