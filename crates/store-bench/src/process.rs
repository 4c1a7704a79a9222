//! What the system knows of a process: its processor time, to the nanosecond, and its memory.

use std::fs;

use anyhow::{Context as _, bail};

/// Nanoseconds that all threads of a process have run, in it and in the kernel for it.
pub fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    let folder = format!("/proc/{pid}/task");
    let mut sum = 0u64;
    for task in fs::read_dir(&folder).with_context(|| folder.clone())? {
        let path = task?.path().join("schedstat");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let first = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        sum += first.with_context(|| format!("{}: {text:?}", path.display()))?;
    }
    if sum == 0 {
        bail!("this kernel does not count the time of processes in /proc/PID/schedstat");
    }
    Ok(sum)
}

/// KiB of memory that a process holds.
pub fn memory_kib(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
    number.with_context(|| format!("{path} has no VmRSS"))
}
