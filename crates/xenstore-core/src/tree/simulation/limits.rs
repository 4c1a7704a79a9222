//! Little memory: it does not run out while there is room, and nothing is lost when it does.

use super::*;

const SMALL: usize = 2 << 20;

fn populate(tree: &mut Tree<PlainMemory>, nodes: u64) {
    for i in 0..nodes {
        let directory = format!("/d{}", i / 25);
        if i % 25 == 0 {
            let root = tree.create(tree.current(), path(&directory), b"", &owned_by(0), i, i);
            tree.set_current(root);
        }
        let root = tree.create(
            tree.current(),
            path(&format!("{directory}/n{i}")),
            b"",
            &owned_by(0),
            i,
            i,
        );
        tree.set_current(root);
    }
}

#[test]
fn a_million_writes_to_a_thousand_nodes_never_exhaust_two_mebibytes() {
    let mut tree = Tree::new(PlainMemory::new(SMALL), 3, &owned_by(0), 0);
    populate(&mut tree, 1000);
    let mut dice = Dice::new(1);
    let mut snapshots = Vec::new();
    let mut written = vec![None; 1000];
    let (mut moved, mut most_moved) = (0, 0);
    for number in 1..=1_000_000u64 {
        let i = dice.below(1000);
        let value = [number as u8; 400];
        let length = dice.below(if number % 16 == 0 { 400 } else { 24 }) as usize;
        let at = format!("/d{}/n{i}", i / 25);
        let root = tree.set_value(tree.current(), path(&at), &value[..length], number);
        written[i as usize] = Some((number as u8, length));
        if number % 1000 == 0 {
            tree.retain(root);
            snapshots.push(root);
            if snapshots.len() > 4 {
                tree.release(snapshots.remove(0));
            }
        }
        tree.set_current(root);
        // Cleaning keeps pace: no update has to wait for a whole chunk.
        let moved_before = core::mem::replace(&mut moved, tree.arena.moved_bytes);
        most_moved = most_moved.max(moved - moved_before);
    }
    assert!(most_moved > 0 && most_moved < CHUNK as u64 / 2, "{most_moved}");
    let figures = tree.figures();
    assert_eq!((figures.exhausted, figures.impossible), (0, 0), "{figures:?}");
    for (i, written) in written.iter().enumerate() {
        let node = tree.find(tree.current(), path(&format!("/d{}/n{i}", i / 25))).unwrap();
        let (byte, length) = written.unwrap();
        assert_eq!(node.value(), &[byte; 400][..length]);
    }
    audit(&mut tree, &snapshots);
}

#[test]
fn the_cleaner_moves_blocks_of_snapshots_and_nobody_notices() {
    let mut tree = Tree::new(PlainMemory::new(SMALL), 3, &owned_by(0), 0);
    populate(&mut tree, 500);
    let snapshot = tree.current();
    tree.retain(snapshot);
    for number in 1..5000u64 {
        let at = format!("/d{}/n{}", number % 500 / 25, number % 500);
        let root = tree.set_value(tree.current(), path(&at), b"changed", number);
        tree.set_current(root);
    }
    tree.reclaim(usize::MAX);
    let before = tree.figures().moved_bytes;
    let places = |tree: &Tree<PlainMemory>| -> Vec<u32> {
        (0..500u64)
            .map(|i| tree.find(snapshot, path(&format!("/d{}/n{i}", i / 25))).unwrap().id())
            .map(|id| tree.memory().location(id))
            .collect()
    };
    let old_places = places(&tree);
    tree.clean(usize::MAX);
    assert!(tree.figures().moved_bytes > before);
    assert_ne!(places(&tree), old_places);
    for i in 0..500u64 {
        let at = format!("/d{}/n{i}", i / 25);
        assert_eq!(tree.find(snapshot, path(&at)).unwrap().value(), b"");
        assert_eq!(tree.find(tree.current(), path(&at)).unwrap().value(), b"changed");
    }
    audit(&mut tree, &[snapshot]);
}

