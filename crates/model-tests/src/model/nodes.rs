//! READ, DIRECTORY, DIRECTORY_PART, GET_PERMS, WRITE, MKDIR, RM, SET_PERMS.

use super::arguments::{Named, atoi, first_and_rest, only, path, permission, strings};
use super::requests::{Answer, ok};
use super::transactions::{Saw, Write};
use super::tree::{Entry, Wish, parent, upwards};
use super::watches::Change;
use super::{ANY, Errno, Job, PAYLOAD_MAX};

/// More entries no list has, whoever writes it.
const ENTRIES_MAX: usize = 255;
/// No name is longer, whoever makes it: only the privileged domain has no limit of paths.
const NAME_MAX: usize = 3072;

impl Job<'_> {
    fn path_limit(&self) -> Option<usize> {
        let limit = self.model.limit_of(self.caller.domid, "path-max");
        limit.and_then(|limit| usize::try_from(limit).ok())
    }

    /// A path in the store.
    fn path(&self, text: &[u8]) -> Result<String, Errno> {
        let named = path(text, self.caller.domid, self.path_limit(), false);
        named.map(|named| named.path).ok_or("EINVAL")
    }

    fn only_path(&self, payload: &[u8]) -> Result<String, Errno> {
        self.path(&only(payload).ok_or("EINVAL")?)
    }

    /// A path in the store, or one that begins with `@`.
    pub(super) fn any_path(&self, text: &[u8]) -> Result<Named, Errno> {
        path(text, self.caller.domid, self.path_limit(), true).ok_or("EINVAL")
    }

    fn access(&self, path: &str, wish: Wish) -> Result<(), Errno> {
        self.tree().access(self.caller, path, wish)
    }

    /// Asks whether a node may be read, and notes the answer; and if so, what will be seen of it.
    fn look(&mut self, path: &str, saw: Saw) -> Result<(), Errno> {
        let answer = self.access(path, Wish::Read);
        let mut all = vec![Saw::Access(Wish::Read)];
        all.extend(answer.map(|()| saw));
        self.note(path, &all)?;
        answer
    }

    pub(super) fn read(&mut self, payload: &[u8]) -> Answer {
        let path = self.only_path(payload)?;
        self.look(&path, Saw::Value)?;
        Ok(self.tree().get(&path).ok_or("ENOENT")?.value.clone())
    }

    pub(super) fn directory(&mut self, payload: &[u8]) -> Answer {
        let path = self.only_path(payload)?;
        self.look(&path, Saw::Children)?;
        let node = self.tree().get(&path).ok_or("ENOENT")?;
        if node.names() > PAYLOAD_MAX {
            return Err("E2BIG");
        }
        Ok(list(&node.children))
    }

    pub(super) fn directory_part(&mut self, payload: &[u8]) -> Answer {
        let arguments = strings(payload);
        let [path, offset] = arguments.as_slice() else {
            return Err("EINVAL");
        };
        let path = self.path(path)?;
        self.look(&path, Saw::Children)?;
        let node = self.tree().get(&path).ok_or("ENOENT")?;
        let mut part = format!("{}\0", node.generation).into_bytes();
        let all = list(&node.children);
        let room = PAYLOAD_MAX - part.len() - 1;
        // An offset is what is left of a number in an unsigned word: a negative one is behind everything.
        let offset = atoi(offset) as u32 as usize;
        let rest = all.get(offset..).unwrap_or_default();
        let mut used = 0;
        for name in rest.split_inclusive(|byte| *byte == 0) {
            // Its NUL included it would be one byte longer.
            if used + name.len() > room {
                return Ok(part);
            }
            used += name.len();
            part.extend_from_slice(name);
        }
        part.push(0);
        Ok(part)
    }

    pub(super) fn get_permissions(&mut self, payload: &[u8]) -> Answer {
        let argument = only(payload).ok_or("EINVAL")?;
        let named = self.any_path(&argument)?;
        let permissions = if named.is_special() {
            self.special(&named.path, Wish::Read)?
        } else {
            self.look(&named.path, Saw::Permissions)?;
            self.tree().get(&named.path).ok_or("ENOENT")?.permissions.clone()
        };
        let entries: Vec<String> = permissions
            .iter()
            .map(|entry| format!("{}{}", entry.letter, entry.domid))
            .collect();
        Ok(list(&entries))
    }

    /// The permissions of a special node. Those that are none have no node above but the root.
    fn special(&self, name: &str, wish: Wish) -> Result<Vec<Entry>, Errno> {
        let errno = match self.model.special.get(name) {
            Some(list) if self.caller.may(list, wish) => return Ok(list.clone()),
            Some(_) => "EACCES",
            None => "ENOENT",
        };
        let root = &self.tree().nearest("/").permissions;
        Err(if self.caller.may_some(root, wish) {
            errno
        } else {
            "EACCES"
        })
    }

    pub(super) fn write(&mut self, payload: &[u8]) -> Answer {
        let (path, value) = first_and_rest(payload).ok_or("EINVAL")?;
        let path = self.path(&path)?;
        let top = self.top(&path);
        self.write_value(&path, &value)?;
        self.wrote(Write::Value(path, value), top)?;
        ok()
    }

    pub(super) fn write_value(&mut self, path: &str, value: &[u8]) -> Result<(), Errno> {
        match self.access(path, Wish::Write) {
            Ok(()) => self.set_value(path, value)?,
            Err("ENOENT") => self.create(path, value)?,
            Err(errno) => {
                self.note(path, &[Saw::Access(Wish::Write)])?;
                return Err(errno);
            }
        }
        self.tell(Change::of(path, true));
        Ok(())
    }

    fn set_value(&mut self, path: &str, value: &[u8]) -> Result<(), Errno> {
        let generation = self.next_generation();
        let Some(node) = self.tree_mut().0.get_mut(path) else {
            return Err("ENOENT");
        };
        let grows = value.len() > node.value.len();
        node.value = value.to_vec();
        node.generation = generation;
        let (size, owner) = (node.size(), node.owner());
        if self.over("node-size", size) {
            return Err("ENOSPC");
        }
        if grows { self.memory_allows(owner) } else { Ok(()) }
    }

    pub(super) fn mkdir(&mut self, payload: &[u8]) -> Answer {
        let path = self.only_path(payload)?;
        let top = self.top(&path);
        self.make_directory(&path)?;
        self.wrote(Write::Mkdir(path), top)?;
        ok()
    }

    pub(super) fn make_directory(&mut self, path: &str) -> Result<(), Errno> {
        match self.access(path, Wish::Write) {
            Ok(()) => Ok(()),
            Err("ENOENT") => {
                self.create(path, b"")?;
                self.tell(Change::of(path, true));
                Ok(())
            }
            Err(errno) => {
                self.note(path, &[Saw::Access(Wish::Write)])?;
                Err(errno)
            }
        }
    }

    /// Makes a node and those above it that are missing, from the top. All get the permissions of the nearest node that was
    /// there; what an unprivileged domain makes is its own.
    fn create(&mut self, path: &str, value: &[u8]) -> Result<(), Errno> {
        let mut permissions = self.tree().nearest(path).permissions.clone();
        if !self.caller.privileged {
            permissions[0].domid = self.caller.domid;
        }
        let missing: Vec<&str> = upwards(path)
            .into_iter()
            .take_while(|path| self.tree().get(path).is_none())
            .collect();
        for node in missing.into_iter().rev() {
            let value = if node == path { value } else { b"" };
            if node.rsplit('/').next().is_some_and(|name| name.len() > NAME_MAX) {
                return Err("EINVAL");
            }
            self.may_have_another_node()?;
            let generation = self.next_generation();
            self.tree_mut().create(node, value, permissions.clone(), generation);
            let size = |path: &str| self.tree().get(path).map_or(0, |node| node.size());
            if self.over("node-size", size(node)) || self.over("node-size", parent(node).map_or(0, size)) {
                return Err("ENOSPC");
            }
            let above = parent(node)
                .and_then(|above| self.tree().get(above))
                .map(|above| above.owner());
            self.memory_allows(above.unwrap_or(permissions[0].domid))?;
            self.memory_allows(permissions[0].domid)?;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, payload: &[u8]) -> Answer {
        let path = self.only_path(payload)?;
        let top = self.top(&path);
        self.remove_existing(&path)?;
        self.wrote(Write::Remove(path), top)?;
        ok()
    }

    pub(super) fn remove_existing(&mut self, path: &str) -> Result<(), Errno> {
        let above = parent(path).map(str::to_owned);
        let there = above.is_some_and(|above| self.tree().get(&above).is_some());
        match self.access(path, Wish::Write) {
            Ok(()) if path == "/" => {
                self.note(path, &[Saw::Access(Wish::Write)])?;
                Err("EINVAL")
            }
            Ok(()) => {
                self.take_away(path);
                Ok(())
            }
            // What is not there need not be removed, if it could be there.
            Err("ENOENT") if there => Ok(()),
            Err("ENOENT") => {
                self.note(path, &[Saw::Access(Wish::Write), Saw::Parent])?;
                Err("ENOENT")
            }
            Err(errno) => {
                self.note(path, &[Saw::Access(Wish::Write)])?;
                Err(errno)
            }
        }
    }

    /// Removes a node and all below. Each is told while all of them can still be seen, the deepest first.
    pub(super) fn take_away(&mut self, path: &str) {
        let order = if self.gathered.is_some() {
            self.tree().downwards(path)
        } else {
            self.tree().upwards_from_leaves(path)
        };
        for node in order {
            self.tell(Change::of(&node, node == path));
        }
        let generation = self.next_generation();
        self.tree_mut().remove(path, generation);
    }

    pub(super) fn set_permissions(&mut self, payload: &[u8]) -> Answer {
        let arguments = strings(payload);
        let Some((argument, texts)) = arguments.split_first().filter(|(_, texts)| !texts.is_empty()) else {
            return Err("EINVAL");
        };
        if self.over("node-permissions", texts.len()) || texts.len() > ENTRIES_MAX {
            return Err("ENOSPC");
        }
        let entries: Option<Vec<Entry>> = texts.iter().map(|text| permission(text)).collect();
        let mut entries = entries.ok_or("EINVAL")?;
        for entry in &mut entries {
            entry.ignored = !self.may_be_named(entry.domid);
        }
        if entries[0].ignored {
            return Err("ENOENT");
        }
        let named = self.any_path(argument)?;
        if named.is_special() {
            // Special nodes are outside of transactions.
            let before = self.special(&named.path, Wish::Own)?;
            self.may_give_away(&before, &entries)?;
            self.tell_of_special_permissions(&named.path, [&before, &entries]);
            self.model.special.insert(named.path, entries);
        } else {
            let top = self.top(&named.path);
            self.write_permissions(&named.path, &entries)?;
            self.wrote(Write::Permissions(named.path, entries), top)?;
        }
        ok()
    }

    pub(super) fn write_permissions(&mut self, path: &str, entries: &[Entry]) -> Result<(), Errno> {
        if let Err(errno) = self.access(path, Wish::Own) {
            self.note(path, &[Saw::Access(Wish::Own)])?;
            return Err(errno);
        }
        let before = self.tree().get(path).ok_or("ENOENT")?.permissions.clone();
        if let Err(errno) = self.may_give_away(&before, entries) {
            self.note(path, &[Saw::Access(Wish::Own), Saw::Owner])?;
            return Err(errno);
        }
        self.replace_permissions(path, entries);
        if entries.len() > before.len() {
            self.memory_allows(entries[0].domid)?;
        }
        self.tell(Change::of_permissions(path, before));
        Ok(())
    }

    pub(super) fn replace_permissions(&mut self, path: &str, entries: &[Entry]) {
        let generation = self.next_generation();
        if let Some(node) = self.tree_mut().0.get_mut(path) {
            node.permissions = entries.to_vec();
            node.generation = generation;
        }
    }

    /// Only the privileged domain makes another the owner.
    fn may_give_away(&self, before: &[Entry], after: &[Entry]) -> Result<(), Errno> {
        if self.caller.privileged || before[0].domid == after[0].domid {
            Ok(())
        } else {
            Err("EPERM")
        }
    }

    /// An entry means something if its domain exists, or is every domain and the caller knows that notation.
    fn may_be_named(&mut self, domid: u16) -> bool {
        if domid == ANY {
            return self.features_of(self.caller.domid) & super::domains::DOMID_ANY != 0;
        }
        self.exists(domid)
    }
}

/// Texts, each with a NUL.
fn list(texts: &[String]) -> Vec<u8> {
    texts.iter().flat_map(|text| [text.as_bytes(), &[0]].concat()).collect()
}
