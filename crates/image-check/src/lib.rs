//! Checks that an ELF file is one that Xen can start, as PVH and as PV, and that it is laid out safely.
//!
//! A linker script or a compiler flag that goes wrong gives a file that looks fine and dies before its first word, so everything that
//! Xen's builder and the entry code rely on is checked here, right after linking. [`without_pvh_entry`] makes the copy that the
//! builder starts as PV.
//!
//! Knows the ELF format and Xen's notes (`elfnote.h`); does not run anything.
#![forbid(unsafe_code)]

use object::elf::{
    EM_X86_64, ET_EXEC, FileHeader64, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, ProgramHeader64, SHT_REL,
    SHT_RELA,
};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use std::fmt;

/// Nothing may be loaded below: PV builders put nothing there, and a null pointer must fault.
pub const LOWEST_ADDRESS: u64 = 1 << 20;

/// The notes that both kinds of start need, by number and name.
pub const NEEDED_NOTES: [(u32, &str); 8] = [
    (1, "ENTRY"),
    (3, "VIRT_BASE"),
    (4, "PADDR_OFFSET"),
    (5, "XEN_VERSION"),
    (6, "GUEST_OS"),
    (8, "LOADER"),
    (9, "PAE_MODE"),
    (PHYS32_ENTRY, "PHYS32_ENTRY"),
];
/// The note that makes an image a PVH one.
pub const PHYS32_ENTRY: u32 = 18;
/// Entry of a PV guest.
const ENTRY: u32 = 1;

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// Not a 64-bit little-endian ELF file, or cut off.
    NotElf,
    /// Not for x86_64.
    Machine(u16),
    /// Not a static executable (`ET_EXEC`); a position-independent one would need somebody to relocate it.
    Type(u16),
    /// Needs a dynamic linker: has this segment.
    Dynamic(&'static str),
    /// Section with relocations that nobody will apply.
    Relocations { section: usize, count: u64 },
    /// No loadable segment.
    NothingToLoad,
    /// Can be written and executed.
    WritableCode { segment: usize },
    /// Larger in the file than in memory.
    FileLargerThanMemory { segment: usize },
    /// Loaded below [`LOWEST_ADDRESS`].
    TooLow { segment: usize, address: u64 },
    /// Loaded over each other.
    Overlap { first: usize, second: usize },
    /// No such note of Xen's.
    MissingNote(&'static str),
    /// An entry point that is not in a segment with code.
    EntryNotInCode { note: &'static str, address: u64 },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not a 64-bit little-endian ELF file, or cut off"),
            Self::Machine(machine) => write!(f, "for ELF machine {machine}, not x86_64"),
            Self::Type(kind) => write!(
                f,
                "ELF type {kind}, not a static executable (link with -static -no-pie)"
            ),
            Self::Dynamic(name) => write!(f, "has a {name} segment: it expects a dynamic linker"),
            Self::Relocations { section, count } => {
                write!(f, "section {section} has {count} relocations that nobody applies")
            }
            Self::NothingToLoad => f.write_str("has no loadable segment"),
            Self::WritableCode { segment } => write!(f, "segment {segment} is both writable and executable"),
            Self::FileLargerThanMemory { segment } => {
                write!(f, "segment {segment} is larger in the file than in memory")
            }
            Self::TooLow { segment, address } => write!(f, "segment {segment} is loaded at {address:#x}, below 1 MiB"),
            Self::Overlap { first, second } => write!(f, "segments {first} and {second} are loaded over each other"),
            Self::MissingNote(name) => write!(f, "has no Xen note {name}"),
            Self::EntryNotInCode { note, address } => write!(f, "note {note} says {address:#x}, where no code is"),
        }
    }
}

impl std::error::Error for Problem {}

