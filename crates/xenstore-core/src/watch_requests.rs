//! WATCH and UNWATCH.

use alloc::string::String;

use xenstore_wire::{Errno, Target, atoi, resolve_with_special, strings};

use crate::connection::ConnectionId;
use crate::decision::{Answer, Decision, Outcome};
use crate::heap;
use crate::quota::Limit;
use crate::record::Change;
use crate::tree::Memory;
use crate::watch::WatchPath;

impl<M: Memory> Decision<'_, M> {
    fn watch_path(&self, argument: &[u8]) -> Result<WatchPath, Errno> {
        let target = resolve_with_special(argument, self.caller.domid(), self.path_limit());
        Ok(match target.map_err(|_| Errno::EINVAL)? {
            Target::Node(resolved) => WatchPath::Node {
                path: resolved.path,
                prefix: resolved.prefix_len,
            },
            Target::Special(special) => WatchPath::Special(special),
        })
    }

    pub fn watch(&mut self, id: ConnectionId, payload: &[u8]) -> Outcome {
        let mut arguments = strings(payload);
        let (Some(path), Some(token)) = (arguments.next(), arguments.next()) else {
            return Err(Errno::EINVAL);
        };
        let depth = match (arguments.next(), arguments.next()) {
            (None, _) => None,
            (Some(depth), None) if self.watch_depth_is_offered() => {
                Some(u32::try_from(atoi(depth)).map_err(|_| Errno::EINVAL)?)
            }
            _ => return Err(Errno::EINVAL),
        };
        let path = self.watch_path(path)?;
        if self.server.watches.find(id, &path, token).is_some() {
            return Err(Errno::EEXIST);
        }
        let count = self.requester.map_or(0, |(_, state)| state.watch_count());
        if self.over(Limit::Watches, (count as u64).saturating_add(1)) {
            return Err(Errno::ENOSPC);
        }
        let bytes = path.as_written().len().saturating_add(token.len());
        // C xenstored (add_watch in watch.c) asks for its memory last, too. The path counts in full, however it is written.
        self.own_memory_allows(path.key().len().saturating_add(token.len()))?;
        self.heap_allows(heap::of_watch(bytes as u64))?;
        let written = String::from(path.as_written());
        self.change(Change::WatchAdded {
            connection: id,
            path,
            token: token.into(),
            depth,
        });
        Ok(Answer::OkThenEvent {
            path: written,
            token: token.into(),
        })
    }

    pub fn unwatch(&mut self, id: ConnectionId, payload: &[u8]) -> Outcome {
        let mut arguments = strings(payload);
        let (Some(path), Some(token), None) = (arguments.next(), arguments.next(), arguments.next()) else {
            return Err(Errno::EINVAL);
        };
        let path = self.watch_path(path)?;
        let number = self.server.watches.find(id, &path, token).ok_or(Errno::ENOENT)?;
        self.change(Change::WatchRemoved { connection: id, number });
        Ok(Answer::ok())
    }
}
