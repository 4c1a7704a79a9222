//! Xen's notes in a kernel image: which entries it offers, and how to hide the PVH one.
//!
//! Xen's domain builder takes PVH whenever an image has a PHYS32_ENTRY note. The same image is tested as PV with that note blanked.

use anyhow::{Result, anyhow, bail};
use object::Endianness;
use object::elf::{FileHeader64, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};

/// XEN_ELFNOTE_PHYS32_ENTRY: where a PVH guest begins (xen/include/public/elfnote.h).
const PHYS32_ENTRY: u32 = 18;
/// XEN_ELFNOTE_ENTRY: where a PV guest begins (same file).
const ENTRY: u32 = 1;
/// A type that no builder looks for.
const BLANK: u32 = 0x7fff_ffff;

/// Which ways of starting an image offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    pub pvh: bool,
    pub pv: bool,
}

/// Reads which entries `image` offers.
pub fn entries(image: &[u8]) -> Result<Entries> {
    let notes = xen_notes(image)?;
    let has = |wanted: u32| notes.iter().any(|(kind, _)| *kind == wanted);
    Ok(Entries {
        pvh: has(PHYS32_ENTRY),
        pv: has(ENTRY),
    })
}

/// A copy of `image` without its PVH entry.
pub fn without_pvh_entry(image: &[u8]) -> Result<Vec<u8>> {
    let mut copy = image.to_vec();
    for (kind, offset) in xen_notes(image)? {
        if kind == PHYS32_ENTRY {
            copy.get_mut(offset..offset + 4)
                .ok_or_else(|| anyhow!("a note lies outside the file"))?
                .copy_from_slice(&BLANK.to_le_bytes());
        }
    }
    Ok(copy)
}

/// Type and file offset of the type word of every note with Xen's name.
fn xen_notes(image: &[u8]) -> Result<Vec<(u32, usize)>> {
    let header = FileHeader64::<Endianness>::parse(image).map_err(|error| anyhow!("not a 64-bit ELF file: {error}"))?;
    let endian = header.endian()?;
    let mut found = Vec::new();
    for segment in header
        .program_headers(endian, image)?
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_NOTE)
    {
        let (start, size) = segment.file_range(endian);
        let (mut at, end) = (usize::try_from(start)?, usize::try_from(start.saturating_add(size))?);
        while at.saturating_add(12) <= end {
            let word = |offset: usize| -> Result<u32> {
                let bytes = image
                    .get(offset..offset + 4)
                    .ok_or_else(|| anyhow!("a note lies outside the file"))?;
                Ok(u32::from_le_bytes(bytes.try_into()?))
            };
            let (name_size, descriptor_size, kind) = (word(at)? as usize, word(at + 4)? as usize, word(at + 8)?);
            if image.get(at + 12..at + 16) == Some(b"Xen\0") && name_size == 4 {
                found.push((kind, at + 8));
            }
            let Some(next) = padded(name_size)
                .zip(padded(descriptor_size))
                .and_then(|(name, descriptor)| (at + 12).checked_add(name)?.checked_add(descriptor))
            else {
                bail!("a note is longer than any file")
            };
            at = next;
        }
    }
    Ok(found)
}

/// Names and descriptors of notes are padded to four bytes.
fn padded(size: usize) -> Option<usize> {
    size.checked_next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with one note segment.
    fn image(notes: &[(&[u8; 4], u32)]) -> Vec<u8> {
        let mut segment = Vec::new();
        for (name, kind) in notes {
            segment.extend([4_u32, 8, *kind].iter().flat_map(|word| word.to_le_bytes()));
            segment.extend(*name);
            segment.extend(0x10_0000_u64.to_le_bytes());
        }
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend([2_u16, 62].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(1_u32.to_le_bytes());
        file.extend([0_u64, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(0_u32.to_le_bytes());
        file.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|word| word.to_le_bytes()));
        file.extend([PT_NOTE, 4].iter().flat_map(|word| word.to_le_bytes()));
        let size = segment.len() as u64;
        file.extend(
            [120_u64, 0, 0, size, size, 4]
                .iter()
                .flat_map(|word| word.to_le_bytes()),
        );
        file.extend(segment);
        file
    }

    #[test]
    fn both_entries_are_recognised_and_only_under_xens_name() {
        let both = image(&[(b"Xen\0", ENTRY), (b"Xen\0", PHYS32_ENTRY)]);
        assert_eq!(entries(&both).unwrap(), Entries { pvh: true, pv: true });
        let other = image(&[(b"GNU\0", ENTRY), (b"GNU\0", PHYS32_ENTRY)]);
        assert_eq!(entries(&other).unwrap(), Entries::default());
    }

    #[test]
    fn blanking_hides_the_pvh_entry_and_nothing_else() {
        let both = image(&[(b"Xen\0", PHYS32_ENTRY), (b"Xen\0", ENTRY)]);
        let blanked = without_pvh_entry(&both).unwrap();
        assert_eq!(entries(&blanked).unwrap(), Entries { pvh: false, pv: true });
        assert_eq!(both.iter().zip(&blanked).filter(|(one, other)| one != other).count(), 4);
    }
}
