//! The `postgres` sink against a real server.

mod changes;
mod faults;
mod place;
mod questions;
mod roles;
mod schema;
mod stored;
