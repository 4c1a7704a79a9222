//! Builds the preload library. It cannot be a part of this crate's own library: its symbols (`open`, `poll`) would take
//! those of every program that links it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    for file in ["stand-in/lib.rs", "stand-in/host.rs", "src/layout.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let variable = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let library = PathBuf::from(variable("OUT_DIR")).join("stand-in.so");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition=2024", "--crate-name=stand_in", "--crate-type=cdylib"])
        .args(["-Copt-level=3", "-Cpanic=abort", "-o"])
        .arg(&library)
        .arg("stand-in/lib.rs")
        .status()
        .unwrap_or_else(|error| panic!("starting rustc: {error}"));
    assert!(status.success(), "the preload library does not compile: {status}");
    println!("cargo::rustc-env=NATIVE_RINGS_STAND_IN={}", library.display());
}
