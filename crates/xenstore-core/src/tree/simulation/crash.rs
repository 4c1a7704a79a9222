//! Crashes: the memory is cut off after any store, and the last root that was kept is read back.

use alloc::boxed::Box;

use super::*;
use crate::tree::Corrupt;
use crate::tree::block::HEADER;

/// What happened to the memory, in order.
#[derive(Clone, Debug)]
enum Event {
    Grow,
    GrowTable,
    Store {
        chunk: u32,
        at: usize,
        bytes: Box<[u8]>,
    },
    Location {
        id: u32,
        location: u32,
    },
    /// The owner of the memory has kept this root durably, which holds what the model with this number says.
    Kept {
        root: Root,
        model: usize,
    },
}

/// A plain memory that writes down what happens to it.
struct Recorded {
    memory: PlainMemory,
    events: Vec<Event>,
}

impl Memory for Recorded {
    fn chunk_count(&self) -> u32 {
        self.memory.chunk_count()
    }
    fn chunks_to_come(&self) -> u32 {
        self.memory.chunks_to_come()
    }
    fn grow(&mut self) -> bool {
        self.events.push(Event::Grow);
        self.memory.grow()
    }
    fn chunk(&self, index: u32) -> &[u8] {
        self.memory.chunk(index)
    }
    fn store(&mut self, chunk: u32, at: usize, bytes: &[u8]) {
        self.events.push(Event::Store {
            chunk,
            at,
            bytes: bytes.into(),
        });
        self.memory.store(chunk, at, bytes);
    }
    fn table_len(&self) -> u32 {
        self.memory.table_len()
    }
    fn ids_to_come(&self) -> u32 {
        self.memory.ids_to_come()
    }
    fn grow_table(&mut self) -> bool {
        self.events.push(Event::GrowTable);
        self.memory.grow_table()
    }
    fn location(&self, id: u32) -> u32 {
        self.memory.location(id)
    }
    fn set_location(&mut self, id: u32, location: u32) {
        self.events.push(Event::Location { id, location });
        self.memory.set_location(id, location);
    }
}

const LIMIT: usize = 400 * 1024;

/// A history in little memory, so that chunks are used again and again; and the states that were kept.
fn history(seed: u64, steps: u64) -> (Vec<Event>, Vec<Model>) {
    let mut dice = Dice::new(seed);
    let memory = Recorded {
        memory: PlainMemory::new(LIMIT),
        events: Vec::new(),
    };
    let mut tree = Tree::new(memory, 7, &owned_by(0), 0);
    let mut models = vec![Model::new()];
    let mut model = Model::new();
    let mut kept = tree.current();
    tree.retain(kept);
    tree.memory_mut().events.push(Event::Kept { root: kept, model: 0 });
    for number in 1..=steps {
        let crowd = if number / 200 % 2 == 0 { 40 } else { 3 };
        if model.0.len() > 60 {
            if tree.find(tree.current(), path("/n0")).is_some() {
                model.parent("/n0").unwrap().generation = number;
                model.0.retain(|other, _| !path("/n0").contains(path(other)));
            }
            let root = tree.remove(tree.current(), path("/n0"), number);
            tree.set_current(root);
        }
        let before = tree.current();
        let root = change(&mut tree, before, &mut model, &mut dice, number, (crowd, 700));
        tree.set_current(root);
        if dice.below(3) == 0 {
            tree.tidy(2000);
        }
        if dice.below(3) > 0 {
            continue;
        }
        // The new root is kept before the one before it may go.
        tree.retain(root);
        tree.memory_mut().events.push(Event::Kept {
            root,
            model: models.len(),
        });
        models.push(model.clone());
        tree.release(core::mem::replace(&mut kept, root));
    }
    assert_eq!(tree.figures().exhausted, 0);
    assert!(tree.figures().moved_bytes > 0);
    (core::mem::take(&mut tree.memory_mut().events), models)
}

fn replay(memory: &mut PlainMemory, event: &Event) {
    match event {
        Event::Grow => assert!(memory.grow()),
        Event::GrowTable => {
            memory.grow_table();
        }
        Event::Store { chunk, at, bytes } => memory.store(*chunk, *at, bytes),
        Event::Location { id, location } => memory.set_location(*id, *location),
        Event::Kept { .. } => {}
    }
}

#[test]
fn after_a_crash_at_any_store_the_last_kept_root_is_there() {
    for seed in 1..=3 {
        let (events, models) = history(seed, 2500);
        let mut dice = Dice::new(seed);
        let mut memory = PlainMemory::new(LIMIT);
        let mut kept = None;
        let mut crashes = 0;
        for event in &events {
            if let Event::Kept { root, model } = event {
                kept = Some((*root, *model));
            }
            if let Some((root, model)) = kept
                && dice.below(20) == 0
            {
                crashes += 1;
                let mut crashed = memory.clone();
                if let Event::Store { chunk, at, bytes } = event {
                    // Torn: any part of it may have arrived.
                    let part = dice.below(bytes.len() as u64 + 1) as usize;
                    crashed.store(*chunk, *at, &bytes[..part]);
                }
                let (mut tree, _) =
                    Tree::open(crashed, 7, root, &[]).unwrap_or_else(|error| panic!("{seed}: {:?}", error.why));
                let mut model = models[model].clone();
                compare(&tree, root, &model);
                if dice.below(10) == 0 {
                    // It goes on from there.
                    for number in 0..40 {
                        let before = tree.current();
                        let new = change(&mut tree, before, &mut model, &mut dice, 1 << 32 | number, (9, 100));
                        tree.set_current(new);
                    }
                    compare(&tree, tree.current(), &model);
                    audit(&mut tree, &[]);
                }
            }
            replay(&mut memory, event);
        }
        assert!(crashes > 500, "{crashes}");
    }
}

