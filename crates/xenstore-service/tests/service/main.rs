//! The loop and the server behind it as their clients see them, over simulated rings. One binary, because what takes time is
//! compiling the service for the simulated machine.
#![forbid(unsafe_code)]

#[path = "../bed/mod.rs"]
mod bed;

mod crash;
mod domains;
mod hoarders;
mod limits;
mod lives;
mod losing;
mod offers;
mod poison;
mod random;
mod requests;
mod rings;
