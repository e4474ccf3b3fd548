//! The `consent` example: the user's decisions, and changes made elsewhere.

use serde_json::Value;
use tokio::time::Instant;

use super::program::Program;
use crate::{
    homeserver::Homeserver,
    waiting::{Result, ensure},
};

const ID: &str = "9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f";

pub(super) async fn watch(homeserver: &Homeserver) -> Result<String> {
    let user = homeserver.register("wanda").await?;
    let login = ["--homeserver", &homeserver.url, "--user", "wanda", "--password"];
    let watch = [&["watch", "--json"], &login[..], &[homeserver.password()]].concat();
    let program = Program::start("consent", &watch)?;
    let is = |line: &str, key: &str, value: &str| {
        serde_json::from_str::<Value>(line).is_ok_and(|state| state[key] == value)
    };
    let (at, _) =
        program.says("that nothing is decided", 0, |line| is(line, "prompt", "ask")).await?;

    let mut lags = Vec::new();
    let opted_in = format!(r#"{{"id":"{ID}","pseudonymousAnalyticsOptIn":true}}"#);
    let no = r#"{"pseudonymousAnalyticsOptIn":false}"#;
    let mut after = at + 1;
    for (content, key, value) in [(&*opted_in, "gate", "open"), (no, "decision", "denied")] {
        let began = Instant::now();
        user.overwrite(content).await?;
        let (at, _) = program.says(value, after, |line| is(line, key, value)).await?;
        lags.push(format!("{value} shown {} ms after the write", began.elapsed().as_millis()));
        after = at + 1;
    }
    program.interrupt().await?;
    let ended = program.end().await?;
    ensure(format!("it ends well: {ended:?}"), ended.code == Some(0))?;
    ensure("the ID is not shown unasked", !ended.output.contains(ID))?;
    Ok(format!("    {}", lags.join(", ")))
}

/// Each run logs in again, and is therefore another device of the account.
pub(super) async fn steps(homeserver: &Homeserver) -> Result<String> {
    let user = homeserver.register("carl").await?;
    // Another client's member survives everything except an erasure.
    let others = r#""org.example.other":{"big":1180591620717411303424}"#;
    let step = async |action: &str, says: &str| {
        let login = ["--homeserver", &homeserver.url, "--user", "carl", "--password"];
        let arguments = [&[action], &login[..], &[homeserver.password()]].concat();
        let ended = Program::start("consent", &arguments)?.end().await?;
        ensure(format!("{action} ends well: {ended:?}"), ended.code == Some(0))?;
        let decision = format!("decision:     {says}");
        ensure(format!("{decision:?} is in {ended:?}"), ended.output.contains(&decision))?;
        user.content().await
    };

    let (status, _) = step("status", "undecided").await?;
    ensure("a look writes nothing", status == 404)?;
    user.overwrite(&format!("{{{others}}}")).await?;

    let (_, opted_in) = step("opt-in", "granted").await?;
    let id = user.held_id().await?.ok_or("an ID was made")?;
    ensure(format!("a random UUID: {id}"), is_random_uuid(&id))?;
    ensure(opted_in.clone(), opted_in.contains(others))?;
    ensure(opted_in.clone(), opted_in.contains(r#""pseudonymousAnalyticsOptIn":true"#))?;
    let (_, seen) = step("status", "granted").await?;
    ensure("another device changes nothing", seen == opted_in)?;

    let (_, opted_out) = step("opt-out", "denied").await?;
    let no = format!(r#"{{{others},"pseudonymousAnalyticsOptIn":false}}"#);
    ensure(format!("an opt-out, and no ID: {opted_out}"), opted_out == no)?;
    let (_, seen) = step("status", "denied").await?;
    ensure("another device changes nothing", seen == opted_out)?;

    let erased = step("erase", "denied").await?;
    ensure(format!("an empty event: {erased:?}"), erased == (200, "{}".to_owned()))?;
    Ok("    status, opt-in, status, opt-out, status, erase".to_owned())
}

/// Checks for a version 4 UUID in lower case with hyphens.
fn is_random_uuid(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'4',
            19 => b"89ab".contains(&byte),
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}
