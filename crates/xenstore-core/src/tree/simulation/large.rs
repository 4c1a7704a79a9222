//! Large directories and deep paths.

use super::*;
use crate::tree::block::Directory;
use crate::tree::index::Cursor;
use crate::tree::index_block::INDEX_MAX;

fn directory(tree: &mut Tree<PlainMemory>, children: u64) {
    let root = tree.create(tree.current(), path("/d"), b"", &owned_by(0), 1, 1);
    tree.set_current(root);
    for order in 1..=children {
        let name = format!("/d/c{order}");
        let root = tree.create(tree.current(), path(&name), b"", &owned_by(0), order, order);
        tree.set_current(root);
    }
}

fn visits(tree: &Tree<PlainMemory>, action: impl FnOnce(&Tree<PlainMemory>)) -> usize {
    tree.arena.visits.set(0);
    action(tree);
    tree.arena.visits.get()
}

/// With a snapshot, so that everything on the way is written anew.
fn bytes_written(tree: &mut Tree<PlainMemory>, update: impl FnOnce(&mut Tree<PlainMemory>) -> Root) -> usize {
    tree.arena.reclaim(usize::MAX);
    tree.arena.pace();
    let snapshot = tree.current();
    tree.retain(snapshot);
    let root = update(tree);
    tree.set_current(root);
    tree.release(snapshot);
    tree.arena.unpaid
}

/// For a directory of so many children: the most blocks that any of some lookups visits, the bytes that it takes to
/// change a child, to add one and to remove one.
fn costs(children: u64) -> [usize; 4] {
    let mut tree = Tree::new(PlainMemory::new(64 << 20), 5, &owned_by(0), 0);
    directory(&mut tree, children);
    let mut dice = Dice::new(children);
    let mut most = 0;
    for _ in 0..200 {
        let name = format!("/d/c{}", 1 + dice.below(children));
        most = most.max(visits(&tree, |tree| {
            assert!(tree.find(tree.current(), path(&name)).is_some())
        }));
        let name = format!("/d/x{}", dice.below(children));
        most = most.max(visits(&tree, |tree| {
            assert!(tree.find(tree.current(), path(&name)).is_none())
        }));
    }
    let name = format!("/d/c{}", children / 2);
    let said = ["/d/new", &name].map(|at| tree.cost_of(tree.current(), path(at), 5));
    let changed = bytes_written(&mut tree, |tree| tree.set_value(tree.current(), path(&name), b"x", 9));
    let added = bytes_written(&mut tree, |tree| {
        tree.create(tree.current(), path("/d/new"), b"", &owned_by(0), 9, children + 9)
    });
    let removed = bytes_written(&mut tree, |tree| tree.remove(tree.current(), path(&name), 9));
    assert!(
        added <= said[0] && removed <= said[1] && changed <= said[1],
        "{added} {removed} {changed} of {said:?}"
    );
    audit(&mut tree, &[]);
    assert_eq!(
        tree.find(tree.current(), path("/d")).unwrap().child_count() as u64,
        children
    );
    [most, changed, added, removed]
}

#[test]
fn a_directory_of_100_000_costs_at_most_twice_one_of_1_000() {
    let small = costs(1_000);
    let large = costs(100_000);
    for (small, large) in small.into_iter().zip(large) {
        assert!(large <= 2 * small, "{small} became {large}");
    }
    let [visited, changed, added, removed] = large;
    assert!(
        visited <= 10 && changed < 2_000 && added < 5_000 && removed < 6_000,
        "{large:?}"
    );
}

#[test]
fn adding_a_child_to_5_000_does_not_rewrite_the_list() {
    let [_, _, added, _] = costs(5_000);
    assert!(added < 4_000, "{added}");
}

#[test]
fn listing_visits_a_bounded_number_of_blocks_for_each_child() {
    let mut tree = Tree::new(PlainMemory::new(64 << 20), 5, &owned_by(0), 0);
    directory(&mut tree, 100_000);
    let node_at = |tree: &Tree<PlainMemory>| tree.find(tree.current(), path("/d")).unwrap().child_names_len();
    let total = node_at(&tree);
    let mut dice = Dice::new(3);
    for _ in 0..100 {
        let offset = dice.below(total);
        let visited = visits(&tree, |tree| {
            let node = tree.find(tree.current(), path("/d")).unwrap();
            let mut names = Vec::new();
            tree.append_names(node, offset, 4096, &mut names);
            assert!(names.len() > 4000 || offset > total - 4096);
        });
        // A name takes about seven bytes, a leaf has at least eight of them, and each is found from the root's side.
        assert!(visited <= 4096 / 7 / 8 * 2 + 10, "{visited}");
    }
}

#[test]
fn listing_from_any_byte_gives_the_rest_of_the_list() {
    for children in [0u64, 1, 16, 17, 333] {
        let mut tree = Tree::new(PlainMemory::new(4 << 20), 5, &owned_by(0), 0);
        directory(&mut tree, children);
        let node = tree.find(tree.current(), path("/d")).unwrap();
        let list: String = (1..=children).map(|order| format!("c{order}\0")).collect();
        assert_eq!(node.child_names_len() as usize, list.len());
        for (offset, room) in (0..list.len() + 3).flat_map(|offset| [(offset, 0), (offset, 25), (offset, 5000)]) {
            let mut part = Vec::new();
            let complete = tree.append_names(node, offset as u64, room, &mut part);
            let rest = list.get(offset..).unwrap_or_default().as_bytes();
            let whole = rest.split_inclusive(|byte| *byte == 0);
            let fitting = whole.scan(0, |sum, name| {
                *sum += name.len();
                Some(*sum)
            });
            let fits = fitting.take_while(|sum| *sum <= room).last().unwrap_or(0);
            assert_eq!(part, rest[..fits], "{children} {offset} {room}");
            assert_eq!(complete, fits == rest.len(), "{children} {offset} {room}");
        }
    }
}

