//! INTRODUCE, RELEASE, RESUME, SET_TARGET, features, and the end of domains.

use super::arguments::{atoi, domid, only, strings};
use super::requests::{Answer, ok, text};
use super::tree::Entry;
use super::{Errno, Job, OWN, PORT_MAX, PRIVILEGED};

/// WATCH may have a depth.
pub(super) const WATCH_DEPTH: u32 = 4;
/// Permissions may name every domain.
pub(super) const DOMID_ANY: u32 = 8;
/// "The domain that asks".
const SELF: u16 = 32752;

impl Job<'_> {
    pub(super) fn features_of(&self, domid: u16) -> u32 {
        let known = self.model.domains.get(&domid);
        known.map_or(self.model.settings.features, |domain| domain.features)
    }

    /// The domain is known, or the hypervisor knows it; then the server does from now on.
    pub(super) fn exists(&mut self, domid: u16) -> bool {
        if self.model.domains.contains_key(&domid) {
            return true;
        }
        let exists = self.model.world.get(&domid).is_some_and(|life| !life.dead);
        if exists {
            self.named.push(domid);
        }
        exists
    }

    pub(super) fn existing(&mut self, text: &[u8]) -> Result<u16, Errno> {
        let domid = domid(text).ok_or("EINVAL")?;
        if self.exists(domid) { Ok(domid) } else { Err("ENOENT") }
    }

    fn introduced(&self, domid: u16) -> Result<u16, Errno> {
        let domain = self.model.domains.get(&domid);
        domain.filter(|domain| domain.introduced).map(|_| domid).ok_or("ENOENT")
    }

    pub(super) fn introduce(&mut self, payload: &[u8]) -> Answer {
        let arguments = strings(payload);
        let [number, _frame, port, ..] = arguments.as_slice() else {
            return Err("EINVAL");
        };
        let domid = domid(number).ok_or("EINVAL")?;
        let port = u32::try_from(atoi(port))
            .ok()
            .filter(|port| *port > 0)
            .ok_or("EINVAL")?;
        if self.model.is_connected(domid) {
            self.model.begin_anew(domid);
            return ok();
        }
        // Its ring must be there and its event channel must be one.
        let life = self.model.world.get(&domid).filter(|life| !life.dead);
        let unique = life.filter(|_| port <= PORT_MAX).ok_or("EINVAL")?.unique;
        self.model.know(domid, unique);
        self.model.connect(domid);
        self.tell_special("@introduceDomain", true, Some(domid));
        ok()
    }

    fn another(&self, payload: &[u8]) -> Result<u16, Errno> {
        let domid = only(payload).and_then(|text| domid(&text)).ok_or("EINVAL")?;
        if [PRIVILEGED, OWN].contains(&domid) {
            return Err("EINVAL");
        }
        self.introduced(domid)
    }

    pub(super) fn release(&mut self, payload: &[u8]) -> Answer {
        let domid = self.another(payload)?;
        self.destroy(domid);
        ok()
    }

    pub(super) fn resume(&mut self, payload: &[u8]) -> Answer {
        let domid = self.another(payload)?;
        if let Some(domain) = self.model.domains.get_mut(&domid) {
            domain.shutdown_told = false;
        }
        ok()
    }

    pub(super) fn set_target(&mut self, payload: &[u8]) -> Answer {
        let arguments = strings(payload);
        let [who, target, ..] = arguments.as_slice() else {
            return Err("EINVAL");
        };
        let (who, target) = (domid(who).ok_or("EINVAL")?, domid(target).ok_or("EINVAL")?);
        let (who, target) = (self.introduced(who)?, self.introduced(target)?);
        if let Some(domain) = self.model.domains.get_mut(&who) {
            domain.target = Some(target);
        }
        // What it saw in its transactions it saw with other rights.
        if let Some(connection) = self.model.connection_mut(who) {
            connection
                .transactions
                .values_mut()
                .for_each(|open| open.outdated = true);
        }
        ok()
    }

    pub(super) fn domain_path(&mut self, payload: &[u8]) -> Answer {
        let domid = only(payload).and_then(|text| domid(&text)).ok_or("EINVAL")?;
        text(format!("/local/domain/{domid}"))
    }

    pub(super) fn is_introduced(&mut self, payload: &[u8]) -> Answer {
        let domid = only(payload).and_then(|text| domid(&text)).ok_or("EINVAL")?;
        let introduced = domid == SELF || self.introduced(domid).is_ok();
        text(if introduced { "T" } else { "F" })
    }

    pub(super) fn get_feature(&mut self, payload: &[u8]) -> Answer {
        let arguments = strings(payload);
        let domid = match arguments.as_slice() {
            [] => self.caller.domid,
            _ if !self.caller.privileged => return Err("EACCES"),
            [domid] => self.existing(domid)?,
            _ => return Err("EINVAL"),
        };
        text(self.features_of(domid).to_string())
    }

    pub(super) fn set_feature(&mut self, payload: &[u8]) -> Answer {
        let arguments = strings(payload);
        let [domid, features] = arguments.as_slice() else {
            return Err("EINVAL");
        };
        let domid = self.existing(domid)?;
        let features = atoi(features) as u32;
        if self.introduced(domid).is_ok() {
            return Err("EBUSY");
        }
        if features & !self.model.settings.features != 0 {
            return Err("EINVAL");
        }
        self.now_known(domid);
        if let Some(domain) = self.model.domains.get_mut(&domid) {
            domain.features = features;
        }
        ok()
    }

    /// What was named becomes known before something of it is set.
    pub(super) fn now_known(&mut self, domid: u16) {
        let unique = self.model.world.get(&domid).map_or(0, |life| life.unique);
        self.model.know(domid, unique);
    }

    /// What the hypervisor says of these domains now. Shutdowns found together are one plain event, and none if an end was
    /// found after them; each end is an event of its own.
    pub(super) fn domains_changed(&mut self, domids: &[u16]) {
        let mut untold = false;
        for domid in domids {
            let Some(domain) = self.model.domains.get(domid).filter(|_| *domid != PRIVILEGED) else {
                continue;
            };
            let life = self.model.world.get(domid).filter(|life| !life.dead);
            let same = |unique: u64| unique == domain.unique || unique == 0 || domain.unique == 0;
            match life.filter(|life| same(life.unique)) {
                None if domain.introduced => {
                    self.destroy(*domid);
                    untold = false;
                }
                None => self.forget(*domid),
                Some(life) if domain.introduced && life.shutdown && !domain.shutdown_told => {
                    if let Some(domain) = self.model.domains.get_mut(domid) {
                        domain.shutdown_told = true;
                    }
                    self.tell_special("@releaseDomain", false, Some(*domid));
                    untold = true;
                }
                Some(_) => {}
            }
        }
        if untold {
            self.tell_special("@releaseDomain", true, None);
        }
    }

    /// The end of a connected domain.
    fn destroy(&mut self, domid: u16) {
        self.forget(domid);
        self.model.disconnect(domid);
        self.tell_special("@releaseDomain", true, Some(domid));
        self.told.retain(|(told, _)| *told != domid);
    }

    /// What a domain that is gone owned goes, and no list names it any more: the next with its number inherits nothing.
    fn forget(&mut self, domid: u16) {
        let store = self.model.store.clone();
        let mut owned: Vec<String> = Vec::new();
        for path in store.downwards("/") {
            let below_owned = owned.iter().any(|above| super::tree::is_below(&path, above));
            let owner = store.get(&path).map(|node| node.owner());
            if owner == Some(domid) && path != "/" && !below_owned {
                owned.push(path);
            }
        }
        for path in owned {
            self.take_away(&path);
        }
        for path in store.downwards("/") {
            let list = self.model.store.get(&path).map(|node| node.permissions.clone());
            if let Some(rest) = list.and_then(|list| without(&list, domid)) {
                self.replace_permissions(&path, &rest);
            }
        }
        for list in self.model.special.values_mut() {
            *list = without(list, domid).unwrap_or(list.clone());
        }
        // A commit must not give rights to a number that has no domain, or another; nor can it be judged with other rights.
        for connection in &mut self.model.connections {
            let of = self.model.domains.get(&connection.domid);
            let was_target = of.is_some_and(|of| of.target == Some(domid));
            for open in connection.transactions.values_mut() {
                let names_it = open.writes().any(|write| write.names(domid));
                open.outdated |= was_target || names_it;
            }
        }
        self.model.domains.remove(&domid);
        for other in self.model.domains.values_mut() {
            other.target = other.target.filter(|target| *target != domid);
        }
    }
}

/// The list without the domain, if it names it. What cannot be removed falls to the privileged domain.
fn without(list: &[Entry], domid: u16) -> Option<Vec<Entry>> {
    if !list.iter().any(|entry| entry.domid == domid) {
        return None;
    }
    let mut rest = list.to_vec();
    if rest[0].domid == domid {
        rest[0].domid = PRIVILEGED;
    }
    let mut index = 0;
    rest.retain(|entry| {
        index += 1;
        index == 1 || entry.domid != domid
    });
    Some(rest)
}
