//! User names and passwords in URLs, recovery keys, signatures and other keys.

use super::{assert_left_alone, assert_nothing_left, redacted};

#[test]
fn the_user_and_password_of_a_url_are_redacted() {
    for (text, expected) in [
        // The password and the host look like an email address.
        ("https://user:password@host.example/", "https://[credentials]/"),
        ("https://user:password@host/", "https://[credentials]@host/"),
        ("postgres://app:s3cret@db:5432/x", "postgres://[credentials]@db:5432/x"),
        ("http://user@localhost:8008", "http://[credentials]@localhost:8008"),
        ("http://:pw@localhost/", "http://[credentials]@localhost/"),
        ("socks5h://u:p@w:x@127.0.0.1:1", "socks5h://[credentials]"),
        ("HTTPS://User:P%40ss@h/", "HTTPS://[credentials]@h/"),
        ("(ftp://me:pw$!@h/a)", "(ftp://[credentials]@h/a)"),
        ("https://u:p@[::1]:8448/", "https://[credentials]/"),
        ("url=https%3A%2F%2Fuser%3Apw%40host", "url=https%3A%2F%2F[credentials]%40host"),
        (r"https:\/\/user:pw@host\/", r"https:\/\/[credentials]@host\/"),
        ("\u{201c}https://user:pw@host\u{201d}", "\u{201c}https://[credentials]@host\u{201d}"),
    ] {
        assert_eq!(redacted(text), expected, "{text}");
    }
    for text in [
        "https://host.example/@user/page",
        "https://host.example/?to=a@b",
        "https://host.example#@x",
        "https://host.example, @here",
        "file:///home/@x",
        "https://[credentials]@host.example/",
        "https://@host/",
        "a://b c@d",
    ] {
        assert_left_alone(text);
    }
}

#[test]
fn a_recovery_key_is_found_with_and_without_spaces() {
    // Keys of 32 bytes that are 7, and of random bytes.
    let keys = [
        "EsT3 4kza y1Xs efFA tKyi HVwT kdEP 4UEk rvNr dFvy 8nGq AkqP",
        "EsTH piEm Dvyd dF9y THTF g951 taTn EZzQ dq7U Km4F kqdS yjRr",
    ];
    for key in keys {
        let joined = key.replace(' ', "");
        let words: Vec<_> = key.split(' ').collect();
        for text in [
            key.to_owned(),
            joined.clone(),
            format!("key: {key}."),
            format!("\"{joined}\""),
            key.replace(' ', "\u{a0}"),
            key.replace(' ', "\n"),
            key.replace(' ', "  "),
            key.replace(' ', "%20"),
            key.replace(' ', "+"),
            key.replace(' ', "-"),
        ] {
            assert_nothing_left(&text, &words);
        }
        assert_eq!(redacted(&format!("key {key} end")), "key [key] end");
    }
    for text in [
        "Este soir nous sont tous vont dans cett rues avec leur amis pour voir film",
        "EsTj 3yST y93F",
        "the test est this that",
    ] {
        assert_left_alone(text);
    }
}

#[test]
fn signatures_and_ids_of_stored_secrets_are_found() {
    let signature = "dSO80A01XiigH3uBiDVx/EjzaoycHcjq9lfQX0uWsqxl2giMIiSPR8a4d291W1ihKJL/\
                     a+myXS367WT6NAIcBA";
    let url_safe = signature.replace('/', "_").replace('+', "-");
    for text in [
        signature.to_owned(),
        format!("{signature}=="),
        format!("\"ed25519:1\": \"{signature}\""),
        format!("sig={url_safe}&x=1"),
    ] {
        assert_nothing_left(&text, &[&signature[..20], &signature[40..60], "6NAIcBA"]);
    }
    let text = "m.secret_storage.key.bmsvXkl2KWN8GSHXPNqCNFVmTtxvPRm1 is gone";
    assert_eq!(redacted(text), "m.secret_storage.key.[key] is gone");
    assert_left_alone("m.secret_storage.default_key and m.secret_storage.key.* are types");
}

#[test]
fn paths_and_symbols_are_not_keys() {
    for text in [
        "/docs/Web/API/CanvasRenderingContext2D/createLinearGradient",
        "https://developer.example/docs/Web/API/CanvasRenderingContext2D/getImageData",
        "https://developer.example/docs/Web/API/WebGL2RenderingContext/vertexAttribI4i",
        "src/Windows/Win32/NetworkManagement/P2P/mod",
        "2/src/Windows/Win32/System/MixedReality/mod",
        "Windows/Win32/System/DeveloperLicensing/mod",
        "HttpRequestTimingTypeHttp2HeaderDecodeStart",
        "_ZN5tokio7runtime4task7harness20Harness$LT$T$C$S$GT$4poll17h3f1f4d2b8f6ce9d5E",
        "_RNvXs_NtCs1234_7mycrate3fooNtB4_3BarNtNtCsabc_4core3fmt5Debug3fmt",
        "_RNvMs0_NtCsjHsOZ9sKwtn_12matrix_sdk6ClientNtB5_6Client4sync0aB3cD4eF5gH6iJ7kL8mN9oP",
    ] {
        assert_left_alone(text);
    }
}

/// Checks the rate in `docs/privacy.md`: about 3 in 10,000 random keys look like names.
#[test]
fn of_20_000_random_keys_at_most_ten_are_missed() {
    const KEYS: u32 = 20_000;

    let mut random = fastrand::Rng::with_seed(20_260_131);
    let mut scanner = super::scanner();
    let missed = (0..KEYS)
        .filter(|_| {
            let key: String = (0..43)
                .map(|_| {
                    const ALPHABET: &[u8; 64] =
                        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                    char::from(ALPHABET[random.usize(..64)])
                })
                .collect();
            scanner.scan(&key, super::Context::Anywhere).is_empty()
        })
        .count();
    assert!(missed <= 10, "{missed} of {KEYS}");
}
