//! A core as an ELF file that gdb reads: registers, a note in words, and runs of pages at their virtual addresses.
//!
//! Layout: ELF header, program headers, the notes, then from a page boundary on the pages. The figures are those of the ELF
//! specification (generic, and its supplement for AMD64); `elf_prstatus` is Linux's (`linux/elfcore.h`), which gdb expects.

use std::io::{self, Write};

use xen_bindings::PAGE_SIZE;
use xen_bindings::dom0::{Page, Registers};

use crate::memory::Mapped;

const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;
const NT_PRSTATUS: u32 = 1;
/// Ours: text. No number of Linux' notes, so that no tool shows it as one of those.
const NT_WORDS: u32 = 0x100;

/// Bytes of `elf_prstatus`, and where in it the process number and the registers lie.
const PRSTATUS: usize = 336;
const PRSTATUS_PID: usize = 32;
const PRSTATUS_REGISTERS: usize = 112;

/// An ELF file without special means can have this many program headers (`PN_XNUM` less one).
const RUNS_AT_MOST: usize = 0xfffe;

/// Pages one after another with the same rights: a program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Mapped,
    pages: usize,
}

/// Puts pages, which are in the order of their addresses, into runs.
fn runs_of<'a>(pages: impl Iterator<Item = &'a Mapped>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for page in pages {
        let full = runs.len() == RUNS_AT_MOST;
        match runs.last_mut() {
            Some(run)
                if run.first.address + (run.pages * PAGE_SIZE) as u64 == page.address
                    && (run.first.writable, run.first.executable) == (page.writable, page.executable) =>
            {
                run.pages += 1;
            }
            _ if full => break,
            _ => runs.push(Run { first: *page, pages: 1 }),
        }
    }
    runs
}

/// Writes a core with these pages, which are in the order of their addresses. Returns the number of pages in it.
pub fn write(
    out: &mut impl Write,
    domid: u16,
    registers: &Registers,
    words: &str,
    pages: &[(Mapped, Box<Page>)],
) -> io::Result<usize> {
    let runs = runs_of(pages.iter().map(|(page, _)| page));
    let written = runs.iter().map(|run| run.pages).sum();
    let mut notes = note("CORE", NT_PRSTATUS, &prstatus(domid, registers));
    notes.extend(note("xenstore-stubdom", NT_WORDS, words.as_bytes()));
    let headers = runs.len() + 1;
    let notes_at = ELF_HEADER + headers * PROGRAM_HEADER;
    let pages_at = (notes_at + notes.len()).next_multiple_of(PAGE_SIZE);

    let mut head = elf_header(headers as u16);
    head.extend(program_header(PT_NOTE, 0, notes_at as u64, 0, notes.len() as u64));
    let mut at = pages_at as u64;
    for run in &runs {
        let mut rights = PF_R;
        if run.first.writable {
            rights |= PF_W;
        }
        if run.first.executable {
            rights |= PF_X;
        }
        let bytes = (run.pages * PAGE_SIZE) as u64;
        head.extend(program_header(PT_LOAD, rights, at, run.first.address, bytes));
        at += bytes;
    }
    head.extend(notes);
    head.resize(pages_at, 0);
    out.write_all(&head)?;
    for (_, content) in pages.iter().take(written) {
        out.write_all(content.as_slice())?;
    }
    Ok(written)
}