#[test]
fn every_flipped_bit_of_a_live_block_is_noticed() {
    let mut tree = Tree::new(PlainMemory::new(LIMIT), 7, &owned_by(0), 0);
    for order in 1..30u64 {
        let root = tree.create(
            tree.current(),
            path(&format!("/c{order}")),
            b"value",
            &owned_by(0),
            order,
            order,
        );
        tree.set_current(root);
    }
    tree.reclaim(usize::MAX);
    let root = tree.current();
    let intact = tree.memory().clone();
    assert!(Tree::open(intact.clone(), 7, root, &[]).is_ok());
    let mut flips = 0;
    for id in 0..tree.arena.counts.ids() {
        if tree.arena.counts.state(id) == State::Free {
            continue;
        }
        let length = tree.arena.block(id).len();
        for at in [0, 1, 2, 3, 4, 7, 8, HEADER, length - 1] {
            let mut memory = intact.clone();
            let start = memory.location(id) as usize - 1;
            let mut byte = memory.chunk((start / CHUNK) as u32)[start % CHUNK + at];
            byte ^= 1 << (at % 8);
            memory.store((start / CHUNK) as u32, start % CHUNK + at, &[byte]);
            let error = Tree::open(memory, 7, root, &[]).err().map(|unreadable| unreadable.why);
            assert!(
                matches!(error, Some(Corrupt::Checksum(wrong) | Corrupt::Missing(wrong)) if wrong == id),
                "{error:?}"
            );
            flips += 1;
        }
    }
    assert!(flips > 200);
    let missing = Tree::open(intact, 7, Root::from_id(u32::MAX), &[])
        .err()
        .map(|unreadable| unreadable.why);
    assert_eq!(missing, Some(Corrupt::Missing(u32::MAX)));
}

#[test]
fn a_chunk_whose_dead_bytes_have_changed_is_still_cleaned() {
    let mut tree = Tree::new(PlainMemory::new(LIMIT), 7, &owned_by(0), 0);
    for order in 1..400u64 {
        let at = format!("/c{}", order % 40);
        let root = match tree.find(tree.current(), path(&at)) {
            Some(_) => tree.set_value(tree.current(), path(&at), &[1; 64], order),
            None => tree.create(tree.current(), path(&at), b"", &owned_by(0), order, order),
        };
        tree.set_current(root);
    }
    tree.reclaim(usize::MAX);
    // The first block of the first chunk is dead by now; make it unreadable.
    let first = tree.memory().chunk(0).to_vec();
    tree.memory_mut().store(0, 0, &[0; HEADER]);
    assert_ne!(&first[..HEADER], &[0; HEADER]);
    let generations = |tree: &Tree<PlainMemory>| -> Vec<u64> {
        (0..40)
            .map(|i| tree.find(tree.current(), path(&format!("/c{i}"))).unwrap().generation())
            .collect()
    };
    let before = generations(&tree);
    tree.clean(usize::MAX);
    assert_eq!(generations(&tree), before);
    audit(&mut tree, &[]);
}

/// Whoever went down a state that leads in a circle would never come back.
#[test]
fn a_state_that_leads_in_a_circle_is_refused_whoever_holds_it() {
    let mut tree = Tree::new(PlainMemory::new(LIMIT), 7, &owned_by(0), 0);
    for (order, at) in [(1, "/a"), (2, "/a/b")] {
        let root = tree.create(tree.current(), path(at), b"", &owned_by(0), order, order);
        tree.set_current(root);
    }
    let held = tree.current();
    tree.retain(held);
    let root = tree.set_value(held, path("/a/b"), b"new", 3);
    tree.set_current(root);
    let open = |tree: &Tree<PlainMemory>, current, held: &[Root]| {
        let opened = Tree::open(tree.memory().clone(), 7, current, held);
        opened.err().map(|unreadable| unreadable.why)
    };
    let current = tree.current();
    assert_eq!(open(&tree, current, &[held]), None);
    // The only child of "/a" is the root. Its id stands at the end of the block.
    let above = tree.find(held, path("/a")).unwrap().id();
    let at = tree.arena.block(above).len() - 4;
    tree.arena.repoint(above, at, held.id());
    assert_eq!(open(&tree, current, &[held]), Some(Corrupt::Circle));
    assert_eq!(open(&tree, held, &[]), Some(Corrupt::Circle));
}
