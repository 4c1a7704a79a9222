//! A good image passes; every way of breaking it is refused, with the problem that it is.
#![forbid(unsafe_code)]

use image_check::{NEEDED_NOTES, PHYS32_ENTRY, Problem, check, without_pvh_entry};

const TEXT: usize = 0;
const DATA: usize = 2;
const NOTES: usize = 4;

/// A segment of the made-up image: type, flags, physical address, bytes in the file, bytes in memory.
#[derive(Clone)]
struct Segment {
    kind: u32,
    flags: u32,
    address: u64,
    content: Vec<u8>,
    memory: u64,
}

#[derive(Clone)]
struct Image {
    kind: u16,
    machine: u16,
    segments: Vec<Segment>,
    relocations: u64,
}

fn note(number: u32, description: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4, description.len() as u32, number] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(description);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

impl Image {
    fn good() -> Self {
        let notes = NEEDED_NOTES
            .into_iter()
            .flat_map(|(number, _)| match number {
                1 => note(number, &0x10_0010_u64.to_le_bytes()),
                PHYS32_ENTRY => note(number, &0x10_0020_u32.to_le_bytes()),
                _ => note(number, b"text"),
            })
            .collect();
        let load = |flags, address, bytes: usize, memory| Segment {
            kind: 1,
            flags,
            address,
            content: vec![0x90; bytes],
            memory,
        };
        let segments = vec![
            load(5, 0x10_0000, 256, 256),
            load(4, 0x10_1000, 128, 128),
            load(6, 0x10_2000, 64, 64),
            load(6, 0x10_4000, 0, 8192),
            Segment {
                kind: 4,
                flags: 4,
                address: 0x10_1000,
                content: notes,
                memory: 0,
            },
        ];
        Self {
            kind: 2,
            machine: 62,
            segments,
            relocations: 0,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let count = self.segments.len();
        let mut content_at = 64 + 56 * count;
        let (mut headers, mut contents): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
        for segment in &self.segments {
            headers.extend(segment.kind.to_le_bytes());
            headers.extend(segment.flags.to_le_bytes());
            for value in [
                content_at as u64,
                segment.address,
                segment.address,
                segment.content.len() as u64,
                segment.memory,
                4,
            ] {
                headers.extend(value.to_le_bytes());
            }
            contents.extend(&segment.content);
            content_at += segment.content.len();
        }
        // Sections: the empty one, and one of relocations.
        let mut sections = vec![0_u8; 64];
        for (value, size) in [
            (0, 4),
            (4, 4),
            (0, 8),
            (0, 8),
            (64, 8),
            (self.relocations * 24, 8),
            (0, 4),
            (0, 4),
            (8, 8),
            (24, 8),
        ] {
            sections.extend(&u64::to_le_bytes(value)[..size]);
        }
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend(self.kind.to_le_bytes());
        file.extend(self.machine.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        for value in [0x10_0010, 64, content_at as u64] {
            file.extend(value.to_le_bytes());
        }
        file.extend(0_u32.to_le_bytes());
        for value in [64, 56, count as u16, 64, 2, 0] {
            file.extend(value.to_le_bytes());
        }
        file.extend(headers);
        file.extend(contents);
        file.extend(sections);
        file
    }
}

/// The problems of a good image after `damage`.
fn problems(damage: impl FnOnce(&mut Image)) -> Vec<Problem> {
    let mut image = Image::good();
    damage(&mut image);
    check(&image.bytes()).expect_err("the damage goes unnoticed")
}

fn drop_note(image: &mut Image, dropped: u32) {
    let at = image.segments[NOTES]
        .content
        .chunks_exact(4)
        .position(|word| word == dropped.to_le_bytes())
        .unwrap();
    image.segments[NOTES].content[at * 4] = 99;
}

#[test]
fn a_good_image_passes_and_is_described() {
    let report = check(&Image::good().bytes()).unwrap();
    assert_eq!((report.segments, report.notes), (4, NEEDED_NOTES.len()));
    assert_eq!(report.physical, (0x10_0000, 0x10_6000));
    assert_eq!((report.entry_pv, report.entry_pvh), (0x10_0010, 0x10_0020));
}

#[test]
fn what_is_not_elf_or_cut_off_is_refused() {
    assert_eq!(check(b"#!/bin/sh\n"), Err(vec![Problem::NotElf]));
    let file = Image::good().bytes();
    for length in [0, 10, 63, 100, 400, file.len() - 1] {
        assert!(check(&file[..length]).is_err(), "cut off at {length}");
    }
}

#[test]
fn position_independent_and_foreign_files_are_refused() {
    assert_eq!(problems(|image| image.kind = 3), [Problem::Type(3)]);
    assert_eq!(problems(|image| image.machine = 183), [Problem::Machine(183)]);
}

#[test]
fn files_that_expect_a_dynamic_linker_are_refused() {
    let with = |kind| {
        problems(|image| {
            image.segments.push(Segment {
                kind,
                flags: 4,
                address: 0x10_1000,
                content: vec![],
                memory: 0,
            })
        })
    };
    assert_eq!(with(2), [Problem::Dynamic("PT_DYNAMIC")]);
    assert_eq!(with(3), [Problem::Dynamic("PT_INTERP")]);
    let relocations = problems(|image| image.relocations = 3);
    assert_eq!(relocations, [Problem::Relocations { section: 1, count: 3 }]);
}

#[test]
fn writable_code_is_refused() {
    assert_eq!(
        problems(|image| image.segments[TEXT].flags = 7),
        [Problem::WritableCode { segment: TEXT }]
    );
}

#[test]
fn segments_in_wrong_places_are_refused() {
    let low = problems(|image| image.segments[DATA].address = 0xf_f000);
    assert_eq!(
        low,
        [Problem::TooLow {
            segment: DATA,
            address: 0xf_f000
        }]
    );
    let overlap = problems(|image| image.segments[DATA].memory = 0x2001);
    assert_eq!(
        overlap,
        [Problem::Overlap {
            first: DATA,
            second: DATA + 1
        }]
    );
    let short = problems(|image| image.segments[DATA].memory = 63);
    assert_eq!(short, [Problem::FileLargerThanMemory { segment: DATA }]);
    let nothing = problems(|image| image.segments.drain(..NOTES).for_each(drop));
    assert!(nothing.contains(&Problem::NothingToLoad));
}

#[test]
fn each_needed_note_is_missed() {
    for (number, name) in NEEDED_NOTES {
        // The numbers of notes are also found among the lengths of names and descriptions; 4 and 8 among others.
        if ![1, 4, 8].contains(&number) {
            assert_eq!(
                problems(|image| drop_note(image, number)),
                [Problem::MissingNote(name)],
                "{name}"
            );
        }
    }
    let all = problems(|image| image.segments[NOTES].content.clear());
    assert_eq!(all, NEEDED_NOTES.map(|(_, name)| Problem::MissingNote(name)));
}

#[test]
fn an_entry_outside_of_the_code_is_refused() {
    let problems = problems(|image| image.segments[TEXT].address = 0x10_8000);
    assert_eq!(
        problems,
        [
            Problem::EntryNotInCode {
                note: "ENTRY",
                address: 0x10_0010
            },
            Problem::EntryNotInCode {
                note: "PHYS32_ENTRY",
                address: 0x10_0020
            },
        ]
    );
}

#[test]
fn the_copy_for_pv_differs_in_one_note_only() {
    let file = Image::good().bytes();
    let copy = without_pvh_entry(&file).unwrap();
    assert_eq!(copy.len(), file.len());
    assert!(file.iter().zip(&copy).filter(|(a, b)| a != b).count() <= 4);
    assert_eq!(check(&copy), Err(vec![Problem::MissingNote("PHYS32_ENTRY")]));
    assert_eq!(without_pvh_entry(&copy), Err(Problem::MissingNote("PHYS32_ENTRY")));
}
