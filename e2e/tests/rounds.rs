//! Concurrent changes of one account by two devices, another client, and one that overwrites the
//! event. After each round, all must agree with the homeserver.

mod moves;
mod policies;
mod sight;
mod tally;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use fastrand::Rng;
use matrix_analytics::{ClosedReason, Consent, ConsentState, GateState, HoldReason};
use serde_json::Value;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

pub(crate) use self::tally::Tally;
use self::{
    moves::{Act, Moves},
    policies::Agreements,
    sight::Sight,
};
use crate::{
    device::{Device, Install},
    homeserver::Homeserver,
    peer::{Peer, PeerState},
    syncing::SyncKind,
    user::User,
    waiting::{Result, TICK, ensure, within},
    wire::{Asked, Wire},
};

const ID: &str = "id";
const FLAG: &str = "pseudonymousAnalyticsOptIn";

/// Shorter than elsewhere, because most rounds wait for a new ID to settle.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(600);

/// The time over which the calls of a round are spread.
const SPREAD: Duration = Duration::from_millis(40);

/// The time between two events of a device, so that one is usually in flight when something
/// changes.
const PACE: Duration = Duration::from_millis(10);

/// The content on the homeserver.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    flag: Option<bool>,
    id: Option<String>,
}

impl Held {
    fn read(content: &Value) -> Self {
        let id = content[ID].as_str().map(str::to_owned);
        Self { flag: content[FLAG].as_bool(), id }
    }

    /// Returns the ID that may be sent under.
    fn live_id(&self) -> Option<&str> {
        self.id.as_deref().filter(|_| self.flag == Some(true))
    }
}

/// One of our devices, with a view of its sync, and a wire to the homeserver.
struct Ours {
    device: Device,
    sight: Sight,
    wire: Wire,
    pacing: JoinHandle<()>,
    /// The IDs that it sent under when its user opted out, each with the time.
    withdrawn: Vec<(String, Instant)>,
    /// Those IDs, and the one that each clean-up found on the account.
    retired: BTreeSet<String>,
    /// What its user agreed to, if it has a policy.
    agreements: Option<Agreements>,
}

impl Ours {
    async fn start(
        homeserver: &Homeserver,
        user: &User,
        kind: SyncKind,
        policy: Option<usize>,
    ) -> Result<Self> {
        let wire = Wire::start(&homeserver.url).await?;
        let mut install = Install::new(&wire.url(), kind);
        install.request_timeout = REQUEST_TIMEOUT;
        install.policy = policy.map(policies::policy);
        let client = install.log_in(user, homeserver.password()).await?;
        let sight = Sight::of(&client);
        let device = Device::start(install, client).await?;
        let analytics = device.analytics.clone();
        let pacing = tokio::spawn(async move {
            loop {
                analytics.capture_named("Tick", matrix_analytics::Properties::new());
                analytics.flush(Duration::from_secs(30)).await;
                sleep(PACE).await;
            }
        });
        let (withdrawn, retired) = (Vec::new(), BTreeSet::new());
        let agreements = policy.map(Agreements::new);
        Ok(Self { device, sight, wire, pacing, withdrawn, retired, agreements })
    }

    /// Performs the user's action. Failures are valid outcomes.
    async fn act(&mut self, act: Act) -> bool {
        let analytics = &self.device.analytics;
        let id = analytics.analytics_id();
        match act {
            Act::Nothing => true,
            Act::OptIn => analytics.opt_in().await.is_ok(),
            Act::OptOut | Act::Erase => {
                let mut opt_out = analytics.opt_out();
                if act == Act::Erase {
                    opt_out = opt_out.erase_event();
                }
                let receipt = opt_out.await;
                let id = id.map(|id| (id.reveal().to_owned(), Instant::now()));
                self.withdrawn.extend(id);
                receipt.is_complete()
            }
        }
    }

