//! The results of the rounds.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use serde_json::Value;

use super::{Held, Ours, content, writes};
use crate::{homeserver::Msc3391, wire::Asked};

/// How long an event in flight may still take, on a busy machine, after sync has shown that its ID
/// is gone.
const ON_ITS_WAY: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(crate) struct Score {
    won: usize,
    lost: usize,
}

impl Score {
    pub(super) fn count(&mut self, won: Option<bool>) {
        match won {
            Some(true) => self.won += 1,
            Some(false) => self.lost += 1,
            None => {}
        }
    }
}

#[derive(Debug)]
pub(crate) struct Tally {
    msc3391: Msc3391,
    seed: u64,
    has_policies: bool,
    pub(super) ours: Score,
    pub(super) peers: Score,
    /// Our calls that were superseded, or did not finish at once.
    pub(super) unfinished: usize,
    minted: BTreeSet<String>,
    pub(super) peer_minted: usize,
    our_writes: Vec<usize>,
    peer_writes: Vec<usize>,
    pub(super) took: Vec<Duration>,
    pub(super) disagreements: Vec<String>,
    pub(super) failures: Vec<String>,
    /// Rounds after which the peer sent under an ID that the account does not hold.
    pub(super) peer_on_dead_id: usize,
    /// Devices of ours that stayed silent after a round, because the peer had restored an ID that
    /// they had retired.
    pub(super) restored: Vec<String>,
    /// Rounds after which a client took the agreements from the event.
    pub(super) taken: usize,
    /// Devices of ours that asked for an agreement after a round.
    pub(super) questions: usize,
    /// Devices of ours that stayed open after a round, although another client had dropped the
    /// agreement.
    pub(super) kept: usize,
    /// The number of all writes.
    pub(super) history: Vec<Asked>,
    arrivals: usize,
    /// Events under an ID that had not been written yet.
    unwritten: usize,
    /// Events under an ID under which the user had not agreed to the device's policy.
    unagreed: usize,
    /// Events under an ID that this device had withdrawn.
    withdrawn: usize,
    /// Events under an ID that sync had already shown to be gone.
    dead: usize,
    /// Events sent after another client's write, and before or shortly after sync showed it.
    unaware: usize,
    longest_unaware: Duration,
}

impl Tally {
    pub(super) fn new(msc3391: Msc3391, seed: u64, has_policies: bool) -> Self {
        Self {
            msc3391,
            seed,
            has_policies,
            ours: Score::default(),
            peers: Score::default(),
            unfinished: 0,
            minted: BTreeSet::new(),
            peer_minted: 0,
            our_writes: Vec::new(),
            peer_writes: Vec::new(),
            took: Vec::new(),
            disagreements: Vec::new(),
            failures: Vec::new(),
            peer_on_dead_id: 0,
            restored: Vec::new(),
            taken: 0,
            questions: 0,
            kept: 0,
            history: Vec::new(),
            arrivals: 0,
            unwritten: 0,
            unagreed: 0,
            withdrawn: 0,
            dead: 0,
            unaware: 0,
            longest_unaware: Duration::ZERO,
        }
    }

    pub(super) fn count_writes(&mut self, ours: &[Asked], others: &[Vec<Asked>; 2]) {
        let known = self.history.iter().chain(others.iter().flatten());
        let known: BTreeSet<_> = known.filter_map(id_of).collect();
        self.minted.extend(writes(ours).filter_map(id_of).filter(|id| !known.contains(id)));
        self.our_writes.push(writes(ours).count());
        self.peer_writes.push(writes(&others[0]).count());
    }

