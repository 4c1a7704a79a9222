//! Programs of ours, and what the system knows of a process: its processor time, to the nanosecond, and its memory.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

/// A program of ours: beside this one, or in the folder of another build.
pub fn program(name: &str, programs: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    let path = match programs {
        Some(folder) => folder.join(name),
        None => std::env::current_exe()?.with_file_name(name),
    };
    if !path.is_file() {
        bail!("{} is not there", path.display());
    }
    Ok(path)
}

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

/// KiB of memory that a process holds, and what of it is a file's or shared with others, as rings are.
pub fn memory_kib(pid: u32) -> anyhow::Result<(u64, u64)> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        number.with_context(|| format!("{path} has no {name}"))
    };
    Ok((number("VmRSS:")?, number("RssFile:")? + number("RssShmem:")?))
}