fn elf_header(program_headers: u16) -> Vec<u8> {
    // 64 bits, little-endian, version 1, no particular operating system.
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    out.resize(16, 0);
    out.extend(ET_CORE.to_le_bytes());
    out.extend(EM_X86_64.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    // No entry point; program headers follow; no section headers; no flags.
    for value in [0, ELF_HEADER as u64, 0] {
        out.extend(value.to_le_bytes());
    }
    out.extend(0_u32.to_le_bytes());
    for value in [ELF_HEADER as u16, PROGRAM_HEADER as u16, program_headers, 0, 0, 0] {
        out.extend(value.to_le_bytes());
    }
    out
}

fn program_header(kind: u32, rights: u32, offset: u64, address: u64, bytes: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(PROGRAM_HEADER);
    out.extend(kind.to_le_bytes());
    out.extend(rights.to_le_bytes());
    let alignment = if kind == PT_LOAD { PAGE_SIZE as u64 } else { 4 };
    // The physical address is left open: on PV it would be the machine's, which tells nobody anything.
    let in_memory = if kind == PT_LOAD { bytes } else { 0 };
    for value in [offset, address, 0, bytes, in_memory, alignment] {
        out.extend(value.to_le_bytes());
    }
    out
}

/// Name and content each end at a multiple of four.
fn note(name: &str, kind: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in [name.len() as u32 + 1, content.len() as u32, kind] {
        out.extend(value.to_le_bytes());
    }
    out.extend(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(content);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn prstatus(domid: u16, registers: &Registers) -> Vec<u8> {
    let mut out = vec![0; PRSTATUS_PID];
    // gdb shows it as the number of the thread, and 0 is none.
    out.extend(u32::from(domid).max(1).to_le_bytes());
    out.resize(PRSTATUS_REGISTERS, 0);
    let user = &registers.user;
    // The order of `user_regs_struct`, with no system call under way (-1).
    let values = [
        user.r15,
        user.r14,
        user.r13,
        user.r12,
        user.rbp,
        user.rbx,
        user.r11,
        user.r10,
        user.r9,
        user.r8,
        user.rax,
        user.rcx,
        user.rdx,
        user.rsi,
        user.rdi,
        u64::MAX,
        user.rip,
        user.cs.into(),
        user.rflags,
        user.rsp,
        user.ss.into(),
        registers.fs_base,
        registers.gs_base,
        user.ds.into(),
        user.es.into(),
        user.fs.into(),
        user.gs.into(),
    ];
    for value in values {
        out.extend(value.to_le_bytes());
    }
    out.resize(PRSTATUS, 0);
    out
}

#[cfg(test)]
mod tests {
    use xen_bindings::dom0::CpuUserRegs;

    use super::*;

    fn page(number: u64, writable: bool, fill: u8) -> (Mapped, Box<Page>) {
        let mapped = Mapped {
            address: 0x10_0000 + (number << 12),
            frame: number,
            writable,
            executable: !writable,
        };
        (mapped, Box::new([fill; PAGE_SIZE]))
    }

    fn number(file: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(file[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn pages_are_found_at_their_addresses_and_registers_in_their_places() {
        let pages = [page(0, false, 1), page(1, false, 2), page(2, true, 3), page(9, true, 4)];
        let registers = Registers {
            user: CpuUserRegs {
                rip: 0x10_0123,
                rsp: 0x20_0456,
                ..CpuUserRegs::default()
            },
            cr3: 0,
            fs_base: 0,
            gs_base: 0,
        };
        let mut file = Vec::new();
        assert_eq!(write(&mut file, 1, &registers, "why", &pages).unwrap(), 4);
        assert_eq!(file.len() % PAGE_SIZE, 0);
        assert_eq!(&file[..6], b"\x7fELF\x02\x01");
        // A note and three runs: two pages to execute, one to write, and one behind a gap.
        assert_eq!(file[56], 4);
        let run = |index: usize| {
            let header = ELF_HEADER + index * PROGRAM_HEADER;
            (
                number(&file, header + 8) as usize,
                number(&file, header + 16),
                number(&file, header + 32),
            )
        };
        assert_eq!((run(1).1, run(1).2), (0x10_0000, 0x2000));
        assert_eq!((run(2).1, run(2).2), (0x10_2000, 0x1000));
        assert_eq!((run(3).1, run(3).2), (0x10_9000, 0x1000));
        for (index, fill) in [(1, 1), (2, 3), (3, 4)] {
            assert_eq!(file[run(index).0], fill);
        }
        let note = run(0).0;
        // Header, "CORE" and padding: 20 bytes.
        let registers = note + 20 + PRSTATUS_REGISTERS;
        assert_eq!(
            (number(&file, registers + 16 * 8), number(&file, registers + 19 * 8)),
            (0x10_0123, 0x20_0456)
        );
        assert!(file.windows(3).any(|words| words == b"why"));
    }
}
