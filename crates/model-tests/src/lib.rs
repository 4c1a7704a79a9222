//! A plain model of the server, written from the description of the protocol and nothing else, and the server itself get
//! the same random streams of what many clients, the hypervisor and the clock may do. After every step, whatever one of them
//! shows to any client must be what the other shows.
//!
//! [`model`] is the model: maps, vectors, and paths as strings; where it has to remember a state it copies all of it.
//! [`engine`] is the server, with its loop and its durable pages, on links that the test opens and closes byte by byte.
//! [`step`] is what may happen, [`maker`] makes a seed into steps, [`contest`] carries them out on both and compares,
//! [`coverage`] says which outcomes each request must have had by the end, and [`shrink`] makes a failing stream short.
#![forbid(unsafe_code)]

pub mod contest;
pub mod coverage;
pub mod engine;
pub mod maker;
pub mod model;
pub mod scenarios;
pub mod shrink;
pub mod step;
