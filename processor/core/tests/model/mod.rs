//! The independent model that the core is tested against.
//!
//! [`naive`] works out what a log means by sorting and scanning, from the specification alone; [`logs`] draws hostile
//! logs; [`compare`] says where two outcomes differ. Nothing here uses the core, so that the two can only agree by
//! both being right, or by one misreading of the specification. `examples` pins the model by cases worked by hand;
//! `trials` tries the model and the logs on one another.

// A test kit: what a property does not use today is still part of it, and a broken test input should stop at once.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod compare;
pub mod draw;
mod examples;
pub mod forgotten;
pub mod ledger;
pub mod line;
pub mod logs;
pub mod naive;
mod trials;
