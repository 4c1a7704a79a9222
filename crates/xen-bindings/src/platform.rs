//! What boot hands to the kernel: everything a single-vCPU domain has, each thing once, all of it safe to use.

use crate::console::Console;
use crate::domain::DomainWatch;
use crate::events::Events;
use crate::evtchn::Port;
use crate::grant::Windows;
use crate::memory::MemoryFigures;
use crate::window::Window;
use core::fmt;

/// The kind of guest this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Hardware virtualised, without firmware or devices.
    Pvh,
    /// Paravirtualised.
    Pv,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pvh => "PVH",
            Self::Pv => "PV",
        })
    }
}

/// Everything the kernel works with.
pub struct Platform {
    pub events: Events,
    pub windows: Windows,
    pub console: Console,
    /// Memory that no restart of this domain clears; all zero at a cold start. Page aligned, between pages that fault.
    pub durable: &'static mut [u8],
    /// As the toolstack gave it, without the NUL; not UTF-8: empty.
    pub command_line: &'static str,
    pub mode: Mode,
    /// (major, minor).
    pub xen_version: (u16, u16),
    pub memory: MemoryFigures,
    /// Absent if the toolstack set none up (dom0; a store domain before Xen 4.19 has the page but no port).
    pub own_store: Option<(Window, Port)>,
    pub domain_watch: DomainWatch,
    pub own_domid: u16,
    /// Starts of this domain before this one: 0 is a cold start, anything else a warm restart.
    pub restarts: u32,
    /// How the start before this one ended: the panic's text with its place, or the trap with the registers that matter.
    pub last_end: &'static str,
}