    /// Records the IDs retired by an opt-out of this round, from the content read before its first
    /// write.
    fn note_retired(&mut self, act: Act) {
        let asked = self.wire.asked();
        // An ID next to a `false` is retired as soon as it is seen.
        let answers = asked.iter().filter_map(|asked| serde_json::from_str(&asked.answer).ok());
        let shown = self.sight.shown().into_iter().map(|(_, content)| content);
        let seen = answers.chain(shown).map(|content: Value| Held::read(&content));
        let withdrawn = seen.filter(|held| held.flag == Some(false)).filter_map(|held| held.id);
        self.retired.extend(withdrawn);
        if !matches!(act, Act::OptOut | Act::Erase) {
            return;
        }
        let cleaned = asked.iter().filter(|asked| asked.is_write()).map(|asked| asked.answered);
        let cleaned = cleaned.min();
        let read = asked.iter().filter(|asked| cleaned.is_none_or(|cleaned| asked.sent < cleaned));
        let read = read.filter_map(|asked| serde_json::from_str(&asked.answer).ok());
        let found = read.filter_map(|content| Held::read(&content).id);
        self.retired.extend(found);
        self.retired.extend(self.withdrawn.iter().map(|(id, _)| id.clone()));
    }

    /// Records what the user agreed to in this round, which began at `began`.
    fn note_agreed(&mut self, act: Act, done: bool, began: Instant) {
        let Some(agreements) = &mut self.agreements else { return };
        let asked = self.wire.asked();
        if act == Act::OptIn {
            agreements.note_opt_in(&asked);
        }
        let shown = self.sight.shown().into_iter().filter(|(at, _)| *at >= began);
        agreements.note_seen(act == Act::OptIn && done, &asked, shown);
    }

    /// Returns whether this device sends under the ID of `content` if its user agreed to the
    /// policy, and otherwise asks.
    fn follows(&self, content: &Value) -> bool {
        let (held, sends_under) = (Held::read(content), self.sends_under());
        let Some((agreements, live)) = self.agreements.as_ref().zip(held.live_id()) else {
            return sends_under.as_deref() == held.live_id();
        };
        let prompt = self.device.analytics.state().prompt();
        agreements.are_followed(content, live, sends_under.as_deref(), prompt)
    }

    fn is_at_rest(&self) -> bool {
        let state = self.device.analytics.state();
        let works = [
            HoldReason::Rechecking,
            HoldReason::OptingIn,
            HoldReason::Settling,
            HoldReason::Unverified,
        ];
        let is_known = state.gate != GateState::Closed(ClosedReason::Unknown);
        let works = works.iter().any(|why| state.gate == GateState::Holding(*why));
        is_known && !state.removal_pending && !works
    }

    fn sends_under(&self) -> Option<String> {
        self.device.analytics.analytics_id().map(|id| id.reveal().to_owned())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.pacing.abort();
    }
}

/// The account, and all its clients.
struct Account {
    user: User,
    ours: [Ours; 2],
    peer: Peer,
    peer_wire: Wire,
    /// Element Android and Element iOS, simulated by raw HTTP.
    overwriter: User,
    overwriter_wire: Wire,
}

/// Runs `count` rounds of races, in which our devices may have policies. Then a client takes the
/// agreements from the event after each round that ends opted in.
pub(crate) async fn run(
    homeserver: Arc<Homeserver>,
    count: u32,
    seed: u64,
    has_policies: bool,
) -> Result<Tally> {
    let name = if has_policies { "agreer" } else { "racer" };
    let policy = |number| has_policies.then_some(number);
    let user = homeserver.register(name).await?;
    let (peer_wire, overwriter_wire) =
        (Wire::start(&homeserver.url).await?, Wire::start(&homeserver.url).await?);
    let peers = User::log_in(&homeserver.url, name, homeserver.password()).await?;
    let mut account = Account {
        ours: [
            Ours::start(&homeserver, &user, SyncKind::Classic, policy(0)).await?,
            Ours::start(&homeserver, &user, SyncKind::Service, policy(1)).await?,
        ],
        peer: Peer::start(&peer_wire.url(), &peers).await?,
        peer_wire,
        overwriter: user.via(&overwriter_wire.url()),
        overwriter_wire,
        user,
    };
    let mut tally = Tally::new(homeserver.msc3391, seed, has_policies);
    let mut rng = Rng::with_seed(seed);
    for round in 0..count {
        let place = |error| format!("round {round} of seed {seed}: {error}");
        let moves = Moves::race(&mut rng);
        let content = account.play(moves, &mut rng, &mut tally).await.map_err(place)?;
        if has_policies && let Some(moves) = Moves::take_agreements(&mut rng, &content) {
            account.play(moves, &mut rng, &mut tally).await.map_err(place)?;
            tally.taken += 1;
        }
    }
    Ok(tally)
}

