//! The server's life ends before every single store that is durable or that a client can see, in the middle of larger ones, and
//! in recoveries; the same random streams as those of `model-tests` run meanwhile, over simulated ring pages.
//!
//! Two things are checked. [`checker`]: at each of these moments the pages and the rings come back as exactly the state that was
//! durable then. [`host`]: where a life really ends, the stream goes on, and what clients are told to the end is what the model
//! says. [`client`] is what sits at the other end of a ring. [`site`] tells stores apart by where they go, [`form`] says when two
//! states are the same and makes saved state that lacks a field. That all this can notice what is wrong is shown by [`mutants`],
//! where stores are left out or change places, by [`order`], where clients see things in another order, and by [`left_out`], where
//! saved state lacks a field. [`coverage`] says where lives must have ended during what, [`tour`] makes streams that come by
//! everywhere, and [`memory`] makes copies of the pages cheap.
#![forbid(unsafe_code)]

pub mod checker;
pub mod client;
pub mod coverage;
pub mod form;
pub mod host;
pub mod left_out;
pub mod memory;
pub mod mutants;
pub mod order;
pub mod site;
pub mod tour;
