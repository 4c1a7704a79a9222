//! What the bench's programs share: [`inside`] is what a request costs within the process. The bench itself is the program `store-bench`; `ours-on-rings`, `ours-inside` and `ours-weighed` are what it starts of ours, each
//! also of another commit.
#![forbid(unsafe_code)]

pub mod inside;