impl Account {
    /// Plays a round, and returns the content after it.
    async fn play(&mut self, moves: Moves, rng: &mut Rng, tally: &mut Tally) -> Result<Value> {
        let began = Instant::now();
        let Moves { ours, peers, overwrite } = moves;
        let overwrites = overwrite.is_some();
        let mut delay = || SPREAD.mul_f64(rng.f64());
        let delays = [delay(), delay(), delay(), delay()];

        let [one, two] = &mut self.ours;
        let (peer, overwriter) = (&self.peer, &self.overwriter);
        let (one, two, peer_done, overwritten) = tokio::join!(
            async {
                sleep(delays[0]).await;
                one.act(ours[0]).await
            },
            async {
                sleep(delays[1]).await;
                two.act(ours[1]).await
            },
            async {
                sleep(delays[2]).await;
                match peers {
                    Act::Nothing => Ok(()),
                    Act::OptIn => peer.set_flag(true).await,
                    Act::OptOut => peer.set_flag(false).await,
                    Act::Erase => peer.erase().await,
                }
            },
            async {
                sleep(delays[3]).await;
                match overwrite {
                    Some(content) => overwriter.overwrite(&content.to_string()).await,
                    None => Ok(()),
                }
            },
        );
        peer_done?;
        overwritten?;
        let done = [one, two];
        tally.unfinished += done.iter().filter(|done| !**done).count();

        let peer = within("everybody to be at rest", self.rest()).await??;
        let (_, body) = self.user.content().await?;
        let content: Value = serde_json::from_str(&body)?;
        let held = Held::read(&content);
        for ((ours, act), done) in self.ours.iter_mut().zip(ours).zip(done) {
            ours.note_retired(act);
            ours.note_agreed(act, done, began);
        }
        let acts = format!("ours {ours:?}, the peer {peers:?}, overwritten: {overwrites}");
        let trace = self.trace(began);
        let note = |what: String| format!("{acts}; {held:?}; {what}: {trace}");
        let restored = self.silenced(&held);
        tally.restored.extend(restored.map(|number| note(format!("device {number} is silent"))));
        let disagreements = self.compare(&content, &peer, tally);
        tally.disagreements.extend(disagreements.into_iter().map(note));

        for act in ours {
            tally.ours.count(act.won(&held));
        }
        tally.peers.count(peers.won(&held));
        let dead = tally.dead();
        self.judge(ours, tally)?;
        if tally.dead() > dead {
            tally
                .disagreements
                .push(format!("{acts}; an event was sent under a wrong ID: {trace}"));
        }
        tally.peer_minted = peer.minted.len();
        tally.failures = peer.failures;
        tally.took.push(began.elapsed());
        Ok(content)
    }

    /// Waits until all clients are idle and have seen the final content in sync.
    async fn rest(&self) -> Result<PeerState> {
        loop {
            let idle = self.idle_after();
            let states: [ConsentState; 2] = self.states();
            let fence = self.user.fence().await?;
            for ours in &self.ours {
                ours.sight.reaches(fence).await?;
            }
            self.peer.reaches(fence).await?;
            let peer = self.peer.state().await?;
            // A client that has just seen a change sends its request now, if at all.
            sleep(TICK).await;
            let at_rest = peer.pending == 0 && self.ours.iter().all(Ours::is_at_rest);
            if at_rest && idle.is_some() && idle == self.idle_after() && states == self.states() {
                return Ok(peer);
            }
        }
    }

    fn states(&self) -> [ConsentState; 2] {
        self.ours.each_ref().map(|ours| ours.device.analytics.state())
    }

    /// Returns the total number of requests, or `None` while one is in flight.
    fn idle_after(&self) -> Option<usize> {
        let ours = self.ours.iter().map(|ours| &ours.wire);
        ours.chain([&self.peer_wire, &self.overwriter_wire]).map(Wire::idle_after).sum()
    }

