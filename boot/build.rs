//! Tells the linker how to make the image: static, at a fixed address, laid out by `linker.ld` at the top of the repository.
//! Only for the image's binary, so that tests and plain builds of this package stay ordinary programs.

use std::env;
use std::fs;
use std::path::Path;

/// The image's memory functions under other names, for `tests/intrinsics.rs`.
fn write_intrinsics_for_tests() {
    println!("cargo::rerun-if-changed=src/intrinsics.s");
    let mut text = fs::read_to_string("src/intrinsics.s").expect("boot/src/intrinsics.s can be read");
    for name in ["memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen"] {
        text = text.replace(name, &format!("ours_{name}"));
    }
    let folder = env::var("OUT_DIR").expect("set by cargo");
    fs::write(Path::new(&folder).join("intrinsics_for_tests.s"), text).expect("cargo's own folder can be written to");
}

fn main() {
    println!("cargo::rerun-if-changed=../linker.ld");
    write_intrinsics_for_tests();
    if env::var_os("CARGO_FEATURE_ENTRY").is_none() {
        return;
    }
    let folder = env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    let target = env::var("TARGET").expect("set by cargo");
    // linux-gnu links through a C compiler driver, x86_64-unknown-none calls the linker itself.
    let driver = target.ends_with("-linux-gnu");
    if driver {
        for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    } else {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
    let prefix = if driver { "-Wl," } else { "" };
    for argument in [
        &format!("--script={folder}/../linker.ld"),
        "--build-id=none",
        "--gc-sections",
    ] {
        println!("cargo::rustc-link-arg-bins={prefix}{argument}");
    }
    let page_size = if driver {
        "-Wl,-z,max-page-size=4096"
    } else {
        "-zmax-page-size=4096"
    };
    println!("cargo::rustc-link-arg-bins={page_size}");
}
