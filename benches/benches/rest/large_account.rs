//! The store of a client with a large account.

use std::{error::Error, fmt::Write as _, io, net::TcpListener, path::Path, thread};

use matrix_sdk::{Client, config::SyncSettings};
use tokio::runtime::Runtime;

use crate::{client::logged_in, homeserver::homeserver, http::converse, process::report};

pub(crate) const ROOMS: usize = 500;
/// The state events of each room.
const STATE: usize = 40;
pub(crate) const STATE_EVENTS: usize = ROOMS * STATE;
/// The events of global account data, each of about 2 KB.
const ACCOUNT_DATA: usize = 200;

/// Starts a homeserver whose users have large accounts, and returns its URL.
#[expect(clippy::disallowed_methods, reason = "no library: a server")]
pub(crate) fn serve() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || {
                connection.set_nodelay(true)?;
                converse(connection, |method, path, body| match path {
                    path if path.contains("/v3/sync") => Some((200, sync())),
                    _ => homeserver(method, path, body),
                })
            });
        }
    });
    Ok(url)
}

/// Fills the store of a client in a directory with what a first sync brings.
pub(crate) fn fill(homeserver: &str, store: &Path) -> Result<(), Box<dyn Error>> {
    Runtime::new()?.block_on(async {
        let client = client(homeserver, store).await;
        client.sync_once(SyncSettings::new()).await?;
        report("rooms", client.rooms().len() as f64);
        Ok(())
    })
}

/// Creates a client whose store is in a directory.
pub(crate) async fn client(homeserver: &str, store: &Path) -> Client {
    logged_in(Client::builder().homeserver_url(homeserver).sqlite_store(store, None), 0).await
}

/// Returns the answer to a first sync.
fn sync() -> String {
    let mut sync = String::from(r#"{"next_batch":"s1","account_data":{"events":["#);
    let text = "x".repeat(2000);
    for n in 0..ACCOUNT_DATA {
        let comma = if n > 0 { "," } else { "" };
        let _ =
            write!(sync, r#"{comma}{{"type":"org.example.n{n}","content":{{"text":"{text}"}}}}"#);
    }
    sync.push_str(r#"]},"rooms":{"join":{"#);
    for room in 0..ROOMS {
        let comma = if room > 0 { "," } else { "" };
        let _ = write!(sync, r#"{comma}"!room{room}:example.org":{{"state":{{"events":["#);
        for n in 0..STATE {
            let comma = if n > 0 { "," } else { "" };
            sync.push_str(comma);
            push_state_event(&mut sync, room, n);
        }
        sync.push_str("]}}");
    }
    sync.push_str("}}}");
    sync
}

/// Appends the creation of a room, its name, or a member.
fn push_state_event(sync: &mut String, room: usize, n: usize) {
    let user = format!("@user{}:example.org", n.saturating_sub(2));
    let (kind, key, content) = match n {
        0 => ("m.room.create", "", r#"{"room_version":"10"}"#.to_owned()),
        1 => ("m.room.name", "", format!(r#"{{"name":"Room {room}"}}"#)),
        _ => {
            let content = format!(r#"{{"membership":"join","displayname":"Member {n}"}}"#);
            ("m.room.member", &*user, content)
        }
    };
    let _ = write!(sync, r#"{{"type":"{kind}","state_key":"{key}","sender":"{user}","#,);
    let _ = write!(
        sync,
        r#""event_id":"$r{room}e{n}","origin_server_ts":1769860800000,"content":{content}}}"#,
    );
}
