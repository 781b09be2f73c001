//! `make bench`: what each stage costs, beside what the stages below it reach.
//!
//! Load is generated, the same each time. Nothing is asserted: machines differ, and a table on the same machine before and
//! after a change tells more than a limit.
//!
//! `cargo bench --bench stages -- [SHAPE:CONTACTS:EVENTS]… [STAGE]…` measures other loads, or only some stages:
//! `real:2000000:10000000 replay` is the one that shows, for half an hour, that memory stays within `[state] memory` and
//! half a gigabyte.

#[path = "../common/mod.rs"]
mod common;
mod stage;

use anyhow::Result;

use common::load::{EVEN, Load, Shape};
use common::{Asked, Table, asked};
use stage::Stage;

/// Each shape with a small state and a large one.
const LOADS: [Load; 4] = [
    EVEN[0],
    EVEN[1],
    Load { shape: Shape::Real, contacts: 200_000, events: 1_000_000 },
    Load { shape: Shape::Real, contacts: 2_000_000, events: 2_000_000 },
];

fn main() -> Result<()> {
    let Some(Asked { loads, rows }) = asked::<Stage>()? else { return Ok(()) };
    for load in if loads.is_empty() { &LOADS[..] } else { &loads } {
        let dir = tempfile::Builder::new().prefix("bench").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let file = dir.path().join("load.jsonl");
        let bytes = load.write(&file)?;
        let mut table = Table::new(*load, bytes, &file);
        for stage in &rows {
            table.measure(*stage)?;
        }
    }
    Ok(())
}
