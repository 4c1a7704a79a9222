//! The daemon from outside: its socket, its state file, its command line, and programs that others wrote.

#![forbid(unsafe_code)]

mod bed;
mod clients;
mod command_line;
mod real_clients;
mod state;