/// Keys ascend, blocks are not too long, sums and smallest keys are right. Returns the number of leaf entries.
fn check_index(tree: &Tree<PlainMemory>, root: u32) -> usize {
    let (mut leaves, mut blocks) = (0, 0);
    let mut todo = vec![(root, None)];
    while let Some((id, above)) = todo.pop() {
        let block = tree.arena.index(id).unwrap();
        let entries: Vec<_> = block.iter().collect();
        assert!(!entries.is_empty() && entries.len() <= INDEX_MAX);
        assert!(entries.is_sorted_by_key(|entry| entry.key));
        if let Some((key, bytes)) = above {
            assert_eq!(
                (key, bytes),
                (entries[0].key, entries.iter().map(|entry| entry.bytes).sum::<u32>())
            );
        }
        blocks += 1;
        if block.level() == 0 {
            leaves += entries.len();
        } else {
            todo.extend(
                entries
                    .iter()
                    .map(|entry| (entry.reference, Some((entry.key, entry.bytes)))),
            );
        }
    }
    assert!(blocks <= 3 + leaves / 6, "{blocks} blocks for {leaves} entries");
    leaves
}

#[test]
fn indexes_stay_in_order_while_children_come_and_go() {
    for (seed, mask) in [(1, u32::MAX), (2, 0), (3, 15)] {
        let mut dice = Dice::new(seed);
        let mut tree = with_few_hashes(8 << 20, mask);
        let mut there: Vec<u64> = Vec::new();
        for step in 1..6000u64 {
            // Some names are so long that a leaf does not hold them.
            let name = |number: u64| {
                format!(
                    "/c{number}{}",
                    "-".repeat(if number.is_multiple_of(60) { 900 } else { 0 })
                )
            };
            // Waves: the directory grows to many hundreds and shrinks to nothing.
            let growing = dice.below(10) < if step / 1500 % 2 == 0 { 7 } else { 2 };
            let root = if growing || there.is_empty() {
                there.push(step);
                tree.create(tree.current(), path(&name(step)), b"", &owned_by(0), step, step)
            } else {
                let gone = there.swap_remove(dice.below(there.len() as u64) as usize);
                tree.remove(tree.current(), path(&name(gone)), step)
            };
            tree.set_current(root);
            if step % 50 == 0 {
                let node = tree.root_node(root);
                assert_eq!(node.child_count() as usize, there.len());
                if let Directory::Large { by_hash, by_order, .. } = node.directory {
                    assert_eq!(check_index(&tree, by_hash), there.len());
                    assert_eq!(check_index(&tree, by_order), there.len());
                }
                let mut listed: Vec<u64> = tree.children(node).map(|child| child.order()).collect();
                assert!(listed.is_sorted());
                there.sort_unstable();
                let names: String = listed
                    .iter()
                    .map(|number| format!("{}\0", &name(*number)[1..]))
                    .collect();
                let mut appended = Vec::new();
                assert!(tree.append_names(node, 0, usize::MAX, &mut appended));
                assert_eq!(String::from_utf8_lossy(&appended), names);
                listed.sort_unstable();
                assert_eq!(listed, there);
            }
        }
        assert_eq!(tree.figures().impossible, 0);
        audit(&mut tree, &[]);
    }
}

#[test]
fn a_cursor_goes_back_the_way_it_came() {
    let mut tree = Tree::new(PlainMemory::new(8 << 20), 5, &owned_by(0), 0);
    directory(&mut tree, 3000);
    let Directory::Large { by_order, .. } = tree.find(tree.current(), path("/d")).unwrap().directory else {
        panic!("3000 children in a small directory");
    };
    let mut cursor = tree.arena.index_first(by_order).unwrap();
    let key = |cursor: &Cursor| tree.arena.index_entry(cursor).unwrap().key;
    for expected in 1..3000 {
        assert_eq!(key(&cursor), expected);
        assert!(tree.arena.index_next(&mut cursor));
    }
    assert!(!tree.arena.index_next(&mut cursor.clone()));
    for expected in (2..=3000).rev() {
        assert_eq!(key(&cursor), expected);
        assert!(tree.arena.index_previous(&mut cursor));
    }
    assert!(!tree.arena.index_previous(&mut cursor));
}

#[test]
fn a_path_as_deep_as_a_message_allows_needs_no_deep_stack() {
    let mut tree = Tree::new(PlainMemory::new(16 << 20), 5, &owned_by(0), 0);
    let mut at = String::new();
    for depth in 1..=1500u64 {
        at.push_str("/a");
        let root = tree.create(tree.current(), path(&at), b"", &owned_by(0), depth, depth);
        tree.set_current(root);
    }
    assert_eq!(tree.find(tree.current(), path(&at)).unwrap().generation(), 1500);
    let root = tree.remove(tree.current(), path("/a"), 2000);
    tree.set_current(root);
    audit(&mut tree, &[]);
    assert_eq!(tree.figures().blocks, 1);
}
