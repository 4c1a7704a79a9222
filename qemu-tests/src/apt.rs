//! apt with a state of its own: it sees one suite of one mirror, believes nothing is installed, and installs nothing.
//!
//! So packages of Debian 13 can be fetched on Debian 12 and the machine's own apt is not touched, not even as root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use crate::sources::Mirror;

/// Debian's keys, where the package debian-archive-keyring puts them.
const DEBIAN_KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
];

/// A private apt state in a folder.
pub struct PrivateApt {
    folder: PathBuf,
}

/// A package file that can be downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name, without a version.
    pub name: String,
    /// The name that `apt-get download` gives its file.
    pub file: String,
    /// Bytes.
    pub size: u64,
}

impl PrivateApt {
    /// Prepares the state for `suite` in `folder` and fetches its package lists.
    pub fn open(folder: &Path, suite: &str, mirror: &Mirror) -> Result<PrivateApt> {
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(name)).with_context(|| format!("creating {}", folder.display()))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("sources.list"), source_of(suite, mirror))?;
        let apt = PrivateApt {
            folder: folder.to_owned(),
        };
        apt.run("apt-get", &["-qq", "update"]).context(
            "apt could not read the package lists of the mirror that this machine's own apt uses \
             (signature trouble: install debian-archive-keyring; another mirror: set XENSTORE_TEST_MIRROR)",
        )?;
        Ok(apt)
    }

    /// The direct dependencies of `package`, of alternatives all of them.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let mut arguments = vec!["depends"];
        let left_out = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"]
            .map(|kind| format!("--no-{kind}"));
        arguments.extend(left_out.iter().map(String::as_str));
        arguments.push(package);
        let output = self.run("apt-cache", &arguments)?;
        Ok(parse_depends(&String::from_utf8_lossy(&output.stdout)))
    }

    /// File names and sizes of `packages`, in their order.
    pub fn files_of(&self, packages: &[String]) -> Result<Vec<Package>> {
        let mut arguments = vec!["download", "--print-uris"];
        arguments.extend(packages.iter().map(String::as_str));
        let output = self.run("apt-get", &arguments)?;
        let found = parse_print_uris(&String::from_utf8_lossy(&output.stdout));
        packages
            .iter()
            .map(|name| {
                found
                    .iter()
                    .find(|package| package.name == *name)
                    .cloned()
                    .with_context(|| format!("apt offers no file for {name}"))
            })
            .collect()
    }

    /// Downloads one package into `into`; apt checks its hash against the signed list.
    pub fn download(&self, package: &Package, into: &Path) -> Result<PathBuf> {
        let file = into.join(&package.file);
        if fs::metadata(&file).is_ok_and(|metadata| metadata.len() == package.size) {
            return Ok(file);
        }
        let mut command = self.command("apt-get");
        command.args(["-qq", "download", &package.name]).current_dir(into);
        checked(command)?;
        Ok(file)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(program);
        command.args(arguments);
        checked(command)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        let options = [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            "Dir::Etc::preferences=-".to_owned(),
            "Dir::Etc::preferencesparts=-".to_owned(),
            format!("Dir::State={folder}"),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::State::status={folder}/status"),
            format!("Dir::Cache={folder}/cache"),
            "Dir::Cache::pkgcache=packages.bin".to_owned(),
            "Dir::Cache::srcpkgcache=sources.bin".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Default-Release=".to_owned(),
            // As root apt would drop to a user who cannot write into our folder.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ];
        for option in options {
            command.arg("-o").arg(option);
        }
        command
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// The line of a `sources.list` that names `suite` of this mirror.
pub fn source_of(suite: &str, mirror: &Mirror) -> String {
    source_line(suite, mirror, existing_keyring(mirror))
}

/// The keys to check the mirror with: what the machine's own entry names, else Debian's keyring, else what apt trusts anyway.
fn existing_keyring(mirror: &Mirror) -> Option<String> {
    let own = mirror
        .signed_by
        .clone()
        .filter(|value| files_in(value).all(|file| Path::new(file).exists()));
    own.or_else(|| {
        DEBIAN_KEYRINGS
            .iter()
            .find(|file| Path::new(file).exists())
            .map(|file| (*file).to_owned())
    })
}

/// `Signed-By` may name several files, with commas or blanks between them.
fn files_in(signed_by: &str) -> impl Iterator<Item = &str> {
    signed_by.split([',', ' ']).filter(|file| !file.is_empty())
}

fn source_line(suite: &str, mirror: &Mirror, keyring: Option<String>) -> String {
    let mut options = "arch=amd64".to_owned();
    if let Some(keyring) = keyring {
        options.push_str(" signed-by=");
        options.push_str(&files_in(&keyring).collect::<Vec<_>>().join(","));
    }
    if mirror.trusted {
        options.push_str(" trusted=yes");
    }
    format!("deb [{options}] {} {suite} main\n", mirror.uri)
}

fn parse_depends(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            line.trim_start()
                .trim_start_matches('|')
                .strip_prefix("Depends: ")
                .or_else(|| line.trim_start().strip_prefix("PreDepends: "))
        })
        .filter(|name| !name.starts_with('<'))
        .map(|name| name.trim().split(':').next().unwrap_or_default().to_owned())
        .collect()
}

/// Lines of `'URI' file size hash`.
fn parse_print_uris(text: &str) -> Vec<Package> {
    text.lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let file = words.next()?.to_owned();
            let size = words.next()?.parse().ok()?;
            Some(Package {
                name: file.split('_').next()?.to_owned(),
                file,
                size,
            })
        })
        .collect()
}

fn checked(mut command: Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let last = command
            .get_args()
            .last()
            .map(|argument| argument.to_string_lossy().into_owned())
            .unwrap_or_default();
        bail!(
            "{program} … {last}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_with_alternatives_and_without_virtual_packages() {
        let text = "xen-utils-4.20\n  Depends: libc6\n |Depends: python3:any\n  Depends: <python3:any>\n    python3\n  PreDepends: linux-base\n";
        assert_eq!(parse_depends(text), ["libc6", "python3", "linux-base"]);
    }

    #[test]
    fn the_list_of_files_to_download_is_read() {
        let text =
            "'http://m.example/pool/l/libc6_2.41-12_amd64.deb' libc6_2.41-12_amd64.deb 2847012 SHA256:00ff\nnoise\n";
        assert_eq!(
            parse_print_uris(text),
            [Package {
                name: "libc6".into(),
                file: "libc6_2.41-12_amd64.deb".into(),
                size: 2_847_012
            }]
        );
    }

    #[test]
    fn a_source_line_carries_the_keyring_and_the_trust_of_the_machines_own_entry() {
        let mirror = Mirror {
            uri: "http://m.example/debian".into(),
            signed_by: None,
            trusted: true,
        };
        assert_eq!(
            source_line("trixie", &mirror, Some("/a.gpg, /b.gpg".into())),
            "deb [arch=amd64 signed-by=/a.gpg,/b.gpg trusted=yes] http://m.example/debian trixie main\n"
        );
    }
}