    /// Checks that each event of a device in this round had a valid ID.
    pub(super) fn judge_arrivals(&mut self, ours: &Ours) {
        let shown = ours.sight.shown();
        for arrival in ours.device.witness.take() {
            self.arrivals += 1;
            let lives = |content: &Value| Held::read(content).live_id() == Some(&*arrival.id);
            let births = self.history.iter().filter(|write| lives(&content(write)));
            let births = births.filter(|write| write.sent <= arrival.at);
            let Some(last_birth) = births.clone().map(|write| write.answered).max() else {
                self.unwritten += 1;
                continue;
            };
            if let Some(agreements) = &ours.agreements {
                let is_agreed = agreements.may_cover(&arrival.id)
                    || births.clone().any(|write| agreements.are_in(&content(write)));
                self.unagreed += usize::from(!is_agreed);
            }
            if ours.withdrawn.iter().any(|(id, at)| *id == arrival.id && *at < arrival.at) {
                self.withdrawn += 1;
            }
            // The writes that certainly came after the last one with this ID.
            let deaths = self.history.iter().filter(|write| {
                write.sent > last_birth && write.answered < arrival.at && !lives(&content(write))
            });
            let deaths: Vec<_> = deaths.collect();
            let Some(death) = deaths.iter().map(|write| write.answered).min() else { continue };
            self.unaware += 1;
            self.longest_unaware = self.longest_unaware.max(arrival.at - death);
            // Sync may still show older content, so compare it with the written one.
            let is_shown = deaths.iter().any(|death| {
                let written = Held::read(&content(death));
                shown.iter().any(|(at, content)| {
                    let is_newer = *at > death.sent && Held::read(content) == written;
                    is_newer && *at + ON_ITS_WAY < arrival.at
                })
            });
            self.dead += usize::from(is_shown);
        }
    }

    /// Returns the number of events that must not have been sent.
    pub(super) fn dead(&self) -> usize {
        self.unwritten + self.unagreed + self.withdrawn + self.dead
    }

    /// Returns whether there was no violation.
    pub(crate) fn is_clean(&self) -> bool {
        self.disagreements.is_empty() && self.failures.is_empty() && self.dead() == 0
    }

    pub(crate) fn render(&self) -> String {
        let mut text = format!(
            "{} rounds{}, MSC3391 {}, seed {}\n",
            self.took.len() - self.taken,
            if self.has_policies { " with policies" } else { "" },
            self.msc3391.name(),
            self.seed
        );
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "- {what}: {value}");
        };
        let score = |score: &Score| format!("{} won, {} lost", score.won, score.lost);
        line("decisions on our devices", score(&self.ours));
        line("decisions on the peer", score(&self.peers));
        line("calls of ours that were overtaken or left pending", self.unfinished.to_string());
        let minted = (self.minted.len(), self.peer_minted);
        line("IDs minted", format!("{} by us, {} by the peer", minted.0, minted.1));
        line("writes of ours per round", spread(&self.our_writes));
        line("writes of the peer per round", spread(&self.peer_writes));
        line("events sent", self.arrivals.to_string());
        line("events under an ID that had not been written", self.unwritten.to_string());
        line("events under an ID that the device had withdrawn", self.withdrawn.to_string());
        line("events under an ID that sync had shown to be gone", self.dead.to_string());
        line(
            "events between another client's write and the sync that showed it",
            format!("{}, at most {} ms after it", self.unaware, self.longest_unaware.as_millis()),
        );
        line(
            "rounds after which the peer stayed on a dead ID, as Element Web does",
            self.peer_on_dead_id.to_string(),
        );
        line(
            "devices that stayed silent after a round, because the peer had restored an ID retired there",
            self.restored.len().to_string(),
        );
        if self.has_policies {
            line("rounds after which a client took the agreements", self.taken.to_string());
            line("devices that asked for an agreement after a round", self.questions.to_string());
            line("events under an ID without an agreement", self.unagreed.to_string());
            line(
                "devices that stayed open under an ID whose agreement had been dropped",
                self.kept.to_string(),
            );
        }
        line("disagreements", self.disagreements.len().to_string());
        let notes = [
            ("kept silent", &self.restored),
            ("disagreement", &self.disagreements),
            ("failure of the peer", &self.failures),
        ];
        for (kind, what) in
            notes.iter().flat_map(|(kind, notes)| notes.iter().map(move |what| (kind, what)))
        {
            line(kind, what.clone());
        }
        let seconds: f64 = self.took.iter().map(Duration::as_secs_f64).sum();
        line("time", format!("{seconds:.0} s"));
        text
    }
}

fn id_of(write: &Asked) -> Option<String> {
    Held::read(&content(write)).id
}

fn spread(counts: &[usize]) -> String {
    let (least, most) = (counts.iter().min(), counts.iter().max());
    let mean = counts.iter().sum::<usize>() as f64 / counts.len().max(1) as f64;
    format!("{mean:.1}, from {} to {}", least.unwrap_or(&0), most.unwrap_or(&0))
}
