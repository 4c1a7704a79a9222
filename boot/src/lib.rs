//! The parts of boot that are plain calculation, so that they can be tested on any machine: where things lie ([`layout`]) and
//! which page frames are free ([`frames`]).
//!
//! Everything that touches the machine is in the image (`main.rs` and its modules).
#![no_std]
#![forbid(unsafe_code)]

pub mod frames;
pub mod layout;
