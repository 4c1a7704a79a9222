//! READ, DIRECTORY, DIRECTORY_PART, GET_PERMS, WRITE, MKDIR, RM, SET_PERMS.

use alloc::string::ToString;
use alloc::vec::Vec;

use xenstore_wire::{
    DomId, Errno, PAYLOAD_MAX, Path, PathBuf, Permission, Permissions, SpecialKind, Target, atoi, one_string, resolve,
    resolve_with_special, strings,
};

use crate::decision::{Answer, Decision, Outcome, payload_of};
use crate::overlay::{Found, View};
use crate::policy::{Caller, Entries, Object, Rights};
use crate::quota::Limit;
use crate::record::{Change, Shown, SpecialName};
use crate::transaction::{Facets, Write};
use crate::tree::{Memory, Node};

/// What an attempt to use a node comes to. A caller that may not look at the nearest existing node above does not learn
/// whether the node exists.
pub(crate) fn access<M: Memory>(
    view: &View<'_, M>,
    caller: &Caller<'_>,
    path: Path<'_>,
    wanted: Rights,
) -> Result<(), Errno> {
    judge(view, caller, path, wanted, view.find(path)).map(drop)
}

/// As [`access`]; `found` is what the view has at `path`, and comes back if it may be used.
fn judge<'f, M: Memory>(
    view: &View<'_, M>,
    caller: &Caller<'_>,
    path: Path<'_>,
    wanted: Rights,
    found: Option<Found<'f>>,
) -> Result<Found<'f>, Errno> {
    let errno = match found {
        Some(found) if caller.rights(&found.object(path)).include(wanted) => return Ok(found),
        Some(_) => Errno::EACCES,
        None => Errno::ENOENT,
    };
    let above = path.parent().unwrap_or(Path::ROOT);
    match view.nearest(above) {
        Some((above, found)) if caller.rights(&found.object(above)).touch(wanted) => Err(errno),
        _ => Err(Errno::EACCES),
    }
}

/// The nodes that must be made so that `path` exists, topmost first, and the permissions that each gets: those of the nearest
/// node that is there, for the owner that the policy says.
pub(crate) fn to_be_made<M: Memory>(
    view: &View<'_, M>,
    caller: &Caller<'_>,
    path: Path<'_>,
) -> Option<(Vec<PathBuf>, Permissions)> {
    let (nearest, found) = view.nearest(path)?;
    let inherited = found.permissions();
    let owner = caller.owner_of_new(inherited.owner());
    let permissions = inherited.with_owner(owner);
    let missing = path.ancestors().take_while(|above| *above != nearest);
    let mut missing: Vec<PathBuf> = missing.map(|above| above.to_owned()).collect();
    missing.reverse();
    Some((missing, permissions))
}

/// The special node that a name stands for; other names exist only for watches.
fn special_name(kind: SpecialKind) -> Result<SpecialName, Errno> {
    match kind {
        SpecialKind::IntroduceDomain => Ok(SpecialName::IntroduceDomain),
        SpecialKind::ReleaseDomain => Ok(SpecialName::ReleaseDomain),
        _ => Err(Errno::ENOENT),
    }
}

/// A special node as a policy sees it.
pub(crate) fn special_object(name: SpecialName, list: &Permissions) -> Object<'_> {
    Object {
        name: name.as_str(),
        permissions: Entries::List(list.entries()),
        label: 0,
    }
}

impl<'s, M: Memory> Decision<'s, M> {
    fn path(&self, bytes: &[u8]) -> Result<PathBuf, Errno> {
        let resolved = resolve(bytes, self.caller.domid(), self.path_limit()).map_err(|_| Errno::EINVAL)?;
        Ok(resolved.path)
    }

    fn only_path(&self, payload: &[u8]) -> Result<PathBuf, Errno> {
        self.path(one_string(payload).ok_or(Errno::EINVAL)?)
    }

