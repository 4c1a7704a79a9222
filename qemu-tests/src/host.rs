//! The programs that must be on the host, which Debian package has each, and how to get the missing ones.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program and the Debian package that has it.
const PROGRAMS: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("setpriv", "util-linux"),
    ("cc", "gcc"),
    ("make", "make"),
];

/// Files that stand for packages without a program of their own.
const FILES: [(&str, &str); 3] = [
    ("/usr/include/stdlib.h", "libc6-dev"),
    ("/usr/include/xen/xen.h", "libxen-dev"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
];

/// Fails with the one line to run if one of `programs` is missing.
pub fn require(programs: &[&str]) -> Result<()> {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = packages_of(&missing);
    bail!("{} not found; run: {}", missing.join(", "), install_line(&packages))
}

/// Installs what is missing of everything this project's commands use, as root or through passwordless sudo.
pub fn set_up() -> Result<()> {
    let programs: Vec<&str> = PROGRAMS.iter().map(|(program, _)| *program).filter(|program| find(program).is_none()).collect();
    let mut packages = packages_of(&programs);
    packages.extend(FILES.iter().filter(|(file, _)| !PathBuf::from(file).exists()).map(|(_, package)| *package));
    if packages.is_empty() {
        println!("nothing is missing on this machine");
        return Ok(());
    }
    println!("missing: {}", packages.join(" "));
    let Some(prefix) = privilege() else {
        bail!("not root and no passwordless sudo; run: {}", install_line(&packages))
    };
    for arguments in [vec!["update"], [vec!["install", "-y", "--no-install-recommends"], packages.clone()].concat()] {
        let mut command = Command::new(prefix.unwrap_or("apt-get"));
        if prefix.is_some() {
            command.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        }
        let status = command.args(&arguments).env("DEBIAN_FRONTEND", "noninteractive").status().context("starting apt-get")?;
        if !status.success() {
            bail!("apt-get {} failed; run: {}", arguments[0], install_line(&packages));
        }
    }
    Ok(())
}

/// Whether QEMU can use KVM for Xen: it needs the device and nested virtualisation, because Xen itself starts PVH guests.
pub fn usable_kvm() -> bool {
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let processor = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| has_nested_virtualisation(&text));
    device && processor
}

fn has_nested_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo.lines().filter(|line| line.starts_with("flags")).any(|line| line.split_whitespace().any(|flag| flag == "svm" || flag == "vmx"))
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
    let mut packages: Vec<&str> = PROGRAMS.iter().filter(|(program, _)| programs.contains(program)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

fn install_line(packages: &[&str]) -> String {
    format!("sudo apt-get install -y --no-install-recommends {}", packages.join(" "))
}

/// `Some(None)` for root, `Some(Some("sudo"))` if sudo asks for no password, `None` otherwise.
fn privilege() -> Option<Option<&'static str>> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if root {
        return Some(None);
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    sudo.is_ok_and(|status| status.success()).then_some(Some("sudo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_program_is_named_by_its_package_once() {
        assert_eq!(packages_of(&["apt-get", "apt-cache", "qemu-system-x86_64"]), ["qemu-system-x86", "apt"]);
        assert_eq!(install_line(&["make"]), "sudo apt-get install -y --no-install-recommends make");
    }

    #[test]
    fn a_processor_without_nested_virtualisation_means_emulation() {
        assert!(has_nested_virtualisation("flags\t\t: fpu svm sse\n"));
        assert!(!has_nested_virtualisation("model name\t: svm vmx\nflags\t\t: fpu svmlike\n"));
    }
}