/// Lets in whatever there is room for, until nothing more is; values of up to `value_max` bytes.
fn fill(tree: &mut Tree<PlainMemory>, dice: &mut Dice, value_max: u64) -> u64 {
    let mut nodes = 0;
    loop {
        let value = vec![7; dice.below(value_max + 1) as usize];
        let at = format!("/f{nodes}");
        if tree.cost_of(tree.current(), path(&at), value.len() + 4) > tree.room() {
            return nodes;
        }
        let root = tree.create(tree.current(), path(&at), &value, &owned_by(0), nodes, nodes);
        tree.set_current(root);
        nodes += 1;
    }
}

#[test]
fn what_there_is_room_for_always_fits_even_when_full() {
    for (seed, value_max) in [(1, 0), (2, 40), (3, 1500), (4, 4096)] {
        let mut dice = Dice::new(seed);
        let mut tree = Tree::new(PlainMemory::new(SMALL), 3, &owned_by(0), 0);
        let nodes = fill(&mut tree, &mut dice, value_max);
        let share = tree.figures().live_bytes * 100 / SMALL;
        assert!(share > 50, "full at {share} per cent with values of up to {value_max}");
        let (mut moved, mut most_moved) = (tree.arena.moved_bytes, 0);
        // Full memory still takes any number of changes that do not make it fuller, and removals.
        for number in 0..20_000u64 {
            let at = format!("/f{}", dice.below(nodes));
            let value = match tree.find(tree.current(), path(&at)) {
                Some(node) => vec![number as u8; node.value().len()],
                None => continue,
            };
            let root = if number % 100 == 0 {
                tree.remove(tree.current(), path(&at), number)
            } else {
                tree.set_value(tree.current(), path(&at), &value, number)
            };
            tree.set_current(root);
            let moved_before = core::mem::replace(&mut moved, tree.arena.moved_bytes);
            most_moved = most_moved.max(moved - moved_before);
        }
        // Without keeping pace, an update now and then has to wait for two chunks.
        assert!(
            most_moved > 0 && most_moved < CHUNK as u64,
            "{most_moved} with values of up to {value_max}"
        );
        assert_eq!(
            (tree.figures().exhausted, tree.figures().impossible),
            (0, 0),
            "{value_max}"
        );
        audit(&mut tree, &[]);
    }
}

#[test]
fn an_update_without_memory_changes_nothing() {
    let mut tree = Tree::new(PlainMemory::new(1 << 20), 3, &owned_by(0), 0);
    let mut nodes = 0;
    while tree.figures().exhausted == 0 {
        let root = tree.create(
            tree.current(),
            path(&format!("/f{nodes}")),
            &[1; 600],
            &owned_by(0),
            nodes,
            nodes,
        );
        tree.set_current(root);
        nodes += 1;
    }
    // The last one did not fit.
    assert_eq!(u64::from(tree.root_node(tree.current()).child_count()), nodes - 1);
    assert!(tree.find(tree.current(), path(&format!("/f{}", nodes - 1))).is_none());
    audit(&mut tree, &[]);
}

/// Whoever asks for room first leaves the reserve alone, and from that any number of removals lives: whatever the sizes of nodes, and
/// although a removal writes the indexes above it anew.
#[test]
fn removing_is_possible_when_memory_is_full_and_helps() {
    for (value_max, names) in [(0, 1), (600, 1), (600, 60), (4096, 1), (0, 200)] {
        let mut tree = Tree::new(PlainMemory::new(1 << 20), 3, &owned_by(0), 0);
        let mut dice = Dice::new(value_max + names);
        let name = |number: u64| format!("/{}{number}", "f".repeat(names as usize));
        let value = vec![1; value_max as usize];
        let fits =
            |tree: &Tree<PlainMemory>, at: &str| tree.cost_of(tree.current(), path(at), value.len() + 4) <= tree.room();
        let mut there: Vec<u64> = Vec::new();
        while fits(&tree, &name(there.len() as u64)) {
            let number = there.len() as u64;
            let root = tree.create(
                tree.current(),
                path(&name(number)),
                &value,
                &owned_by(0),
                number,
                number,
            );
            tree.set_current(root);
            there.push(number);
        }
        let nodes = there.len();
        let mut gone = 0;
        while tree.room() < tree.capacity() / 4 {
            // Anywhere: where few are gone from every part of the directory, removals join the fewest of its blocks.
            let number = there.swap_remove(dice.below(there.len() as u64) as usize);
            let root = tree.remove(tree.current(), path(&name(number)), nodes as u64);
            tree.set_current(root);
            assert!(
                tree.find(root, path(&name(number))).is_none(),
                "{gone} of {nodes} with values of {value_max} were removed"
            );
            gone += 1;
        }
        assert_eq!((tree.figures().exhausted, tree.figures().impossible), (0, 0));
        assert!(
            gone > 0 && gone < nodes / 3,
            "{gone} of {nodes} with values of {value_max}"
        );
        assert!(fits(&tree, "/again"));
        let root = tree.create(tree.current(), path("/again"), &value, &owned_by(0), 0, nodes as u64);
        assert!(tree.find(root, path("/again")).is_some());
        tree.set_current(root);
        audit(&mut tree, &[]);
    }
}

