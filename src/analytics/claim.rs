//! One live `Analytics` for each record in a process.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use crate::consent::record::Record;

/// Where a record is: the address of a store, and the key in it.
type Place = (usize, Vec<u8>);

/// How many records that could not be saved are kept for those who come next.
const MOST_LEFT: usize = 64;

/// Who holds which record, and what those who are gone could not save.
#[derive(Default)]
struct Table {
    holders: HashMap<Place, Weak<Holder>>,
    left: HashMap<Place, Unsaved>,
}

/// Records that an `Analytics` could not save before it was gone.
#[derive(Clone, Debug)]
pub(crate) struct Unsaved {
    /// What it last read or wrote.
    pub(crate) base: Record,
    /// What it wanted to write.
    pub(crate) record: Record,
}

/// The right to be the one `Analytics` of a record, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Claim {
    holder: Arc<Holder>,
    left: Option<Unsaved>,
}

/// Lets no other `Analytics` read the record, for as long as this lives: for a write that
/// goes on when the [`Claim`] is gone.
#[derive(Debug)]
pub(crate) struct Hold {
    holder: Arc<Holder>,
}

/// An `Analytics` for the same record is alive.
#[derive(Debug)]
pub(crate) struct Taken;

#[derive(Debug)]
struct Holder {
    place: Place,
    /// Whether there is a [`Claim`], and not a [`Hold`] only.
    is_live: AtomicBool,
    /// Its receivers learn that the holder is gone.
    gone: watch::Sender<()>,
}

impl Claim {
    /// Waits until the last `Analytics` of the record at `place` has saved what it has to
    /// save, and takes its place.
    pub(crate) async fn take(place: Place) -> Result<Self, Taken> {
        loop {
            let mut gone = {
                let mut table = table();
                let holder = table.holders.get(&place).and_then(Weak::upgrade);
                let Some(holder) = holder else {
                    table.holders.retain(|_, holder| holder.strong_count() > 0);
                    let holder = Arc::new(Holder {
                        place: place.clone(),
                        is_live: AtomicBool::new(true),
                        gone: watch::Sender::new(()),
                    });
                    table.holders.insert(place.clone(), Arc::downgrade(&holder));
                    let left = table.left.remove(&place);
                    return Ok(Self { holder, left });
                };
                if holder.is_live.load(Ordering::Acquire) {
                    return Err(Taken);
                }
                holder.gone.subscribe()
            };
            // It fails when the holder is gone, which is what is waited for.
            let _ = gone.changed().await;
        }
    }

    /// Returns what the `Analytics` before could not save.
    pub(crate) fn left(&self) -> Option<&Unsaved> {
        self.left.as_ref()
    }

    /// Notes that the new `Analytics` saves what was left. Without this the next one gets it.
    pub(crate) fn take_over(&mut self) {
        self.left = None;
    }

    /// Returns a hold on the record that outlives this claim.
    pub(crate) fn hold(&self) -> Hold {
        Hold { holder: self.holder.clone() }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(left) = self.left.take() {
            self.hold().leave(left);
        }
        self.holder.is_live.store(false, Ordering::Release);
    }
}

impl Hold {
    /// Leaves what could not be saved to the next `Analytics` of this record.
    pub(crate) fn leave(self, unsaved: Unsaved) {
        let mut table = table();
        if table.left.len() < MOST_LEFT || table.left.contains_key(&self.holder.place) {
            table.left.insert(self.holder.place.clone(), unsaved);
        }
    }
}

fn table() -> MutexGuard<'static, Table> {
    static TABLE: OnceLock<Mutex<Table>> = OnceLock::new();

    TABLE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, poll};

    use super::*;

    fn place(key: &str) -> Place {
        (0, key.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_claim_is_refused_while_another_lives_and_waits_for_its_hold() {
        let claim = Claim::take(place("held")).await.unwrap();
        assert!(matches!(Claim::take(place("held")).now_or_never(), Some(Err(Taken))));
        assert!(Claim::take(place("another")).await.is_ok());
        let hold = claim.hold();
        drop(claim);
        let mut next = Box::pin(Claim::take(place("held")));
        assert!(poll!(&mut next).is_pending());
        drop(hold);
        assert!(next.await.is_ok());
        assert!(Claim::take(place("held")).await.is_ok());
    }

    #[tokio::test]
    async fn of_two_that_wait_for_a_hold_one_is_refused() {
        let claim = Claim::take(place("both")).await.unwrap();
        let hold = claim.hold();
        drop(claim);
        let mut one = Box::pin(Claim::take(place("both")));
        let mut other = Box::pin(Claim::take(place("both")));
        assert!(poll!(&mut one).is_pending() && poll!(&mut other).is_pending());
        drop(hold);
        let one = one.await;
        assert!(one.is_ok() && other.await.is_err());
    }

    #[tokio::test]
    async fn what_could_not_be_saved_is_left_to_the_next_one_once() {
        let claim = Claim::take(place("left")).await.unwrap();
        assert!(claim.left().is_none());
        let (base, record) = (Record::default(), Record::default());
        let hold = claim.hold();
        drop(claim);
        hold.leave(Unsaved { base, record: record.clone() });
        // The first that gets it fails to start.
        for takes_over in [false, true] {
            let mut claim = Claim::take(place("left")).now_or_never().unwrap().unwrap();
            assert_eq!(claim.left().unwrap().record, record);
            if takes_over {
                claim.take_over();
            }
        }
        assert!(Claim::take(place("left")).await.unwrap().left().is_none());
    }
}
