//! Many VMs at the same time: nothing has to be done twice, because what they do in one directory does not conflict.

use cost_tests::desk::Desk;
use cost_tests::storm::storm;
use xenstore_wire::MessageType::{Directory, Mkdir};

/// VMs that live at the same time: as many as the published figures of oxenstored are for.
const VMS: usize = 300;

#[test]
fn three_hundred_vms_at_once_never_conflict() {
    let mut desk = Desk::new(32 << 20);
    let dom0 = desk.dom0();
    for above in ["/local/domain", "/vm", "/vss"] {
        desk.must(dom0, Mkdir, 0, &format!("{above}|"));
    }
    let outcome = storm(&mut desk, VMS, 1);
    println!("{outcome:?}, {} requests for each VM", outcome.minimum / VMS);
    assert_eq!((outcome.conflicts, outcome.requests), (0, outcome.minimum));
    assert!(outcome.at_once > VMS / 4, "so few at once prove little: {outcome:?}");
    // All that was made for them is gone again.
    assert_eq!(desk.must(dom0, Directory, 0, "/local/domain|").text(), "0|");
    for above in ["/vm", "/vss"] {
        assert_eq!(desk.must(dom0, Directory, 0, &format!("{above}|")).text(), "");
    }
}
