//! What an administrator can change while the server runs.

use serde::{Deserialize, Serialize};

use crate::quota::Quotas;

/// What is written to the console as it happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TraceSwitch {
    /// Connections, watches and transactions that come and go.
    Objects,
    /// Every request and every message sent.
    InputOutput,
}

impl TraceSwitch {
    /// All switches in the order in which `log` lists them.
    pub const ALL: [TraceSwitch; 2] = [TraceSwitch::Objects, TraceSwitch::InputOutput];

    /// The name that C xenstored gives it.
    pub fn name(self) -> &'static str {
        match self {
            TraceSwitch::Objects => "obj",
            TraceSwitch::InputOutput => "io",
        }
    }
}

/// Settings that survive a restart.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Settings {
    /// The limits of domains that become known from now on.
    pub quotas: Quotas,
    trace: [bool; TraceSwitch::ALL.len()],
}

impl Settings {
    /// The switch is on. All are off at start.
    pub fn trace(&self, switch: TraceSwitch) -> bool {
        self.trace.get(switch as usize).copied().unwrap_or(false)
    }

    pub(crate) fn set_trace(&mut self, switch: TraceSwitch, on: bool) {
        if let Some(place) = self.trace.get_mut(switch as usize) {
            *place = on;
        }
    }
}
