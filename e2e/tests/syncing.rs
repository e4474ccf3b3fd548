//! The ways in which apps sync.

use std::time::Duration;

use futures_util::StreamExt as _;
use matrix_analytics_examples::is_session_lost;
use matrix_sdk::{Client, SlidingSyncList, SlidingSyncMode, config::SyncSettings, ruma::RoomId};
use matrix_sdk_ui::{room_list_service, sync_service, sync_service::SyncService};
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};

use crate::waiting::{Result, TICK, within};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncKind {
    /// `Client::sync`.
    Classic,
    /// `SyncService` of matrix-sdk-ui: sliding sync with the account-data extension.
    Service,
    /// Sliding sync without the extension: it never carries global account data.
    Bare,
}

impl SyncKind {
    pub(crate) const ALL: [Self; 3] = [Self::Classic, Self::Service, Self::Bare];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Service => "sliding",
            Self::Bare => "sliding, bare",
        }
    }

    pub(crate) fn carries_account_data(self) -> bool {
        self != Self::Bare
    }
}

/// A sync loop like that of an app: it continues after failures, until the session is lost.
pub(crate) struct Syncing {
    task: JoinHandle<()>,
    service: Option<SyncService>,
}

impl Syncing {
    /// Starts to sync, and waits for the first response.
    pub(crate) async fn start(client: &Client, kind: SyncKind) -> Result<Self> {
        let client = client.clone();
        let (first, was_first) = oneshot::channel();
        let syncing = match kind {
            SyncKind::Classic => Self::task(classic(client, first)),
            SyncKind::Bare => Self::task(bare(client, first)),
            SyncKind::Service => {
                let service = SyncService::builder(client.clone()).with_offline_mode();
                let service = service.build().await?;
                service.start().await;
                let mut states = service.room_list_service().state();
                let task = tokio::spawn(async move {
                    let mut state = states.get();
                    while state != room_list_service::State::Running {
                        let Some(next) = states.next().await else { return };
                        state = next;
                    }
                    let _ = first.send(());
                });
                Self { task, service: Some(service) }
            }
        };
        within("the first sync", was_first).await??;
        Ok(syncing)
    }

    fn task(syncing: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { task: tokio::spawn(syncing), service: None }
    }

    /// Resumes a service that has given up, as apps do when they return to the foreground.
    pub(crate) async fn resume(&self) {
        if let Some(service) = &self.service
            && !matches!(service.state().get(), sync_service::State::Running)
        {
            service.start().await;
        }
    }

    /// Subscribes to a room, as apps do when the user opens it.
    pub(crate) async fn open_room(&self, room: &RoomId) {
        if let Some(service) = &self.service {
            service.room_list_service().subscribe_to_rooms(&[room]).await;
        }
    }

    pub(crate) async fn stop(self) {
        if let Some(service) = &self.service {
            service.stop().await;
        }
        self.task.abort();
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn classic(client: Client, first: oneshot::Sender<()>) {
    let mut first = Some(first);
    loop {
        let synced = match first {
            // A client with a sync token would wait for news.
            Some(_) => {
                let now = SyncSettings::new().timeout(Duration::ZERO);
                client.sync_once(now).await.map(drop)
            }
            None => client.sync(SyncSettings::new()).await,
        };
        match synced {
            Ok(()) => drop(first.take().map(|first| first.send(()))),
            Err(error) if is_session_lost(&error) => return,
            // The SDK retries by itself, except after errors that it takes for permanent.
            Err(_) => sleep(TICK).await,
        }
    }
}

async fn bare(client: Client, first: oneshot::Sender<()>) {
    let list = SlidingSyncList::builder("all")
        .sync_mode(SlidingSyncMode::new_selective().add_range(0..=9));
    let built = match client.sliding_sync("bare") {
        Ok(builder) => builder.add_list(list).build().await,
        Err(error) => Err(error),
    };
    let Ok(sync) = built else { return };
    let mut first = Some(first);
    loop {
        let mut updates = Box::pin(sync.sync());
        while let Some(update) = updates.next().await {
            match update {
                Ok(_) => first.take().map(|first| first.send(())),
                Err(error) if is_session_lost(&error) => return,
                Err(_) => None,
            };
        }
        sleep(TICK).await;
    }
}
