//! Kernel modules: finding them by name, with what they depend on, decompressed and in loading order.
//!
//! A freshly unpacked kernel package has no `modules.dep` (it is made on installation), so dependencies are read from the modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use object::{Object, ObjectSection};

/// The modules below a kernel's module folder, by name.
pub struct Modules {
    by_name: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Looks what is below `folder` (`…/modules/RELEASE`).
    pub fn of(folder: &Path) -> Result<Modules> {
        let mut by_name = BTreeMap::new();
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    open.push(entry.path());
                } else if let Some(name) = module_name(&entry.file_name().to_string_lossy()) {
                    by_name.insert(name, entry.path());
                }
            }
        }
        let builtin = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        let builtin = builtin
            .lines()
            .filter_map(|line| module_name(line.rsplit('/').next()?))
            .collect();
        Ok(Modules { by_name, builtin })
    }

    /// The modules `wanted` with everything they depend on, each after its dependencies: names and contents.
    pub fn closure(&self, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut loaded = BTreeSet::new();
        let mut order = Vec::new();
        // Depth first with an explicit stack; a module is put into the order when it is met the second time.
        let mut open: Vec<(String, Option<Vec<u8>>)> =
            wanted.iter().rev().map(|name| (canonical(name), None)).collect();
        while let Some((name, content)) = open.pop() {
            if let Some(content) = content {
                if loaded.insert(name.clone()) {
                    order.push((name, content));
                }
                continue;
            }
            if loaded.contains(&name) || self.builtin.contains(&name) {
                continue;
            }
            let path = self
                .by_name
                .get(&name)
                .with_context(|| format!("the kernel has no module {name}"))?;
            let content = decompressed(path)?;
            let dependencies = dependencies(&content).with_context(|| path.display().to_string())?;
            open.push((name, Some(content)));
            open.extend(dependencies.into_iter().map(|dependency| (dependency, None)));
        }
        Ok(order)
    }
}

/// `xen-evtchn.ko.xz` is the module `xen_evtchn`.
fn module_name(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".xz").unwrap_or(file).strip_suffix(".ko")?;
    Some(canonical(stem))
}

fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn decompressed(path: &Path) -> Result<Vec<u8>> {
    let file = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    if path.extension().is_none_or(|extension| extension != "xz") {
        return Ok(file);
    }
    let mut content = Vec::new();
    lzma_rs::xz_decompress(&mut file.as_slice(), &mut content)
        .map_err(|error| anyhow!("{}: {error:?}", path.display()))?;
    Ok(content)
}

/// The `depends=` line of the section `.modinfo`, whose lines end in NUL.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let file = object::read::elf::ElfFile64::<object::Endianness>::parse(module)
        .map_err(|error| anyhow!("not a module: {error}"))?;
    let section = file.section_by_name(".modinfo").context("no .modinfo")?;
    Ok(parse_depends(section.data()?))
}

fn parse_depends(modinfo: &[u8]) -> Vec<String> {
    modinfo
        .split(|byte| *byte == 0)
        .filter_map(|line| std::str::from_utf8(line).ok()?.strip_prefix("depends="))
        .flat_map(|list| {
            list.split(',')
                .filter(|name| !name.is_empty())
                .map(canonical)
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_under_their_own_names() {
        assert_eq!(module_name("xen-evtchn.ko.xz").as_deref(), Some("xen_evtchn"));
        assert_eq!(module_name("xenfs.ko").as_deref(), Some("xenfs"));
        assert_eq!(module_name("modules.order"), None);
    }

    #[test]
    fn dependencies_are_read_from_modinfo() {
        assert_eq!(
            parse_depends(b"license=GPL\0depends=xen-privcmd,mii\0name=x\0"),
            ["xen_privcmd", "mii"]
        );
        assert!(parse_depends(b"depends=\0").is_empty());
    }
}
