//! Random histories with many roots alive.

use super::*;

/// Looks for a node of the present state, and for one that was looked for lately and may be gone.
fn look_again(tree: &Tree<PlainMemory>, model: &Model, dice: &mut Dice, lately: &mut Vec<String>) {
    let new: String = model.pick(dice).into();
    let old = lately.get(dice.below(40) as usize).cloned();
    for at in [Some(&new), old.as_ref()].into_iter().flatten() {
        let found = tree.find(tree.current(), path(at));
        let found = found.map(|node| (node.generation(), node.value()));
        let expected = model.0.get(at).map(|plain| (plain.generation, plain.value.as_slice()));
        assert_eq!(found, expected, "{at}");
    }
    lately.insert(0, new);
    lately.truncate(40);
}

/// Roots that are alive, each with what it should hold. The first one is the tree's own.
fn run(seed: u64, steps: u64, mask: u32, crowd: u64) -> u64 {
    let mut dice = Dice::new(seed);
    let mut lately = Vec::new();
    let mut tree = with_few_hashes(4 << 20, mask);
    let mut alive = vec![(tree.current(), Model::new())];
    for number in 1..=steps {
        let which = dice.below(alive.len() as u64) as usize;
        let (root, model) = &alive[which];
        let (root, mut model) = (*root, model.clone());
        if dice.below(4) == 0 && alive.len() < 12 {
            // A branch of its own: the old state stays, because it has another holder.
            tree.retain(root);
            let new = change(&mut tree, root, &mut model, &mut dice, number, (crowd, 200));
            tree.release(root);
            alive.push((new, model));
        } else {
            let new = change(&mut tree, root, &mut model, &mut dice, number, (crowd, 200));
            if which == 0 {
                tree.set_current(new);
            } else {
                tree.release(root);
            }
            alive[which] = (new, model);
        }
        look_again(&tree, &alive[0].1, &mut dice, &mut lately);
        if alive.len() > 1 && dice.below(60) == 0 {
            let gone = 1 + dice.below(alive.len() as u64 - 1) as usize;
            tree.release(alive.swap_remove(gone).0);
        }
        if dice.below(20) == 0 {
            // Cleaning harder than necessary must change nothing that anyone sees.
            tree.clean(dice.below(3 * CHUNK as u64) as usize);
        }
        if number % 500 == 0 {
            for (root, model) in &alive {
                compare(&tree, *root, model);
            }
            let held: Vec<Root> = alive.iter().skip(1).map(|(root, _)| *root).collect();
            audit(&mut tree, &held);
        }
    }
    assert_eq!(
        (tree.figures().impossible, tree.figures().exhausted),
        (0, 0),
        "seed {seed}"
    );
    tree.figures().moved_bytes
}

#[test]
fn a_random_history_agrees_with_the_model() {
    let moved: u64 = (1..=6).map(|seed| run(seed, 4000, u32::MAX, 60)).sum();
    assert!(moved > 0, "the cleaner had nothing to do");
}

#[test]
fn children_with_the_same_hash_are_told_apart() {
    for (seed, mask) in [(11, 0), (12, 1), (13, 7)] {
        run(seed, 2000, mask, 90);
    }
}

#[test]
fn an_old_root_stays_as_it_was() {
    let mut tree = Tree::new(PlainMemory::new(1 << 20), 1, &owned_by(0), 0);
    let old = tree.create(tree.current(), path("/a"), b"1", &owned_by(0), 1, 1);
    tree.retain(old);
    tree.set_current(old);
    let new = tree.set_value(old, path("/a"), b"2", 2);
    tree.set_current(new);
    let new = tree.remove(new, path("/a"), 3);
    tree.set_current(new);
    tree.reclaim(usize::MAX);
    tree.clean(usize::MAX);
    assert_eq!(tree.find(old, path("/a")).unwrap().value(), b"1");
    assert!(tree.find(tree.current(), path("/a")).is_none());
    tree.release(old);
    tree.reclaim(usize::MAX);
    assert_eq!(tree.figures().blocks, 1);
}

#[test]
fn what_makes_no_sense_gives_the_same_root_with_one_more_reference() {
    let mut tree = Tree::new(PlainMemory::new(1 << 20), 1, &owned_by(0), 0);
    let root = tree.create(tree.current(), path("/a"), b"1", &owned_by(0), 1, 1);
    tree.set_current(root);
    let long = "n".repeat(super::super::NAME_MAX + 1);
    let results = [
        tree.create(root, path("/a"), b"", &owned_by(0), 2, 2),
        tree.create(root, path("/b/c"), b"", &owned_by(0), 2, 2),
        tree.create(root, Path::ROOT, b"", &owned_by(0), 2, 2),
        tree.create(root, path(&join("/", &long)), b"", &owned_by(0), 2, 2),
        tree.set_value(root, path("/b"), b"", 2),
        tree.set_value(root, path("/a"), &[0; super::super::VALUE_MAX + 1], 2),
        tree.set_permissions(root, path("/b"), &owned_by(1), 2),
        tree.remove(root, path("/b"), 2),
        tree.remove(root, Path::ROOT, 2),
    ];
    assert_eq!(results, [root; 9]);
    assert_eq!(tree.figures().impossible, 9);
    for root in results {
        tree.release(root);
    }
    audit(&mut tree, &[]);
    assert_eq!(tree.find(root, path("/a")).unwrap().generation(), 1);
}

