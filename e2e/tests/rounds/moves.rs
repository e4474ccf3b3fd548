//! What the clients do in a round.

use fastrand::Rng;
use serde_json::{Value, json};

use super::{FLAG, Held, ID};

/// A participant's action in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    OptIn,
    OptOut,
    Erase,
}

impl Act {
    fn choose(rng: &mut Rng) -> Self {
        match rng.u8(0..10) {
            0..4 => Self::OptIn,
            4..7 => Self::OptOut,
            7 => Self::Erase,
            _ => Self::Nothing,
        }
    }

    /// Returns whether the final content agrees with this action; `None` for no action.
    pub(super) fn won(self, held: &Held) -> Option<bool> {
        match self {
            Self::Nothing => None,
            Self::OptIn => Some(held.flag == Some(true)),
            Self::OptOut => Some(held.flag == Some(false)),
            Self::Erase => Some(held.flag.is_none() && held.id.is_none()),
        }
    }
}

/// The actions of a round.
pub(super) struct Moves {
    pub(super) ours: [Act; 2],
    pub(super) peers: Act,
    /// The content that another client writes.
    pub(super) overwrite: Option<Value>,
}

impl Moves {
    pub(super) fn race(rng: &mut Rng) -> Self {
        let ours = [Act::choose(rng), Act::choose(rng)];
        let peers = Act::choose(rng);
        let overwrites = rng.u8(0..6) == 0;
        let overwrite = if rng.bool() { android(rng) } else { ios(rng) };
        Self { ours, peers, overwrite: overwrites.then_some(overwrite) }
    }

    /// Only a client that takes the agreements from the opt-in in `content` acts, if it is one.
    pub(super) fn take_agreements(rng: &mut Rng, content: &Value) -> Option<Self> {
        Held::read(content).live_id()?;
        let overwrite = if rng.bool() { narrowed(content) } else { renamed(rng, content) };
        let (ours, peers) = ([Act::Nothing; 2], Act::Nothing);
        Some(Self { ours, peers, overwrite: Some(overwrite) })
    }
}

/// Element Android overwrites everything with a new ID.
fn android(rng: &mut Rng) -> Value {
    json!({ ID: uuid(rng) })
}

/// Element iOS writes two keys.
fn ios(rng: &mut Rng) -> Value {
    json!({ ID: uuid(rng).to_uppercase(), FLAG: true })
}

/// A client writes back only the members that it knows.
fn narrowed(content: &Value) -> Value {
    json!({ ID: content[ID], FLAG: content[FLAG] })
}

/// A client replaces the ID and carries all other members along, as Element Web does.
fn renamed(rng: &mut Rng, content: &Value) -> Value {
    let mut renamed = content.clone();
    renamed[ID] = uuid(rng).into();
    renamed
}

fn uuid(rng: &mut Rng) -> String {
    let (a, b, c, d) = (rng.u32(..), rng.u16(..), rng.u16(..), rng.u64(..) >> 16);
    format!("{a:08x}-{b:04x}-4{:03x}-8{:03x}-{d:012x}", c & 0xfff, c >> 4)
}
