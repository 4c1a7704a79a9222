//! Which shared libraries a program needs: the NEEDED walk.
//!
//! A library that is missing in an initramfs shows itself as a baffling "not found" inside the machine. So it is an error when the
//! initramfs is put together, with the names of the library and of who needs it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, NativeEndian};

/// What a dynamically linked file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The dynamic loader, of programs.
    pub interpreter: Option<String>,
    /// The names of its libraries.
    pub libraries: Vec<String>,
}

/// Reads the wishes of an ELF file; of a static program they are empty.
pub fn wishes(file: &[u8]) -> Result<Wishes> {
    let header = FileHeader64::<Endianness>::parse(file).map_err(|error| anyhow!("not a 64-bit ELF file: {error}"))?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, file)?;
    let mut wishes = Wishes::default();
    for segment in segments {
        if segment.p_type(endian) == PT_INTERP {
            let name = segment
                .data(endian, file)
                .map_err(|()| anyhow!("PT_INTERP lies outside the file"))?;
            wishes.interpreter = Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
        }
    }
    let sections = header.sections(endian, file)?;
    if let Some((dynamic, strings)) = sections.dynamic(endian, file)? {
        let strings = sections.strings(endian, file, strings)?;
        for entry in dynamic {
            if u32::try_from(entry.d_tag.get(endian)) == Ok(DT_NEEDED) {
                let offset = u32::try_from(entry.d_val.get(endian))?;
                let name = strings
                    .get(offset)
                    .map_err(|()| anyhow!("a NEEDED name lies outside the strings"))?;
                wishes.libraries.push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    Ok(wishes)
}

/// Whether `file` begins like an ELF file of this machine's kind.
pub fn is_elf(file: &[u8]) -> bool {
    FileHeader64::<NativeEndian>::parse(file).is_ok()
}

/// Finds every library that the `programs` (name and content) need, directly or through another one.
///
/// `load` returns where a library lies and its content. Returns the libraries by name, with their folders.
pub fn walk(
    programs: &[(String, Vec<u8>)],
    load: impl Fn(&str) -> Option<(PathBuf, Vec<u8>)>,
) -> Result<BTreeMap<String, (PathBuf, Vec<u8>)>> {
    let mut found: BTreeMap<String, (PathBuf, Vec<u8>)> = BTreeMap::new();
    let mut open: VecDeque<(String, Vec<String>)> = VecDeque::new();
    for (name, content) in programs {
        open.push_back((name.clone(), wishes(content).with_context(|| name.clone())?.libraries));
    }
    while let Some((who, libraries)) = open.pop_front() {
        for library in libraries {
            if found.contains_key(&library) {
                continue;
            }
            let Some((path, content)) = load(&library) else {
                bail!("{who} needs {library}, which is in none of the fetched packages")
            };
            open.push_back((
                library.clone(),
                wishes(&content).with_context(|| library.clone())?.libraries,
            ));
            found.insert(library, (path, content));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest ELF file that this walk understands: a dynamic section, its strings, and section headers for both.
    fn elf_needing(libraries: &[&str]) -> Vec<u8> {
        let mut strings = vec![0_u8];
        let mut dynamic = Vec::new();
        for library in libraries {
            dynamic.extend([1_u64, strings.len() as u64].iter().flat_map(|word| word.to_le_bytes()));
            strings.extend(library.as_bytes());
            strings.push(0);
        }
        dynamic.extend([0_u8; 16]);
        let (dynamic_at, strings_at) = (64_u64, 64 + dynamic.len() as u64);
        let sections_at = strings_at + strings.len() as u64;

        let mut file = Vec::new();
        file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        file.extend([3_u16, 62].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(1_u32.to_le_bytes());
        file.extend([0_u64, 0, sections_at].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(0_u32.to_le_bytes());
        // Header sizes and counts: ELF header 64, no segments, section headers 64 each, three of them; the strings serve as names too.
        file.extend([64_u16, 56, 0, 64, 3, 2].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(&dynamic);
        file.extend(&strings);
        let section = |kind: u32, offset: u64, size: usize, link: u32| {
            let mut header = Vec::new();
            header.extend([0_u32, kind].iter().flat_map(|word| word.to_le_bytes()));
            header.extend(
                [0_u64, 0, offset, size as u64]
                    .iter()
                    .flat_map(|word| word.to_le_bytes()),
            );
            header.extend([link, 0].iter().flat_map(|word| word.to_le_bytes()));
            header.extend([1_u64, 16].iter().flat_map(|word| word.to_le_bytes()));
            header
        };
        file.extend(section(0, 0, 0, 0));
        file.extend(section(6, dynamic_at, dynamic.len(), 2));
        file.extend(section(3, strings_at, strings.len(), 0));
        file
    }

    #[test]
    fn libraries_of_libraries_are_found_once() {
        let program = elf_needing(&["liba.so.1", "libb.so.1"]);
        assert_eq!(wishes(&program).unwrap().libraries, ["liba.so.1", "libb.so.1"]);
        let found = walk(&[("program".to_owned(), program)], |name| {
            let content = match name {
                "liba.so.1" => elf_needing(&["libb.so.1", "libc.so.6"]),
                "libb.so.1" => elf_needing(&["liba.so.1"]),
                "libc.so.6" => elf_needing(&[]),
                _ => return None,
            };
            Some((PathBuf::from(name), content))
        });
        assert_eq!(
            found.unwrap().into_keys().collect::<Vec<_>>(),
            ["liba.so.1", "libb.so.1", "libc.so.6"]
        );
    }

    #[test]
    fn a_missing_library_is_named_together_with_who_needs_it() {
        let error = walk(&[("xl".to_owned(), elf_needing(&["libxenlight.so"]))], |_| None).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "xl needs libxenlight.so, which is in none of the fetched packages"
        );
    }

    #[test]
    fn a_script_is_not_taken_for_a_program() {
        assert!(!is_elf(b"#!/bin/sh\n"));
        assert!(wishes(b"#!/bin/sh\n").is_err());
    }
}
