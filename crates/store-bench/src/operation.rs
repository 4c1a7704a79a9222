//! What a domain asks for, again and again, while it is measured.

use xenstore_wire::MessageType;

/// Requests that are sent together, and what comes back for them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Type, inside the transaction or not, payload with `|` for NUL.
    pub requests: Vec<(MessageType, bool, String)>,
    /// Events that come besides the replies.
    pub events: usize,
}

/// One operation: batch after batch, each when the one before is answered.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    pub batches: Vec<Batch>,
}

impl Operation {
    /// So many of the same request at once.
    pub fn of(kind: MessageType, payload: &str, at_once: usize) -> Operation {
        Operation {
            batches: vec![Batch {
                requests: vec![(kind, false, payload.to_owned()); at_once],
                events: 0,
            }],
        }
    }

    /// Registers a watch, which causes an event.
    pub fn watch(path: &str, token: &str) -> Operation {
        Operation {
            batches: vec![Batch {
                requests: vec![(MessageType::Watch, false, format!("{path}|{token}|"))],
                events: 1,
            }],
        }
    }

    /// Writes below a watched node, each to another child: events that are alike and unread are told once.
    pub fn watched_writes(at_once: usize) -> Operation {
        let requests = (0..at_once).map(|number| (MessageType::Write, false, format!("event/{number}|x")));
        Operation {
            batches: vec![Batch {
                requests: requests.collect(),
                events: at_once,
            }],
        }
    }

    /// A transaction of ten writes below `home`, one by one or all that follow its start at once.
    pub fn transaction(home: &str, pipelined: bool) -> Operation {
        let start = vec![(MessageType::TransactionStart, false, "|".to_owned())];
        let writes = (0..10).map(|number| (MessageType::Write, true, format!("{home}t{number}|value")));
        let end = (MessageType::TransactionEnd, true, "T|".to_owned());
        let rest: Vec<_> = writes.chain([end]).collect();
        let alone = |requests| Batch { requests, events: 0 };
        let mut batches = vec![alone(start)];
        if pipelined {
            batches.push(alone(rest));
        } else {
            batches.extend(rest.into_iter().map(|request| alone(vec![request])));
        }
        Operation { batches }
    }
}