#[test]
fn an_update_never_writes_more_than_was_said_before() {
    let mut dice = Dice::new(9);
    let mut tree = Tree::new(PlainMemory::new(8 << 20), 3, &owned_by(0), 0);
    let mut model = Model::new();
    for number in 1..4000u64 {
        let root = tree.current();
        tree.retain(root);
        let old = model.clone();
        tree.arena.pace();
        let new = change(&mut tree, root, &mut model, &mut dice, number, (50, 300));
        let written = tree.arena.unpaid;
        tree.set_current(new);
        let gone = old
            .0
            .keys()
            .filter(|at| !model.0.contains_key(*at))
            .min_by_key(|at| path(at).depth());
        let changed = model.0.keys().filter(|at| old.0.get(*at) != model.0.get(*at));
        let Some(target) = gone.or(changed.max_by_key(|at| path(at).depth())) else {
            tree.release(root);
            continue;
        };
        let said = tree.cost_of(root, path(target), 304);
        assert!(said <= tree.cost_at_most(path(target), 304), "{said} at {target}");
        tree.release(root);
        assert!(written <= said, "{written} > {said} at {target}");
        assert!(said < 40_000, "{said}");
    }
}

#[test]
fn a_missing_way_is_in_the_cost() {
    let mut tree = Tree::new(PlainMemory::new(SMALL), 3, &owned_by(0), 0);
    populate(&mut tree, 100);
    let said = tree.cost_of(tree.current(), path("/d1/x/y/z"), 100);
    tree.arena.pace();
    let mut written = 0;
    for (order, at) in (1000..).zip(["/d1/x", "/d1/x/y", "/d1/x/y/z"]) {
        let root = tree.create(tree.current(), path(at), &[1; 96], &owned_by(0), order, order);
        written += tree.arena.unpaid;
        tree.set_current(root);
    }
    assert!(written <= said, "{written} > {said}");
}

#[test]
fn a_typical_node_takes_at_most_70_bytes_all_in() {
    // As a toolstack makes them: for each domain some devices with a dozen nodes each.
    let mut tree = Tree::new(PlainMemory::new(8 << 20), 3, &owned_by(0), 1 << 21);
    let mut nodes = 0u64;
    let mut make = |tree: &mut Tree<PlainMemory>, at: &str, value: &[u8]| {
        nodes += 1;
        let permissions = owned_by(nodes % 9);
        let root = tree.create(
            tree.current(),
            path(at),
            value,
            &permissions,
            (1 << 21) + nodes,
            (1 << 21) + nodes,
        );
        tree.set_current(root);
    };
    for domain in 0..400 {
        make(&mut tree, &format!("/{domain}"), b"");
        for device in 0..4 {
            make(&mut tree, &format!("/{domain}/{device}"), b"");
            for entry in 0..12 {
                make(
                    &mut tree,
                    &format!("/{domain}/{device}/entry-{entry:02}"),
                    b"/local/domain/12",
                );
            }
        }
    }
    tree.reclaim(usize::MAX);
    let figures = tree.figures();
    // Parents' entries and indexes are blocks, or parts of them; 4 bytes in the table and 4 for the count.
    let bytes = figures.live_bytes as f64 / nodes as f64 + 8.0;
    assert!(
        (60.0..=70.0).contains(&bytes),
        "{bytes} bytes for each of {nodes} nodes"
    );
}
