//! Tests of the whole tree: against a plain model, with many roots alive, in little memory, with crashes at any store.
//!
//! Everything comes from seeds; a failing test names its seed.

mod bounded;
mod crash;
mod history;
mod large;
mod limits;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xenstore_wire::{Access, DomId, Path, Permissions};

use super::counts::State;
use super::hash::NameHash;
use super::memory::{CHUNK, Memory};
use super::{PlainMemory, Root, Tree};

/// Numbers that look random and are the same every time.
pub(super) struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// A node of the model.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Plain {
    value: Vec<u8>,
    permissions: Permissions,
    generation: u64,
    order: u64,
    label: u32,
}

/// What a root should hold: every node by its path.
#[derive(Clone, Debug)]
struct Model(BTreeMap<String, Plain>);

fn path(text: &str) -> Path<'_> {
    Path::new(text).unwrap()
}

fn join(parent: &str, name: &str) -> String {
    if parent == "/" {
        format!("/{name}")
    } else {
        format!("{parent}/{name}")
    }
}

fn owned_by(owner: u64) -> Permissions {
    Permissions::owned_by(DomId(owner as u16), Access::Read)
}

impl Model {
    fn new() -> Self {
        let root = Plain {
            value: vec![],
            permissions: owned_by(0),
            generation: 0,
            order: 0,
            label: 0,
        };
        Self(BTreeMap::from([("/".into(), root)]))
    }

    fn pick(&self, dice: &mut Dice) -> &str {
        self.0.keys().nth(dice.below(self.0.len() as u64) as usize).unwrap()
    }

    fn parent(&mut self, of: &str) -> Option<&mut Plain> {
        self.0.get_mut(path(of).parent()?.as_str())
    }
}

/// One random change, to a state of the tree and to what the model has for it. `crowd` is the number of names that
/// there are for a directory's children.
fn change<M: Memory>(
    tree: &mut Tree<M>,
    root: Root,
    model: &mut Model,
    dice: &mut Dice,
    number: u64,
    (crowd, value_max): (u64, u64),
) -> Root {
    let value = vec![number as u8; dice.below(value_max + 1) as usize];
    let target: String = model.pick(dice).into();
    match dice.below(10) {
        0..5 => {
            let new = join(&target, &format!("n{}", dice.below(crowd)));
            if path(&new).depth() > 5 || model.0.contains_key(&new) {
                return tree.set_value(root, path(&target), model.set(&target, value, number), number);
            }
            let owner = dice.below(5);
            let permissions = owned_by(owner);
            let result = tree.create(root, path(&new), &value, &permissions, number, number);
            model.parent(&new).unwrap().generation = number;
            model.0.insert(
                new,
                Plain {
                    value,
                    permissions,
                    generation: number,
                    order: number,
                    label: 0,
                },
            );
            result
        }
        5..7 => tree.set_value(root, path(&target), model.set(&target, value, number), number),
        7 => {
            let permissions = owned_by(number % 1000);
            let node = model.0.get_mut(&target).unwrap();
            (node.permissions, node.generation) = (permissions.clone(), number);
            tree.set_permissions(root, path(&target), &permissions, number)
        }
        8 => {
            let node = model.0.get_mut(&target).unwrap();
            (node.label, node.generation) = (number as u32 % 3, number);
            tree.set_label(root, path(&target), number as u32 % 3, number)
        }
        _ => {
            if target == "/" || target.starts_with("/n0") && dice.below(8) > 0 {
                tree.retain(root);
                return root;
            }
            model.parent(&target).unwrap().generation = number;
            model.0.retain(|other, _| !path(&target).contains(path(other)));
            tree.remove(root, path(&target), number)
        }
    }
}

impl Model {
    fn set(&mut self, target: &str, value: Vec<u8>, number: u64) -> &[u8] {
        let node = self.0.get_mut(target).unwrap();
        (node.value, node.generation) = (value, number);
        &node.value
    }
}

/// Everything in a root is what the model says, found by path as well as by listing.
fn compare<M: Memory>(tree: &Tree<M>, root: Root, model: &Model) {
    let mut children: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    for (at, plain) in &model.0 {
        let node = tree.find(root, path(at)).unwrap_or_else(|| panic!("{at} is missing"));
        assert_eq!(node.name(), path(at).name());
        let found = Plain {
            value: node.value().into(),
            permissions: node.permissions().to_owned(),
            generation: node.generation(),
            order: node.order(),
            label: node.label(),
        };
        assert_eq!(&found, plain, "{at}");
        if let Some(parent) = path(at).parent() {
            children
                .entry(parent.as_str())
                .or_default()
                .push((plain.order, path(at).name()));
        }
    }
    for at in model.0.keys() {
        let node = tree.find(root, path(at)).unwrap();
        let expected = children.get_mut(at.as_str()).map(core::mem::take).unwrap_or_default();
        let expected = {
            let mut sorted = expected;
            sorted.sort();
            sorted.into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        assert_eq!(
            tree.children(node).map(|child| child.name()).collect::<Vec<_>>(),
            expected,
            "children of {at}"
        );
        assert_eq!(node.child_count() as usize, expected.len());
        assert_eq!(
            node.child_names_len() as usize,
            expected.iter().map(|name| name.len() + 1).sum::<usize>()
        );
        assert!(tree.child(node, "missing").is_none());
    }
}

/// Nothing leaks: when all that is doomed has been taken apart, what is derived is what reading back would derive.
fn audit(tree: &mut Tree<PlainMemory>, held: &[Root]) {
    tree.reclaim(usize::MAX);
    let (mut read, _) = Tree::open(tree.memory().clone(), 0, tree.current(), held).unwrap();
    for id in 0..tree.arena.counts.ids() {
        assert_eq!(tree.arena.counts.state(id), read.arena.counts.state(id), "id {id}");
        assert_ne!(tree.arena.counts.state(id), State::Doomed);
    }
    assert_eq!(tree.arena.counts.free_count(), read.arena.counts.free_count());
    assert_eq!(tree.arena.live, read.arena.live);
    for (chunk, derived) in tree.arena.chunks.iter().zip(&read.arena.chunks) {
        assert_eq!(chunk.live, derived.live);
        assert!(chunk.fill >= derived.fill && chunk.fill <= CHUNK);
    }
    // What was read back can be used.
    if read.room_with_reserve() == 0 {
        return;
    }
    let next = read.set_value(read.current(), Path::ROOT, b"again", 1);
    assert_eq!(read.root_node(next).value(), b"again");
}

/// A tree whose names have only so many hashes.
fn with_few_hashes(limit: usize, mask: u32) -> Tree<PlainMemory> {
    let mut tree = Tree::new(PlainMemory::new(limit), 0, &owned_by(0), 0);
    tree.hash = NameHash::with_mask(7, mask);
    tree
}
