//! Random numbers that a seed alone decides, the same on every machine and in every version.
//!
//! The generator is one that `rand` documents as portable, and what is made of its words is integer arithmetic written
//! out here: `rand`'s own ranges and distributions may change from release to release, and floats from platform to
//! platform.
//!
//! A [`Family`] gives each number of a subject (contact 17, campaign 3) a stream of its own, so that whatever is known
//! of it can be drawn again wherever it is needed, and need not be kept.

use std::ops::RangeInclusive;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

/// An odd constant without pattern sets the streams of neighbouring numbers apart. It must not be the increment of
/// SplitMix64, which seeds the generator: neighbours would share words.
const APART: u64 = 0xd134_2543_de82_ef95;

/// The streams of one subject.
#[derive(Clone, Copy, Debug)]
pub struct Family(u64);

impl Family {
    /// The stream of one number of the subject, from its beginning.
    pub fn stream(self, number: u64) -> Draw {
        Draw(Xoshiro256PlusPlus::seed_from_u64(self.0.wrapping_add(number.wrapping_mul(APART))))
    }
}

/// The families of a seed.
#[derive(Clone, Copy, Debug)]
pub struct Families {
    /// How each contact lives.
    pub lives: Family,
    /// What a profile tells of each contact.
    pub portraits: Family,
    /// What each account is.
    pub companies: Family,
    /// What each campaign is.
    pub campaigns: Family,
    /// What each gathering is.
    pub gatherings: Family,
    /// What happens: one long stream each for the programme and the diary.
    pub course: Family,
    /// What each line says beyond its draft, by serial number of a draft, a booking or a deal.
    pub lines: Family,
}

impl Families {
    /// A further family at the end leaves those before it as they are.
    pub fn new(seed: u64) -> Families {
        let mut words = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut next = || Family(words.next_u64());
        Families {
            lives: next(),
            portraits: next(),
            companies: next(),
            campaigns: next(),
            gatherings: next(),
            course: next(),
            lines: next(),
        }
    }
}

/// A stream of draws.
#[derive(Clone, Debug)]
pub struct Draw(Xoshiro256PlusPlus);

impl Draw {
    /// A number from 0 to `limit` − 1; 0 if the limit is 0. The bias, `limit` / 2⁶⁴, is nothing here.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// A number of the range.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// True in so many of a thousand draws.
    pub fn per_mille(&mut self, share: u64) -> bool {
        self.below(1000) < share
    }

    /// One of the list, each as likely.
    pub fn pick<T: Copy, const N: usize>(&mut self, list: &[T; N]) -> T {
        const { assert!(N > 0) };
        list[self.below(N as u64) as usize]
    }

    /// One of the list, each by its weight.
    pub fn weigh<T: Copy, const N: usize>(&mut self, list: &[(u64, T); N]) -> T {
        list[self.weigh_place(list)].1
    }

    /// The place of one of the list, each by its weight.
    pub fn weigh_place<T, const N: usize>(&mut self, list: &[(u64, T); N]) -> usize {
        const { assert!(N > 0) };
        let mut left = self.below(list.iter().map(|(weight, _)| weight).sum());
        for (place, (weight, _)) in list.iter().enumerate() {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return place,
            }
        }
        N - 1
    }
}