    /// Asks for the right to read and notes the answer as observed; of a node that may be read, `shown` besides. The node: requests
    /// that only look come to a view without changes.
    fn ask(&mut self, path: &PathBuf, shown: Facets) -> Result<Node<'s>, Errno> {
        let node = self.server.tree.find(self.view.base(), path.as_path());
        let found = node.map(Found::Tree);
        let answer = judge(&self.view, &self.caller, path.as_path(), Rights::READ, found);
        let facets = match answer {
            Ok(_) => Facets::READING.and(shown),
            Err(_) => Facets::READING,
        };
        let refused = answer.err();
        self.observe(path, facets)?;
        match refused {
            Some(errno) => Err(errno),
            None => node.ok_or(Errno::ENOENT),
        }
    }

    pub fn read(&mut self, payload: &[u8]) -> Outcome {
        let path = self.only_path(payload)?;
        let node = self.ask(&path, Facets::VALUE)?;
        self.shows(node.value().len(), || Shown::Value(path));
        Ok(Answer::bytes(node.value()))
    }

    pub fn directory(&mut self, payload: &[u8]) -> Outcome {
        let path = self.only_path(payload)?;
        let node = self.ask(&path, Facets::CHILDREN)?;
        let tree = &self.server.tree;
        if node.child_names_len() > PAYLOAD_MAX as u64 {
            return Err(Errno::E2BIG);
        }
        let mut names = payload_of(usize::try_from(node.child_names_len()).unwrap_or(0));
        let _all = tree.append_names(node, 0, PAYLOAD_MAX, &mut names);
        self.shows(names.len(), || Shown::Children(path));
        Ok(Answer::Reply(names))
    }

    /// The generation, then as many whole names from the offset on as fit, then an empty name at the end of the list.
    pub fn directory_part(&mut self, payload: &[u8]) -> Outcome {
        let mut arguments = strings(payload);
        let (Some(path), Some(offset), None) = (arguments.next(), arguments.next(), arguments.next()) else {
            return Err(Errno::EINVAL);
        };
        let path = self.path(path)?;
        let node = self.ask(&path, Facets::CHILDREN)?;
        let tree = &self.server.tree;
        // C keeps the offset in an unsigned int: a negative one lies behind every list.
        let offset = u64::from(atoi(offset).cast_unsigned());
        let mut part = node.generation().to_string().into_bytes();
        part.push(0);
        let generation_length = part.len();
        if offset >= node.child_names_len() {
            part.push(0);
            return Ok(Answer::Reply(part));
        }
        let room = PAYLOAD_MAX.saturating_sub(generation_length).saturating_sub(1);
        if tree.append_names(node, offset, room, &mut part) {
            part.push(0);
        }
        Ok(Answer::Reply(part))
    }

    pub fn get_permissions(&mut self, payload: &[u8]) -> Outcome {
        let argument = one_string(payload).ok_or(Errno::EINVAL)?;
        let target = resolve_with_special(argument, self.caller.domid(), self.path_limit());
        let permissions = match target.map_err(|_| Errno::EINVAL)? {
            Target::Node(resolved) => {
                let node = self.ask(&resolved.path, Facets::PERMISSIONS)?;
                node.permissions().to_owned()
            }
            Target::Special(special) => {
                let list = self.special_permissions(special_name(special.kind()), Rights::READ)?;
                list.1
            }
        };
        let mut text = Vec::new();
        for entry in permissions.entries() {
            text.extend_from_slice(entry.to_string().as_bytes());
            text.push(0);
        }
        Ok(Answer::Reply(text))
    }

    /// Special nodes have no parents: who lacks the right on an existing one is refused, and asks the root whether to
    /// learn that another does not exist.
    fn special_permissions(
        &self,
        name: Result<SpecialName, Errno>,
        wanted: Rights,
    ) -> Result<(SpecialName, Permissions), Errno> {
        let known = name.ok().and_then(|name| Some((name, self.server.special.get(&name)?)));
        let errno = match known {
            Some((name, list)) if self.caller.rights(&special_object(name, list)).include(wanted) => {
                return Ok((name, list.clone()));
            }
            Some(_) => Errno::EACCES,
            None => Errno::ENOENT,
        };
        match self.view.find(Path::ROOT) {
            Some(root) if self.caller.rights(&root.object(Path::ROOT)).touch(wanted) => Err(errno),
            _ => Err(Errno::EACCES),
        }
    }

    pub fn write(&mut self, payload: &[u8]) -> Outcome {
        let mut arguments = strings(payload);
        let path = self.path(arguments.next().ok_or(Errno::EINVAL)?)?;
        let value = arguments.rest();
        let top = self.top_of(&path);
        self.write_value(&path, value)?;
        self.wrote(|| Write::Value(path, value.into()), top)?;
        Ok(Answer::ok())
    }

    pub(crate) fn write_value(&mut self, path: &PathBuf, value: &[u8]) -> Result<(), Errno> {
        let found = self.view.find(path.as_path());
        match judge(&self.view, &self.caller, path.as_path(), Rights::WRITE, found) {
            Ok(found) => {
                let (held, node) = (found.value().len(), found.with_value(value));
                self.set_value(path, held, node)?;
            }
            Err(Errno::ENOENT) => self.create(path, value)?,
            Err(errno) => {
                self.observe(path, Facets::WRITING)?;
                return Err(errno);
            }
        }
        self.tell(path, None);
        Ok(())
    }

    pub fn mkdir(&mut self, payload: &[u8]) -> Outcome {
        let path = self.only_path(payload)?;
        let top = self.top_of(&path);
        self.make_directory(&path)?;
        self.wrote(|| Write::Mkdir(path), top)?;
        Ok(Answer::ok())
    }

    pub(crate) fn make_directory(&mut self, path: &PathBuf) -> Result<(), Errno> {
        match access(&self.view, &self.caller, path.as_path(), Rights::WRITE) {
            // There already: fine, and nothing to tell.
            Ok(()) => Ok(()),
            Err(Errno::ENOENT) => {
                self.create(path, &[])?;
                self.tell(path, None);
                Ok(())
            }
            Err(errno) => {
                self.observe(path, Facets::WRITING)?;
                Err(errno)
            }
        }
    }

    /// Makes a node and the parents that are missing.
    fn create(&mut self, path: &PathBuf, value: &[u8]) -> Result<(), Errno> {
        let (missing, permissions) = to_be_made(&self.view, &self.caller, path.as_path()).ok_or(Errno::ENOENT)?;
        let last = missing.len().saturating_sub(1);
        for (index, node) in missing.iter().enumerate() {
            let value = if index == last { value } else { &[] };
            self.create_node(node, value, permissions.clone())?;
        }
        Ok(())
    }

    pub fn remove(&mut self, payload: &[u8]) -> Outcome {
        let path = self.only_path(payload)?;
        let top = self.top_of(&path);
        self.remove_existing(&path)?;
        self.wrote(|| Write::Remove(path), top)?;
        Ok(Answer::ok())
    }

    pub(crate) fn remove_existing(&mut self, path: &PathBuf) -> Result<(), Errno> {
        let root = path.as_path() == Path::ROOT;
        let (errno, facets) = match access(&self.view, &self.caller, path.as_path(), Rights::WRITE) {
            Ok(()) if root => (Errno::EINVAL, Facets::WRITING),
            Ok(()) => {
                return self.remove_node(path);
            }
            Err(Errno::ENOENT) => {
                let parent = path.as_path().parent();
                // Not there to begin with is fine if its parent is there.
                if parent.is_some_and(|parent| self.view.find(parent).is_some()) {
                    return Ok(());
                }
                (Errno::ENOENT, Facets::WRITING.and(Facets::PARENT))
            }
            Err(errno) => (errno, Facets::WRITING),
        };
        self.observe(path, facets)?;
        Err(errno)
    }

    pub fn set_permissions(&mut self, payload: &[u8]) -> Outcome {
        let mut arguments = strings(payload);
        let argument = arguments.next().ok_or(Errno::EINVAL)?;
        let count = arguments.clone().count();
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        if self.over(Limit::NodePermissions, count as u64) || count > usize::from(u8::MAX) {
            return Err(Errno::ENOSPC);
        }
        let mut entries = Vec::with_capacity(count);
        for text in arguments {
            entries.push(Permission::parse(text).map_err(|_| Errno::EINVAL)?);
        }
        for entry in &mut entries {
            entry.ignored = !self.may_be_named(entry.domid);
        }
        if entries.first().is_some_and(|owner| owner.ignored) {
            return Err(Errno::ENOENT);
        }
        let permissions = Permissions::from_entries(entries).ok_or(Errno::EINVAL)?;
        let target = resolve_with_special(argument, self.caller.domid(), self.path_limit());
        match target.map_err(|_| Errno::EINVAL)? {
            Target::Node(resolved) => {
                let top = self.top_of(&resolved.path);
                self.write_permissions(&resolved.path, &permissions)?;
                self.wrote(|| Write::Permissions(resolved.path, permissions), top)?;
            }
            Target::Special(special) => {
                // Special nodes are outside all transactions: the change holds at once.
                let (name, before) = self.special_permissions(special_name(special.kind()), Rights::OWN)?;
                if !self
                    .caller
                    .may_give(&special_object(name, &before), permissions.owner())
                {
                    return Err(Errno::EPERM);
                }
                self.tell_special_permissions(name, [&before, &permissions]);
                self.change(Change::SpecialPermissions { name, permissions });
            }
        }
        Ok(Answer::ok())
    }

    pub(crate) fn write_permissions(&mut self, path: &PathBuf, permissions: &Permissions) -> Result<(), Errno> {
        if let Err(errno) = access(&self.view, &self.caller, path.as_path(), Rights::OWN) {
            self.observe(path, Facets::OWNING)?;
            return Err(errno);
        }
        let found = self.view.find(path.as_path()).ok_or(Errno::ENOENT)?;
        let before = found.permissions();
        if !self.caller.may_give(&found.object(path.as_path()), permissions.owner()) {
            self.observe(path, Facets::OWNING.and(Facets::OWNER))?;
            return Err(Errno::EPERM);
        }
        self.replace_permissions(path, permissions)?;
        self.tell(path, Some(before));
        Ok(())
    }

    /// A permission may name domains that exist. One that does not becomes known here, so that its end is noticed and a
    /// later domain with the same number inherits nothing (XSA-322).
    fn may_be_named(&mut self, domid: DomId) -> bool {
        if domid == DomId::ANY {
            return self.domid_any_is_offered();
        }
        self.makes_known(domid)
    }

    /// Whether a domain is known or exists; then it is known from now on.
    pub fn makes_known(&mut self, domid: DomId) -> bool {
        if self.domain(domid).is_some() {
            return true;
        }
        let state = self.world.domain(domid);
        if state.exists && !state.dead {
            self.change(Change::DomainKnown {
                domid,
                unique_id: state.unique_id,
            });
        }
        state.exists && !state.dead
    }
}
