//! A client that logs in, syncs and answers messages; with the feature `posthog` also with
//! analytics. `scripts/size` compares the sizes of its release binaries.

#[cfg(feature = "posthog")]
mod telemetry;

use std::{env, error::Error};

use matrix_sdk::{
    Client, Room,
    config::SyncSettings,
    ruma::events::room::message::{OriginalSyncRoomMessageEvent, RoomMessageEventContent},
};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> Result {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [homeserver, user, password, directory] = arguments.as_slice() else {
        return Err("arguments: HOMESERVER USER PASSWORD DIRECTORY".into());
    };
    let client = Client::builder()
        .homeserver_url(homeserver)
        .sqlite_store(directory, Some(password))
        .handle_refresh_tokens()
        .build()
        .await?;
    client.matrix_auth().login_username(user, password).request_refresh_token().await?;
    client.add_event_handler(answer);
    #[cfg(feature = "posthog")]
    let analytics = telemetry::start(client.clone(), directory).await?;
    let ended = client.sync(SyncSettings::new()).await;
    #[cfg(feature = "posthog")]
    telemetry::stop(&analytics).await;
    client.logout().await?;
    Ok(ended?)
}

async fn answer(event: OriginalSyncRoomMessageEvent, room: Room) {
    if event.sender != room.own_user_id() {
        let content = RoomMessageEventContent::text_plain(event.content.body());
        // The next message is another try.
        let _ = room.send(content).await;
    }
}