/// What was found in a good image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Loadable segments.
    pub segments: usize,
    /// Xen's notes.
    pub notes: usize,
    /// First and first-behind-last physical address.
    pub physical: (u64, u64),
    /// Entry addresses.
    pub entry_pv: u64,
    pub entry_pvh: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} segments, {} notes, loaded from {:#x} to {:#x} ({} KiB), PV entry {:#x}, PVH entry {:#x}",
            self.segments,
            self.notes,
            self.physical.0,
            self.physical.1,
            (self.physical.1 - self.physical.0) / 1024,
            self.entry_pv,
            self.entry_pvh
        )
    }
}

const LE: LittleEndian = LittleEndian;
type Header = FileHeader64<LittleEndian>;
type Segment = ProgramHeader64<LittleEndian>;

/// A note of Xen's: its number, and where number and description lie in the file.
struct Note {
    number: u32,
    description: Vec<u8>,
    number_offset: usize,
}

impl Note {
    fn address(&self) -> u64 {
        self.description
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte))
    }
}

fn parse(file: &[u8]) -> Result<(&Header, &[Segment]), Problem> {
    let header = Header::parse(file).map_err(|_| Problem::NotElf)?;
    if !header.is_little_endian() {
        return Err(Problem::NotElf);
    }
    let segments = header.program_headers(LE, file).map_err(|_| Problem::NotElf)?;
    Ok((header, segments))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes
        .get(offset..offset.checked_add(4)?)?
        .try_into()
        .ok()
        .map(u32::from_le_bytes)
}

/// Xen's notes in the note segments (4-byte aligned, name "Xen").
fn notes(file: &[u8], segments: &[Segment]) -> Result<Vec<Note>, Problem> {
    let mut notes = Vec::new();
    for segment in segments.iter().filter(|segment| segment.p_type(LE) == PT_NOTE) {
        let (start, size) = segment.file_range(LE);
        let (start, size) = (start as usize, size as usize);
        let data = start
            .checked_add(size)
            .and_then(|end| file.get(start..end))
            .ok_or(Problem::NotElf)?;
        let mut at = 0;
        while at < data.len() {
            let field = |index: usize| u32_at(data, at + index * 4).ok_or(Problem::NotElf);
            let (name_size, description_size, number) = (field(0)? as usize, field(1)? as usize, field(2)?);
            let name = at + 12;
            let description = name + name_size.next_multiple_of(4);
            let end = description.checked_add(description_size).ok_or(Problem::NotElf)?;
            let bytes = data.get(description..end).ok_or(Problem::NotElf)?;
            if data.get(name..name + name_size) == Some(b"Xen\0") {
                notes.push(Note {
                    number,
                    description: bytes.to_vec(),
                    number_offset: start + at + 8,
                });
            }
            at = end.next_multiple_of(4);
        }
    }
    Ok(notes)
}

fn entry_problem(note: &Note, name: &'static str, segments: &[&Segment]) -> Option<Problem> {
    let address = note.address();
    let in_code = segments.iter().any(|segment| {
        let (start, size) = (segment.p_vaddr(LE), segment.p_filesz(LE));
        segment.p_flags(LE) & PF_X != 0 && (start..start.saturating_add(size)).contains(&address)
    });
    (!in_code).then_some(Problem::EntryNotInCode { note: name, address })
}

fn segment_problems(segments: &[&Segment]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if segments.is_empty() {
        problems.push(Problem::NothingToLoad);
    }
    let physical: Vec<_> = segments
        .iter()
        .map(|segment| {
            (
                segment.p_paddr(LE),
                segment.p_paddr(LE).saturating_add(segment.p_memsz(LE)),
            )
        })
        .collect();
    for (index, segment) in segments.iter().enumerate() {
        let flags = segment.p_flags(LE);
        if flags & PF_W != 0 && flags & PF_X != 0 {
            problems.push(Problem::WritableCode { segment: index });
        }
        if segment.p_filesz(LE) > segment.p_memsz(LE) {
            problems.push(Problem::FileLargerThanMemory { segment: index });
        }
        let (start, end) = physical[index];
        if start < LOWEST_ADDRESS {
            problems.push(Problem::TooLow {
                segment: index,
                address: start,
            });
        }
        for (before, &(other_start, other_end)) in physical.iter().enumerate().take(index) {
            if start < other_end && other_start < end {
                problems.push(Problem::Overlap {
                    first: before,
                    second: index,
                });
            }
        }
    }
    problems
}

