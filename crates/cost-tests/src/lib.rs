//! What the server costs: a whole service in one process, stores of any size for it, and work to measure.
//!
//! [`machine`] is a machine whose clients are pipes in memory, [`desk`] the service on it with a client's view, [`pages`] durable
//! pages that count who looks at them. [`host`] fills a store as a host with many domains would, [`operations`] are the requests
//! whose cost is measured, [`instructions`] counts it, [`longest`] finds the longest requests, [`bare`] is
//! the server without the loop, [`durability`] takes the durable pages away, [`storm`] is the life of many VMs at once, [`memory`] weighs
//! what is kept. Nothing here knows how the server works inside; the tests that use it lie beside it.
#![forbid(unsafe_code)]

pub mod bare;
pub mod desk;
pub mod dice;
pub mod durability;
pub mod host;
pub mod image_pages;
pub mod instructions;
pub mod longest;
pub mod machine;
pub mod memory;
pub mod operations;
pub mod pages;
pub mod storm;
