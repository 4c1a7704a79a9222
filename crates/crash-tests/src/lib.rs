//! The server's life ends before every single store that is durable or that a client can see, in the middle of larger ones, and
//! in recoveries; the same random streams as those of `model-tests` run meanwhile, over simulated ring pages.
//!
//! Two things are checked. [`checker`]: at each of these moments the pages and the rings come back as exactly the state that was
//! durable then. [`host`]: where a life really ends, the stream goes on, and what clients are told to the end is what the model
//! says. [`site`] tells stores apart by where they go, [`form`] says when two states are the same and makes saved state that lacks
//! a field, [`left_out`] shows that the checker notices each, [`coverage`] says where lives must have ended during what, and
//! [`memory`] makes copies of the pages cheap.
#![forbid(unsafe_code)]

pub mod checker;
pub mod coverage;
pub mod form;
pub mod host;
pub mod left_out;
pub mod memory;
pub mod site;
