//! Lapses and recoveries by month, as a small chart.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use jiff::Timestamp;

use super::{Style, grouped, month};

/// Months that are shown: a year, which is how far people look back.
const SHOWN: i64 = 12;
/// The longest bar.
const BAR_CHARS: u64 = 40;
const MONTHS_A_YEAR: i64 = 12;

/// Counts by month.
#[derive(Default)]
pub(super) struct Months {
    lapsed: BTreeMap<i64, u64>,
    recovered: BTreeMap<i64, u64>,
}

impl Months {
    /// Counts one lapse, and its recovery if there was one.
    pub fn add(&mut self, lapsed: Option<Timestamp>, recovered: Option<Timestamp>) {
        for (counts, at) in [(&mut self.lapsed, lapsed), (&mut self.recovered, recovered)] {
            if let Some(at) = at {
                *counts.entry(month(at)).or_default() += 1;
            }
        }
    }

    /// Writes the chart of the last months.
    pub fn write(&self, out: &mut impl Write, style: Style) -> Result<()> {
        let Some((&last, _)) = self.lapsed.iter().chain(&self.recovered).max() else { return Ok(()) };
        let first =
            self.lapsed.keys().chain(self.recovered.keys()).min().copied().unwrap_or(last).max(last - SHOWN + 1);
        let of = |counts: &BTreeMap<i64, u64>, month| counts.get(&month).copied().unwrap_or(0);
        let is_empty = |month: &i64| of(&self.lapsed, *month) == 0 && of(&self.recovered, *month) == 0;
        let first = (first..=last).find(|month| !is_empty(month)).unwrap_or(last);
        let most =
            (first..=last).map(|month| of(&self.lapsed, month).max(of(&self.recovered, month))).max().unwrap_or(1);
        writeln!(
            out,
            "\n{}  {}",
            style.bold("Lapses and recoveries by month"),
            style.dim("█ went silent  ▒ came back")
        )?;
        for month in first..=last {
            let (lapsed, recovered) = (of(&self.lapsed, month), of(&self.recovered, month));
            let name = format!("{:04}-{:02}", month.div_euclid(MONTHS_A_YEAR), month.rem_euclid(MONTHS_A_YEAR) + 1);
            writeln!(out, "{name}  {}{}", bar('█', lapsed, most), grouped(lapsed))?;
            let bar = bar('▒', recovered, most);
            writeln!(out, "         {}", style.dim(&format!("{bar}{}", grouped(recovered))))?;
        }
        Ok(())
    }
}

/// A bar and a space; nothing where there is nothing.
fn bar(full: char, count: u64, most: u64) -> String {
    let chars = (count * BAR_CHARS).div_ceil(most.max(1));
    let space = (chars > 0).then_some(' ');
    std::iter::repeat_n(full, usize::try_from(chars).unwrap_or(0)).chain(space).collect()
}
