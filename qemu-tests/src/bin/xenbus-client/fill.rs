//! Many nodes, for a store that should be large: each as long as what `xl` writes for a guest usually is.

use std::io;

use crate::bus::{Bus, NONE, WRITE};

/// Nodes in one folder.
const IN_A_FOLDER: u32 = 100;

/// Writes `nodes` nodes below `path`, folders not counted.
pub fn fill(bus: &mut Bus, path: &str, nodes: u32) -> io::Result<()> {
    for node in 0..nodes {
        let (folder, child) = (node / IN_A_FOLDER, node % IN_A_FOLDER);
        let payload = format!("{path}/{folder}/node-{child}\0value of {node}");
        bus.must(WRITE, NONE, payload.as_bytes())?;
    }
    Ok(())
}
