//! The `postgres` sink against a real server.

mod changes;
mod faults;
mod place;
mod questions;
mod schema;
mod stored;