#[test]
fn siblings_are_listed_by_order_key_whatever_order_they_are_made_in() {
    for count in [5u64, 16, 17, 100] {
        let mut tree = Tree::new(PlainMemory::new(1 << 20), 1, &owned_by(0), 0);
        let mut orders: Vec<u64> = (1..=count).collect();
        let mut dice = Dice::new(count);
        for i in (1..orders.len()).rev() {
            orders.swap(i, dice.below(i as u64 + 1) as usize);
        }
        for order in orders {
            let name = format!("/child-{order}");
            let root = tree.create(tree.current(), path(&name), b"", &owned_by(0), order, order);
            tree.set_current(root);
        }
        let listed: Vec<u64> = tree
            .children(tree.root_node(tree.current()))
            .map(|child| child.order())
            .collect();
        assert_eq!(listed, (1..=count).collect::<Vec<_>>());
    }
}

#[test]
fn unchanged_subtrees_keep_their_id() {
    let mut tree = Tree::new(PlainMemory::new(1 << 20), 1, &owned_by(0), 0);
    for (order, at) in (1..).zip(["/a", "/a/x", "/b", "/b/y"]) {
        let root = tree.create(tree.current(), path(at), b"", &owned_by(0), order, order);
        tree.set_current(root);
    }
    let old = tree.current();
    tree.retain(old);
    let new = tree.set_value(old, path("/b/y"), b"1", 9);
    let id = |root, at| tree.find(root, path(at)).unwrap().id();
    assert_eq!(id(old, "/a"), id(new, "/a"));
    assert_ne!(id(old, "/b"), id(new, "/b"));
    assert_ne!(old, new);
}

/// What a write costs between two snapshots: one block, however deep it is, and none of those above.
#[test]
fn a_state_that_only_its_caller_holds_is_changed_where_it_is() {
    let mut tree = Tree::new(PlainMemory::new(1 << 20), 1, &owned_by(0), 0);
    let mut orders = 1..;
    let mut create = |tree: &mut Tree<PlainMemory>, at: &str| {
        let order = orders.next().unwrap();
        let root = tree.create(tree.current(), path(at), b"", &owned_by(0), order, order);
        tree.set_current(root);
    };
    create(&mut tree, "/a");
    create(&mut tree, "/a/b");
    // A directory with an index.
    for number in 0..100 {
        create(&mut tree, &format!("/a/b/c{number}"));
    }
    let write = |tree: &mut Tree<PlainMemory>, held: &[Root], at: &str, value: &[u8]| {
        tree.reclaim(usize::MAX);
        let (before, chunks) = (tree.figures(), tree.memory().clone());
        let new = tree.set_value(tree.current(), path(at), value, 1000);
        tree.set_current(new);
        tree.reclaim(usize::MAX);
        assert_eq!(tree.find(tree.current(), path(at)).unwrap().value(), value);
        audit(tree, held);
        let moved = (0..before.ids).filter(|id| chunks.location(*id) != tree.memory().location(*id));
        (moved.count(), tree.figures().blocks - before.blocks)
    };
    let root = tree.current();
    // Longer, as long, shorter.
    for (value, blocks) in [(&b"long"[..], 1), (b"gone", 0), (b"", 1)] {
        assert_eq!(write(&mut tree, &[], "/a/b/c50", value), (blocks, 0));
        assert_eq!(tree.current(), root);
    }
    // With a snapshot, the way down is copied once: the node, two blocks of the index, "b", "a" and the root.
    let snapshot = tree.current();
    tree.retain(snapshot);
    assert_eq!(write(&mut tree, &[snapshot], "/a/b/c50", b"new"), (6, 6));
    assert_eq!(write(&mut tree, &[snapshot], "/a/b/c50", b"now"), (0, 0));
    // Another node of that directory: its block, and what of the index differs.
    let (stored, more) = write(&mut tree, &[snapshot], "/a/b/c51", b"new");
    assert!(more <= 2 && stored <= 2, "{stored} {more}");
    assert_eq!(tree.find(snapshot, path("/a/b/c50")).unwrap().value(), b"");
    assert_eq!(tree.find(snapshot, path("/a/b/c51")).unwrap().value(), b"");
    tree.release(snapshot);
    audit(&mut tree, &[]);
}