    /// Returns our devices that stay silent although the account is opted in, because the peer
    /// restored from its cache an ID that they had retired. See docs/consent.md.
    fn silenced(&self, held: &Held) -> impl Iterator<Item = usize> {
        let live = held.live_id().map(str::to_owned);
        let silenced = self.ours.iter().map(move |ours| {
            let is_retired = live.as_ref().is_some_and(|live| ours.retired.contains(live));
            is_retired && ours.sends_under().is_none()
        });
        silenced.enumerate().filter_map(|(number, silenced)| silenced.then_some(number))
    }

    /// Returns the clients that do not agree with the homeserver.
    fn compare(&self, content: &Value, peer: &PeerState, tally: &mut Tally) -> Vec<String> {
        let (held, mut disagreements) = (&Held::read(content), Vec::new());
        let live = held.live_id();
        for (number, ours) in self.ours.iter().enumerate() {
            let state = ours.device.analytics.state();
            let id = ours.sends_under();
            if self.silenced(held).any(|silenced| silenced == number) {
                continue;
            }
            let agrees = match held.flag {
                Some(true) => state.decision == Consent::Granted,
                Some(false) => state.decision == Consent::Denied,
                None => id.is_none(),
            };
            tally.questions +=
                usize::from(ours.agreements.is_some() && live.is_some() && id.is_none());
            let keeps = ours.agreements.as_ref().is_some_and(|ours| ours.outlive(content));
            tally.kept += usize::from(keeps && id.is_some());
            if !agrees || !ours.follows(content) {
                let sends = id.is_some();
                disagreements.push(format!("device {number} is {state:?}, sending: {sends}"));
            }
        }
        if peer.flag != held.flag || peer.held_id != held.id {
            disagreements.push(format!("the peer has seen {peer:?}"));
        }
        if peer.sends_under.as_deref() != live {
            // Copied from Element Web: see `peer.js`.
            tally.peer_on_dead_id += 1;
        }
        disagreements
    }

    /// Returns the requests of this round, for debugging.
    fn trace(&self, began: Instant) -> String {
        let [one, two] = &self.ours;
        let wires = [
            ("device 0", &one.wire),
            ("device 1", &two.wire),
            ("peer", &self.peer_wire),
            ("overwriter", &self.overwriter_wire),
        ];
        let asked = wires.into_iter().flat_map(|(who, wire)| {
            wire.asked().into_iter().map(move |asked| (asked.sent, who, asked))
        });
        let mut asked: Vec<_> = asked.collect();
        asked.sort_by_key(|(sent, ..)| *sent);
        let lines = asked.into_iter().map(|(sent, who, asked)| {
            let after = |at: Instant| at.saturating_duration_since(began).as_millis();
            let (from, to) = (after(sent), after(asked.answered));
            let Asked { method, body, answer, .. } = asked;
            format!("\n    {from}..{to} ms {who} {method} {body} -> {answer}")
        });
        lines.collect()
    }

    /// Checks the writes and events of this round.
    fn judge(&mut self, acts: [Act; 2], tally: &mut Tally) -> Result {
        let ours = self.ours.each_ref().map(|ours| ours.wire.take());
        let others = [self.peer_wire.take(), self.overwriter_wire.take()];
        for (asked, act) in ours.iter().zip(acts) {
            let opt_ins =
                writes(asked).filter(|write| Held::read(&content(write)).flag == Some(true));
            ensure("only opt_in() writes an opt-in", act == Act::OptIn || opt_ins.count() == 0)?;
        }
        tally.count_writes(&ours.concat(), &others);
        let all = [ours.concat(), others.concat()].concat();
        tally.history.extend(writes(&all).cloned());
        for ours in &self.ours {
            tally.judge_arrivals(ours);
        }
        Ok(())
    }
}

/// Returns the requests that wrote and were not refused.
fn writes(asked: &[Asked]) -> impl Iterator<Item = &Asked> {
    asked.iter().filter(|asked| asked.is_write() && asked.status == 200)
}

/// Returns the content after a write; null after a deletion.
fn content(write: &Asked) -> Value {
    serde_json::from_str(&write.body).unwrap_or_default()
}
