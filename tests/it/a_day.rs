//! The account-data requests of a device within a day. `scripts/measured` puts what this prints
//! on its page.

use std::time::Duration;

use matrix_analytics::{
    Analytics,
    testing::{AccountDataMethod, Fault, FaultRule},
};

use crate::support::{ALICE, Device, FOREIGN_ID, World, content, eventually};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// As many as make the mean over their random intervals meaningful.
const DEVICES: usize = 12;

/// Devices of one account, which have just started.
struct Devices {
    world: World,
    devices: Vec<(Device, Analytics)>,
}

impl Devices {
    async fn start(content: &str) -> Self {
        let world = World::new().await;
        world.set_content(content);
        let mut devices = Vec::new();
        for n in 0..DEVICES {
            let device = world.device(&format!("PHONE{n}")).await;
            let (analytics, _) = device.start_confirmed().await;
            devices.push((device, analytics));
        }
        Self { world, devices }
    }

    /// Prints how many requests each device has made, and returns the largest number.
    #[expect(clippy::print_stdout, reason = "`scripts/measured` reads it")]
    fn print(&self, situation: &str) -> usize {
        let requests = self.world.server.requests();
        let of = |device: &Device| {
            let is_its_own = |id: &Option<String>| id.as_ref() == Some(&device.login.device_id);
            requests.iter().filter(|request| is_its_own(&request.device_id)).count()
        };
        let most = self.devices.iter().map(|(device, _)| of(device)).max().unwrap();
        let mean = requests.len() as f64 / DEVICES as f64;
        println!("a day, {situation}: {mean:.1} requests, at most {most}");
        most
    }
}

#[tokio::test]
async fn a_device_asks_at_most_four_times_a_day_whatever_the_user_decided() {
    for (situation, content) in [
        ("opted in", content(Some(true), Some(FOREIGN_ID))),
        ("opted out", content(Some(false), None)),
        ("undecided", "{}".to_owned()),
    ] {
        let devices = Devices::start(&content).await;
        devices.world.pass(24 * HOUR, 10 * MINUTE).await;
        // One of them is the request of the start.
        let most = devices.print(situation);
        assert!((3..=5).contains(&most), "{situation}: {most}");
    }
}

#[tokio::test]
async fn a_device_whose_sync_carries_account_data_asks_once() {
    let devices = Devices::start(&content(Some(true), Some(FOREIGN_ID))).await;
    for hour in 0..24 {
        let other = format!(r#"{{"hour":{hour}}}"#);
        devices.world.server.set_content(ALICE, "org.example.other", &other);
        for (device, _) in &devices.devices {
            device.sync().await;
        }
        devices.world.pass(HOUR, 10 * MINUTE).await;
    }
    assert_eq!(devices.print("opted in, account data in sync every hour"), 1);
}

#[tokio::test]
async fn a_device_whose_requests_fail_asks_about_a_hundred_times_a_day_at_most() {
    let devices = Devices::start(&content(Some(true), Some(FOREIGN_ID))).await;
    devices.world.server.fail_all(Fault::ResetBefore);
    for (_, analytics) in &devices.devices {
        assert!(eventually(analytics.recheck()).await.is_err());
    }
    devices.world.pass(24 * HOUR, 2 * MINUTE).await;
    let most = devices.print("opted in, each request fails");
    // The waits grow to between 15 and 30 minutes.
    assert!((48..=110).contains(&most), "{most}");
}

#[tokio::test]
async fn an_opt_out_whose_writes_fail_takes_about_two_hundred_requests_a_day_at_most() {
    let devices = Devices::start(&content(Some(true), Some(FOREIGN_ID))).await;
    let refusal = FaultRule::always(Fault::ResetBefore).on(AccountDataMethod::Put);
    devices.world.server.fail(refusal);
    for (_, analytics) in &devices.devices {
        assert!(!eventually(analytics.opt_out().into_future()).await.account.is_done());
    }
    devices.world.pass(24 * HOUR, 2 * MINUTE).await;
    let most = devices.print("opted out, each write fails");
    // Each try is a read and a write.
    assert!((96..=220).contains(&most), "{most}");
}
