//! What a process has used, as the system counts it.

use std::fs;

/// CPU and memory of a process so far.
pub struct Used {
    /// User and system seconds.
    pub cpu_s: f64,
    /// The largest resident set.
    pub max_rss_mb: f64,
}

/// What this process has used: from `/proc`, which is Linux's; `None` elsewhere.
pub fn used() -> Option<Used> {
    used_by(std::process::id())
}

/// The same of another process, as long as it is there.
pub fn used_by(process: u32) -> Option<Used> {
    /// Linux counts in hundredths of a second on every platform that has a `/proc`.
    const TICKS_A_SECOND: f64 = 100.0;
    /// User and system time, counted behind the command's closing parenthesis.
    const USER: usize = 11;
    const KB_A_MB: f64 = 1024.0;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kb: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
    Some(Used { cpu_s: (ticks(USER)? + ticks(USER + 1)?) / TICKS_A_SECOND, max_rss_mb: kb / KB_A_MB })
}