fn relocation_problems(header: &Header, file: &[u8]) -> Result<Vec<Problem>, Problem> {
    let sections = header.section_headers(LE, file).map_err(|_| Problem::NotElf)?;
    let tables = sections
        .iter()
        .enumerate()
        .filter(|(_, section)| matches!(section.sh_type(LE), SHT_REL | SHT_RELA));
    Ok(tables
        .filter(|(_, section)| section.sh_size(LE) != 0)
        .map(|(index, section)| Problem::Relocations {
            section: index,
            count: section
                .sh_size(LE)
                .checked_div(section.sh_entsize(LE))
                .unwrap_or(section.sh_size(LE)),
        })
        .collect())
}

/// Checks a file; all problems at once.
pub fn check(file: &[u8]) -> Result<Report, Vec<Problem>> {
    let (header, segments) = parse(file).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    if header.e_machine(LE) != EM_X86_64 {
        problems.push(Problem::Machine(header.e_machine(LE)));
    }
    if header.e_type(LE) != ET_EXEC {
        problems.push(Problem::Type(header.e_type(LE)));
    }
    for segment in segments {
        match segment.p_type(LE) {
            PT_DYNAMIC => problems.push(Problem::Dynamic("PT_DYNAMIC")),
            PT_INTERP => problems.push(Problem::Dynamic("PT_INTERP")),
            _ => {}
        }
    }
    let loaded: Vec<&Segment> = segments
        .iter()
        .filter(|segment| segment.p_type(LE) == PT_LOAD)
        .collect();
    problems.extend(segment_problems(&loaded));
    match relocation_problems(header, file) {
        Ok(found) => problems.extend(found),
        Err(problem) => problems.push(problem),
    }
    let notes = notes(file, segments).map_err(|problem| vec![problem])?;
    let mut entries = [0, 0];
    for (number, name) in NEEDED_NOTES {
        let Some(note) = notes.iter().find(|note| note.number == number) else {
            problems.push(Problem::MissingNote(name));
            continue;
        };
        if let Some(entry) = [ENTRY, PHYS32_ENTRY].into_iter().position(|entry| entry == number) {
            entries[entry] = note.address();
            problems.extend(entry_problem(note, name, &loaded));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let start = loaded
        .iter()
        .map(|segment| segment.p_paddr(LE))
        .min()
        .unwrap_or_default();
    let end = loaded
        .iter()
        .map(|segment| segment.p_paddr(LE) + segment.p_memsz(LE))
        .max()
        .unwrap_or_default();
    let [entry_pv, entry_pvh] = entries;
    Ok(Report {
        segments: loaded.len(),
        notes: notes.len(),
        physical: (start, end),
        entry_pv,
        entry_pvh,
    })
}

/// A copy without the PVH entry, which every builder therefore starts as PV: the note's number becomes one that Xen does not know.
pub fn without_pvh_entry(file: &[u8]) -> Result<Vec<u8>, Problem> {
    const UNKNOWN_NOTE: u32 = 0x7fff_ffff;
    let (_, segments) = parse(file)?;
    let note = notes(file, segments)?
        .into_iter()
        .find(|note| note.number == PHYS32_ENTRY);
    let at = note.ok_or(Problem::MissingNote("PHYS32_ENTRY"))?.number_offset;
    let mut copy = file.to_vec();
    copy.get_mut(at..at + 4)
        .ok_or(Problem::NotElf)?
        .copy_from_slice(&UNKNOWN_NOTE.to_le_bytes());
    Ok(copy)
}
