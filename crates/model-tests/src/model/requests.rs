//! A request comes, is looked at in the order that the description asks for, and gets exactly one answer.

use std::rc::Rc;

use super::tree::Tree;
use super::{Errno, HEADER, Job, Model, PAYLOAD_MAX, Queued, Transaction};
use xenstore_wire::{Header, MessageType as T};

/// A payload for the answer.
pub(super) type Answer = Result<Vec<u8>, Errno>;

/// Done, and nothing to tell.
pub(super) fn ok() -> Answer {
    Ok(b"OK\0".to_vec())
}

/// A text.
pub(super) fn text(text: impl Into<String>) -> Answer {
    let mut bytes = text.into().into_bytes();
    bytes.push(0);
    Ok(bytes)
}

/// A message as it is seen.
pub(super) fn message(header: Header, kind: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let words = [kind, header.request_id, header.transaction_id, length];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    debug_assert_eq!(bytes.len(), HEADER);
    bytes.extend_from_slice(payload);
    bytes
}

impl Model {
    /// Takes a request and answers it.
    pub(super) fn take(&mut self, domid: u16, header: Header, payload: &[u8]) {
        self.figures.requests += 1;
        let Some(connection) = self.connection_mut(domid) else {
            return;
        };
        connection.requests += 1;
        connection.used = true;
        // Requests of a connection are numbered; the number serves to tell one from another, nothing else.
        let asker = (domid, connection.serial, connection.requests);
        let (store, generation) = (Rc::clone(&self.store), self.generation);
        let mut job = self.job(Some(asker));
        let answer = job.dispatch(header, payload);
        let cause = job.cause();
        let answer = match answer {
            Ok(payload) => {
                job.end();
                if payload.len() > PAYLOAD_MAX {
                    Err("E2BIG")
                } else {
                    Ok(payload)
                }
            }
            // What fails changes nothing.
            Err(errno) => {
                job.abandon();
                self.store = store;
                self.generation = generation;
                Err(errno)
            }
        };
        self.outcomes
            .push((header.kind, answer.as_ref().err().copied().unwrap_or("OK")));
        let bytes = match &answer {
            Ok(payload) => message(header, header.kind, payload),
            Err(errno) => message(header, T::Error as u32, format!("{errno}\0").as_bytes()),
        };
        let reply = Queued {
            bytes,
            event: false,
            deadline: None,
            cause,
        };
        self.queue(domid, reply);
        if answer.is_ok() && header.kind == T::Watch as u32 {
            self.tell_first_event(domid);
        }
        self.raise();
    }
}

impl Job<'_> {
    fn dispatch(&mut self, header: Header, payload: &[u8]) -> Answer {
        let kind = T::from_wire(header.kind).ok_or("ENOSYS")?;
        if matches!(kind, T::WatchEvent | T::Error | T::Restrict) {
            return Err("ENOSYS");
        }
        let for_the_privileged = [
            T::Control,
            T::Introduce,
            T::Release,
            T::IsDomainIntroduced,
            T::Resume,
            T::SetTarget,
            T::SetFeature,
            T::GetQuota,
            T::SetQuota,
        ];
        if for_the_privileged.contains(&kind) && !self.caller.privileged {
            return Err("EACCES");
        }
        let id = header.transaction_id;
        if id != 0 && !matches!(kind, T::Watch | T::Unwatch) {
            let domid = self.caller.domid;
            let connection = self.model.connection_mut(domid);
            let open = connection.and_then(|connection| connection.transactions.get_mut(&id));
            let store = Rc::clone(&self.before);
            let open = open.ok_or("ENOENT")?;
            self.within = Some(id);
            // The first request that is about a node sees the store as it is, and so do all that follow.
            let about_nodes = [
                T::Directory,
                T::Read,
                T::GetPerms,
                T::Write,
                T::Mkdir,
                T::Rm,
                T::SetPerms,
                T::DirectoryPart,
            ];
            if about_nodes.contains(&kind) {
                open.begin(store);
                self.own_before = Some(open.own_copy());
            } else if !matches!(kind, T::TransactionStart | T::TransactionEnd) {
                self.within = None;
            }
        }
        match kind {
            T::Control => self.control(payload),
            T::Directory => self.directory(payload),
            T::Read => self.read(payload),
            T::GetPerms => self.get_permissions(payload),
            T::Watch => self.watch(payload),
            T::Unwatch => self.unwatch(payload),
            T::TransactionStart => self.start(),
            T::TransactionEnd => self.finish(payload),
            T::Introduce => self.introduce(payload),
            T::Release => self.release(payload),
            T::GetDomainPath => self.domain_path(payload),
            T::Write => self.write(payload),
            T::Mkdir => self.mkdir(payload),
            T::Rm => self.remove(payload),
            T::SetPerms => self.set_permissions(payload),
            T::IsDomainIntroduced => self.is_introduced(payload),
            T::Resume => self.resume(payload),
            T::SetTarget => self.set_target(payload),
            T::ResetWatches => self.reset_watches(),
            T::DirectoryPart => self.directory_part(payload),
            T::GetFeature => self.get_feature(payload),
            T::SetFeature => self.set_feature(payload),
            T::GetQuota => self.get_quota(payload),
            T::SetQuota => self.set_quota(payload),
            T::WatchEvent | T::Error | T::Restrict => Err("ENOSYS"),
        }
    }

    /// The request as the cause of messages; those of the privileged domain do not count.
    pub(super) fn cause(&self) -> Option<(u64, u64)> {
        self.asker.filter(|_| !self.caller.privileged)
    }

    /// What was done holds: domains are known, events wait.
    pub(super) fn end(self) {
        let Job { model, named, told, .. } = self;
        for domid in named {
            let unique = model.world.get(&domid).map_or(0, |life| life.unique);
            model.know(domid, unique);
        }
        for (domid, event) in told {
            model.queue(domid, event);
        }
        model.raise();
    }

    /// What was done in a transaction is undone; the store is the caller's business.
    fn abandon(self) {
        let Job {
            model,
            caller,
            within,
            own_before,
            ..
        } = self;
        let (Some(id), Some(before)) = (within, own_before) else {
            return;
        };
        let connection = model.connection_mut(caller.domid);
        if let Some(open) = connection.and_then(|connection| connection.transactions.get_mut(&id)) {
            open.go_back(before);
        }
    }

    /// The transaction that the request is made in.
    pub(super) fn open(&self) -> Option<&Transaction> {
        let connection = self.model.connection(self.caller.domid)?;
        connection.transactions.get(&self.within?)
    }

    pub(super) fn open_mut(&mut self) -> Option<&mut Transaction> {
        let connection = self.model.connection_mut(self.caller.domid)?;
        connection.transactions.get_mut(&self.within?)
    }

    /// The nodes that the request sees.
    pub(super) fn tree(&self) -> &Tree {
        match self.open() {
            Some(open) => open.own(),
            None => &self.model.store,
        }
    }

    pub(super) fn tree_mut(&mut self) -> &mut Tree {
        if self.within.is_some() {
            let open = self.open_mut();
            open.map(Transaction::own_mut)
                .unwrap_or_else(|| unreachable!("it was open"))
        } else {
            Rc::make_mut(&mut self.model.store)
        }
    }

    /// A number that no change had before.
    pub(super) fn next_generation(&mut self) -> u64 {
        self.model.generation += 1;
        self.model.generation
    }
}
