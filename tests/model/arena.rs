//! Stores every device that a search meets, and every step of one.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hasher},
};

use super::device::{Device, Input, Summary, Violation};

/// A fast hasher for millions of keys of a few small integers.
#[derive(Default)]
pub(super) struct QuickHasher(u64);

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<QuickHasher>>;

/// Every distinct device, and its successor for each input, so that the real machine makes
/// each transition once.
#[derive(Default)]
pub(super) struct Arena {
    devices: Vec<(Device, Summary)>,
    indices: Map<Device, u32>,
    steps: Map<(u32, Input), Result<u32, Violation>>,
}

impl Arena {
    /// Returns the number of devices, and of their steps.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.devices.len(), self.steps.len())
    }

    pub(super) fn intern(&mut self, device: Device) -> u32 {
        match self.indices.entry(device) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let index = u32::try_from(self.devices.len()).unwrap();
                self.devices.push((new.key().clone(), new.key().summary()));
                *new.insert(index)
            }
        }
    }

    pub(super) fn step(&mut self, device: u32, input: Input) -> Result<u32, Violation> {
        if let Some(known) = self.steps.get(&(device, input)) {
            return *known;
        }
        let next = self.device(device).step(input).map(|next| self.intern(next));
        self.steps.insert((device, input), next);
        next
    }

    pub(super) fn device(&self, device: u32) -> &Device {
        &self.devices[device as usize].0
    }

    pub(super) fn summary(&self, device: u32) -> Summary {
        self.devices[device as usize].1
    }
}
