//! The programs that must be on the host, and which Debian package has each.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program that this harness runs, and the Debian package that has it. `setup.sh` knows these and what building needs.
const PROGRAMS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
];

/// Fails with the one line to run if one of `programs` is missing.
pub fn require(programs: &[&str]) -> Result<()> {
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| find(program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = packages_of(&missing);
    bail!("{} not found; run: {}", missing.join(", "), install_line(&packages))
}

/// Installs what is missing of everything that this project's commands use. Returns whether all is there now.
pub fn set_up() -> Result<bool> {
    let status = Command::new("sh")
        .args(["-c", include_str!("../setup.sh")])
        .status()
        .context("starting sh")?;
    Ok(status.success())
}

/// Whether QEMU can use KVM for Xen: it needs the device and nested virtualisation, because Xen itself starts PVH guests.
pub fn usable_kvm() -> bool {
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    let processor = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| has_nested_virtualisation(&text));
    device && processor
}

fn has_nested_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "svm" || flag == "vmx"))
}

/// Looks for `program` in PATH and in the folders that an ordinary user's PATH lacks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn packages_of(programs: &[&str]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| programs.contains(program))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    packages
}

fn install_line(packages: &[&str]) -> String {
    format!("sudo apt-get install -y --no-install-recommends {}", packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_program_is_named_by_its_package_once() {
        assert_eq!(
            packages_of(&["apt-get", "apt-cache", "qemu-system-x86_64"]),
            ["qemu-system-x86", "apt"]
        );
        assert_eq!(
            install_line(&["apt"]),
            "sudo apt-get install -y --no-install-recommends apt"
        );
    }

    #[test]
    fn a_processor_without_nested_virtualisation_means_emulation() {
        assert!(has_nested_virtualisation("flags\t\t: fpu svm sse\n"));
        assert!(!has_nested_virtualisation(
            "model name\t: svm vmx\nflags\t\t: fpu svmlike\n"
        ));
    }
}
