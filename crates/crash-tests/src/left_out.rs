//! Saved state that lacks something: each field of a checkpoint and of the last record in turn, and each change of the record.
//! Whoever does not save a field, or does not read it back, makes such pages; the checker must notice.

use std::collections::BTreeMap;

use xenstore_core::{Record, State};

use crate::checker::{Checker, Rings, crc, tried};
use crate::form::{fields, without};
use crate::memory::Extents;
use crate::site::{FRAME, HEAD};

/// How often the lack of something was noticed, and how often not.
pub type Noticed = BTreeMap<String, (u64, u64)>;

/// Leaves out each field and each change, where there is one, and counts what is noticed.
pub fn leave_out(checker: &mut Checker, rings: &Rings, noticed: &mut Noticed) {
    let expected = checker.expected();
    let mut count = |name: String, memory: Option<Extents>| {
        let Some(memory) = memory else { return };
        let counts = noticed.entry(name).or_default();
        match tried(memory, rings, None, &expected) {
            Err(_) => counts.0 += 1,
            Ok(()) => counts.1 += 1,
        }
    };
    if let Some((sequence, body)) = checker.newest_checkpoint()
        && let Ok(state) = postcard::from_bytes::<State>(&body)
    {
        let mut known = BTreeMap::new();
        fields(&state, &mut known);
        for field in known.keys() {
            let lacking = without(&state, field);
            if lacking != body {
                count(
                    format!("checkpoint: {field}"),
                    checker.with_checkpoint(&checkpoint(sequence, &lacking)),
                );
            }
        }
    }
    let Some((sequence, body)) = checker.last_record() else {
        return;
    };
    let Ok(record) = postcard::from_bytes::<Record>(&body) else {
        return;
    };
    let mut known = BTreeMap::new();
    fields(&record, &mut known);
    for field in known.keys() {
        let lacking = without(&record, field);
        if lacking != body {
            count(
                format!("record: {field}"),
                checker.with_record(&framed(sequence, &lacking)),
            );
        }
    }
    for index in 0..record.changes.len() {
        let mut lacking = record.clone();
        let change = format!("{:?}", lacking.changes.remove(index));
        let name = change.split([' ', '{', '(']).next().unwrap_or_default();
        let Ok(body) = postcard::to_allocvec(&lacking) else {
            continue;
        };
        count(format!("change: {name}"), checker.with_record(&framed(sequence, &body)));
    }
}

/// A checkpoint as it is stored.
fn checkpoint(sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = [sequence.to_le_bytes(), (body.len() as u64).to_le_bytes()].concat();
    let sum = crc(&[&bytes, body]);
    bytes.extend(sum);
    assert_eq!(bytes.len(), HEAD);
    bytes.extend(body);
    bytes
}

/// A record as it is stored.
fn framed(sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = sequence.to_le_bytes().to_vec();
    bytes.extend((body.len() as u32).to_le_bytes());
    let sum = crc(&[&bytes, body]);
    bytes.extend(sum);
    assert_eq!(bytes.len(), FRAME);
    bytes.extend(body);
    bytes
}
