//! `numbers`: how long the store takes to its first answer, how large the image is, and what the store says about itself.

use super::{Kind, PLAIN, Scenario};
use crate::markers::Transcript;
use crate::store::Store;

pub const SCENARIO: Scenario = Scenario {
    name: "numbers",
    about: "measures the time to the first answer, the image, and memory and calls as the store counts them",
    kind: Kind::Served(include_str!("../../dom0/numbers.sh")),
    stores: &Store::ALL,
    measure: true,
    ..PLAIN
};

/// Prints what was measured, one value per line, and the store's own words.
pub fn print(title: &str, image: Option<usize>, transcript: &Transcript) {
    println!("\n{title}");
    if let Some(bytes) = image {
        println!("  {:<28} {bytes} bytes", "image");
    }
    for (name, value) in &transcript.values {
        println!("  {name:<28} {value}");
    }
    for line in transcript.output_of("own-status").unwrap_or_default() {
        println!("  | {line}");
    }
}
