//! The same requests to one of Debian's servers and to ours, over ring pages in one process: what each guest sees of the one
//! must be what it sees of the other, answers and events and their order, or a difference that has a name here.
//!
//! [`trace`] makes a seed into steps, [`duel`] carries them out on both and compares, [`differences`] is the table of what
//! may differ, [`debian`] and [`ours`] are the servers, and [`guests`] plays the domains. Nothing here knows how any of the
//! servers works inside.
#![forbid(unsafe_code)]

pub mod debian;
pub mod differences;
pub mod duel;
pub mod guests;
pub mod ours;
pub mod shrink;
pub mod trace;
