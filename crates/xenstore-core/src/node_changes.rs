//! Changing single nodes, within what the caller is allowed: each change goes to the view of this decision and into its record.

use alloc::boxed::Box;
use alloc::vec::Vec;

use xenstore_wire::{Errno, Path, PathBuf, Permissions};

use crate::account::node_size;
use crate::allowance::SHORT_VALUE;
use crate::decision::Decision;
use crate::overlay::ChangedNode;
use crate::quota::Limit;
use crate::record::{Change, NodeChange};
use crate::transaction::Facets;
use crate::tree::{Memory, NAME_MAX};

impl<M: Memory> Decision<'_, M> {
    /// Makes one node whose parent exists.
    pub fn create_node(&mut self, path: &PathBuf, value: &[u8], permissions: Permissions) -> Result<(), Errno> {
        // Paths of the privileged domain have no limit but the payload. What the tree cannot hold must not be answered with OK.
        if path.as_path().name().len() > NAME_MAX {
            return Err(Errno::EINVAL);
        }
        let owner = permissions.owner();
        let entries = permissions.entries().len();
        let label = self.label_of_new(path)?;
        self.room(path.as_path(), value.len(), entries, true)?;
        let (nodes, _) = self.charged_to(self.caller.domid());
        if self.over(Limit::Nodes, u64::try_from(nodes).unwrap_or(0).saturating_add(1))
            || self.over(Limit::NodeSize, node_size(value.len(), entries, 0))
        {
            return Err(Errno::ENOSPC);
        }
        let mut above = owner;
        if let Some(parent) = path.as_path().parent()
            && let Some(found) = self.view.find(parent)
        {
            let name = (path.as_path().name().len() as u64).saturating_add(1);
            let names = found.child_names().saturating_add(name);
            let parent_owner = found.permissions().owner();
            let size = node_size(found.value().len(), found.entries().iter().count(), names);
            if self.over(Limit::NodeSize, size) {
                return Err(Errno::ENOSPC);
            }
            self.charge(parent_owner, 0, i64::try_from(name).unwrap_or(0));
            above = parent_owner;
        }
        let size = node_size(value.len(), entries, 0).saturating_add(path.as_path().as_str().len() as u64);
        self.charge(owner, 1, i64::try_from(size).unwrap_or(i64::MAX));
        self.memory_allows(above)?;
        self.memory_allows(owner)?;
        self.share_allows(owner)?;
        let node = ChangedNode {
            value: Box::from(value),
            permissions: permissions.clone(),
            label,
            child_names: 0,
        };
        self.view.create(path, node);
        let generation = self.next_generation();
        let change = NodeChange::Create {
            path: path.clone(),
            value: Box::from(value),
            permissions,
            label,
            generation,
        };
        self.node(change);
        Ok(())
    }

    /// What the policy marks a new node with, if it lets the caller make it.
    fn label_of_new(&mut self, path: &PathBuf) -> Result<u32, Errno> {
        let above = path.as_path().parent().unwrap_or(Path::ROOT);
        let found = self.view.find(above).ok_or(Errno::ENOENT)?;
        let (name, parent) = (path.as_path().as_str(), found.object(above));
        let label = self.caller.label_of_new(name, &parent);
        if self.caller.may_create(name, label, &parent) {
            return Ok(label);
        }
        self.observe(path, Facets::WRITING)?;
        Err(Errno::EACCES)
    }

    /// Gives a node its new value; the old one had `held` bytes.
    pub fn set_value(&mut self, path: &PathBuf, held: usize, node: ChangedNode) -> Result<(), Errno> {
        let value = node.value.clone();
        let entries = node.permissions.entries().len();
        let longer = value.len() > held;
        let grows = longer && value.len() > SHORT_VALUE;
        self.room(path.as_path(), value.len(), entries, grows)?;
        if self.over(Limit::NodeSize, node_size(value.len(), entries, node.child_names)) {
            return Err(Errno::ENOSPC);
        }
        let owner = node.permissions.owner();
        let more = length(value.len()).saturating_sub(length(held));
        self.charge(owner, 0, more);
        if longer {
            self.memory_allows(owner)?;
        }
        if grows {
            self.share_allows(owner)?;
        }
        self.view.put(path, node);
        let generation = self.next_generation();
        self.node(NodeChange::SetValue {
            path: path.clone(),
            value,
            generation,
        });
        Ok(())
    }

    pub fn replace_permissions(&mut self, path: &PathBuf, permissions: &Permissions) -> Result<(), Errno> {
        let Some(mut node) = self.view.find(path.as_path()).map(|found| found.to_changed()) else {
            return Err(Errno::ENOENT);
        };
        let entries = permissions.entries().len();
        let grows = entries > node.permissions.entries().len();
        self.room(path.as_path(), node.value.len(), entries, grows)?;
        let size = |list: &Permissions| {
            let node = node_size(node.value.len(), list.entries().len(), node.child_names);
            i64::try_from(node.saturating_add(path.as_path().as_str().len() as u64)).unwrap_or(i64::MAX)
        };
        let (before, after) = (size(&node.permissions), size(permissions));
        self.charge(node.permissions.owner(), -1, before.saturating_neg());
        self.charge(permissions.owner(), 1, after);
        if grows {
            self.memory_allows(permissions.owner())?;
        }
        node.permissions = permissions.clone();
        self.view.put(path, node);
        let generation = self.next_generation();
        let change = NodeChange::SetPermissions {
            path: path.clone(),
            permissions: permissions.clone(),
            generation,
        };
        self.node(change);
        Ok(())
    }

    /// Removes a node and all below it; the events of each are told while it can still be seen, deepest first.
    pub fn remove_node(&mut self, path: &PathBuf) -> Result<(), Errno> {
        // A list of (path, visited), not recursion: a guest chooses how deep its tree is (XSA-418).
        let mut stack: Vec<(PathBuf, bool)> = Vec::from([(path.clone(), false)]);
        while let Some((node, visited)) = stack.pop() {
            if !visited {
                // A commit tells a subtree from its root down, a plain removal from its leaves up.
                if self.collected.is_some() {
                    self.tell_removal(&node, node == *path);
                }
                let children = self.view.children(node.as_path());
                stack.push((node, true));
                stack.extend(children.into_iter().rev().map(|child| (child, false)));
                continue;
            }
            if let Some(found) = self.view.find(node.as_path()) {
                if !self.caller.may_remove(&found.object(node.as_path())) {
                    self.observe(path, Facets::WRITING)?;
                    return Err(Errno::EACCES);
                }
                let owner = found.permissions().owner();
                let size = node_size(found.value().len(), found.entries().iter().count(), found.child_names())
                    .saturating_add(node.as_path().as_str().len() as u64);
                self.charge(owner, -1, i64::try_from(size).unwrap_or(i64::MAX).saturating_neg());
            }
            if self.collected.is_none() {
                self.tell_removal(&node, node == *path);
            }
        }
        if let Some(parent) = path.as_path().parent()
            && let Some(owner) = self.view.find(parent).map(|found| found.permissions().owner())
        {
            self.charge(
                owner,
                0,
                length(path.as_path().name().len()).saturating_add(1).saturating_neg(),
            );
        }
        self.view.remove(path);
        let generation = self.next_generation();
        self.node(NodeChange::Remove {
            path: path.clone(),
            generation,
        });
        Ok(())
    }

    fn node(&mut self, change: NodeChange) {
        let place = self.place;
        self.change(Change::Node { place, change });
    }
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
