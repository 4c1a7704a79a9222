//! Mutants that no client and no administrator can tell from the server, each with the reason.

use super::listed::Row;

/// File, function, kind, beginning of the text that is changed, reason.
#[rustfmt::skip]
pub const LIST: &[Row] = &[
    Row("allowance.rs", "warn_of_memory", "swapped", "self.keep(", "one is put to the changes and the other to the actions of the record"),
    Row("node_requests.rs", "set_permissions", "never", "count == 0", "Permissions::from_entries makes no list of nothing, and that is EINVAL as well"),
    Row("node_requests.rs", "directory_part", "never", "offset >= node.child_names_len()", "Tree::append_names adds nothing from behind the end, and the empty one is put there anyway"),
    Row("node_requests.rs", "directory_part", "operator", "offset >= node.child_names_len()", "Tree::append_names adds nothing from the end on, and the empty one is put there anyway"),
    Row("node_changes.rs", "replace_permissions", "swapped", "self.charge(node.permissions.owner(), -1", "charges are added up, and in which order says nothing"),
    Row("node_changes.rs", "remove_node", "always", "self.collected.is_none()", "Decision::tell_collected tells each path once, where it was collected first"),
];
