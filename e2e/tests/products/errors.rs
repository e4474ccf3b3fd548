//! The errors of the examples: one line that names the thing to fix.

use matrix_analytics_examples::Collector;
use tokio::net::TcpListener;

use super::program::Program;
use crate::{
    homeserver::Homeserver,
    user::User,
    waiting::{Result, ensure},
};

/// A mistake, the arguments that contain it, and the expected exit code and message.
struct Case<'a> {
    what: &'static str,
    homeserver: &'a str,
    login: &'a [&'a str],
    code: i32,
    says: &'static str,
}

pub(super) async fn read_well(homeserver: &Homeserver) -> Result<String> {
    homeserver.register("erna").await?;
    let guest = User::register_guest(&homeserver.url).await?;
    let website = Collector::start().await?;
    // Accepts connections, and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").await?;
    let mute_url = format!("http://{}", mute.local_addr()?);
    // A port that was in use a moment ago, and is free now.
    let gone = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let gone_url = format!("http://{gone}");
    let website_url = website.url();
    let right = ["--user", "erna", "--password", homeserver.password()];
    let wrong = ["--user", "erna", "--password", "not-the-password"];
    let token = |token| ["--token", token];
    let (guest, stale) = (token(&*guest.token), token("not-a-token"));

    let unreachable = "the homeserver cannot be reached: ";
    let case = |what, homeserver, login, code, says| Case { what, homeserver, login, code, says };
    let cases = [
        case("no URL", "matrix.example.org", &right[..], 2, "`matrix.example.org` is not the URL"),
        case("no server", &gone_url, &right, 4, unreachable),
        case("no such host", "https://homeserver.invalid", &right, 4, unreachable),
        case("no answer", &mute_url, &right, 4, unreachable),
        case(
            "another web server",
            &website_url,
            &right,
            4,
            "the server is not a Matrix homeserver: ",
        ),
        case("wrong password", &homeserver.url, &wrong, 3, "the homeserver refused the login: "),
        case("stale token", &homeserver.url, &stale, 3, "the homeserver refused the login: "),
        case(
            "a guest",
            &homeserver.url,
            &guest,
            5,
            "the homeserver does not let this account hold",
        ),
    ];
    let mut shown = String::new();
    for case in cases {
        let output = consent(&case).await?;
        shown.push_str(&format!("    {:<19} {output}\n", case.what));
        if case.login.contains(&"--user") {
            let output = bot(&case).await?;
            shown.push_str(&format!("    {:<19} {output}\n", ""));
        }
    }
    Ok(shown)
}

async fn consent(case: &Case<'_>) -> Result<String> {
    let arguments = [&["status", "--homeserver", case.homeserver], case.login].concat();
    run("consent", &arguments, case, case.code).await
}

async fn bot(case: &Case<'_>) -> Result<String> {
    let operator = ["--operator", "@erna:localhost", "--homeserver", case.homeserver];
    run("bot", &[&operator, case.login].concat(), case, 1).await
}

async fn run(example: &str, arguments: &[&str], case: &Case<'_>, code: i32) -> Result<String> {
    let ended = Program::start(example, arguments)?.end().await?;
    let output = &ended.output;
    let words = format!("{example}: {}", case.says);
    ensure(format!("{}: ends with {code}: {ended:?}", case.what), ended.code == Some(code))?;
    ensure(format!("{}: begins with {words:?}: {output}", case.what), output.starts_with(&words))?;
    ensure(format!("one line: {output}"), output.lines().count() == 1 && output.len() < 240)?;
    // The message is for users: no Rust, and no secret.
    for bad in ["{", "Some(", "Error(", "not-the-password", "not-a-token"] {
        ensure(format!("no {bad:?} in: {output}"), !output.contains(bad))?;
    }
    Ok(ended.output)
}
