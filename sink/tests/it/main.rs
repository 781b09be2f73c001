//! The sinks, driven as the pipeline drives them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod crash;
mod dispatcher;
mod file;
mod kafka;
mod kit;
<<<<<<< HEAD
<<<<<<< HEAD
mod postgres;
=======
>>>>>>> 00cb9909029c40ebd8e30e5afae910f176c85285
mod webhook;
=======
mod postgres;
>>>>>>> d110a91e4955f1a2a020cd038d0f28f493451986
