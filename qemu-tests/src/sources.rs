//! Reads apt's own list of sources, in both formats, to learn which Debian mirror this machine uses.
//!
//! No mirror address is written in this project: the machine's administrator chose one already. Knows the two formats (`sources.list`
//! lines and deb822 `*.sources` stanzas); does not know what is behind an address.

use std::path::{Path, PathBuf};

/// One enabled entry for binary packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Addresses, in the order written.
    pub uris: Vec<String>,
    /// Suites or codenames (`bookworm`, `stable`, `bookworm-updates`).
    pub suites: Vec<String>,
    /// Components (`main`, `contrib`).
    pub components: Vec<String>,
    /// `Signed-By`, if it is one or more files (a key written into the entry itself is not taken).
    pub signed_by: Option<String>,
    /// `Trusted: yes`: this machine accepts the source without a signature.
    pub trusted: bool,
}

/// The mirror to fetch every suite from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub uri: String,
    pub signed_by: Option<String>,
    pub trusted: bool,
}

/// Codenames and aliases of Debian's own suites: an entry with one of them points at a Debian mirror.
const DEBIAN_SUITES: [&str; 9] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// Finds the Debian mirror among `sources`, preferring none over another but the order in which they are written.
pub fn debian_mirror(sources: &[Source]) -> Option<Mirror> {
    sources.iter().find_map(|source| {
        let debian = source
            .suites
            .iter()
            .any(|suite| DEBIAN_SUITES.contains(&suite.as_str()));
        let main = source.components.iter().any(|component| component == "main");
        let uri = source.uris.iter().find(|uri| is_the_main_archive(uri))?;
        (debian && main).then(|| Mirror {
            uri: uri.clone(),
            signed_by: source.signed_by.clone(),
            trusted: source.trusted,
        })
    })
}

/// Other vendors publish under Debian's codenames too; a mirror of Debian itself ends in `/debian`, or is a bare host or a list.
fn is_the_main_archive(uri: &str) -> bool {
    let path = uri
        .split_once("://")
        .map_or(uri, |(_, rest)| rest)
        .trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or("");
    uri.starts_with("mirror+file:")
        || uri.starts_with("cdrom:")
        || last.starts_with("debian") && !last.contains("security")
}

/// Everything in `/etc/apt`: `sources.list` and the parts in `sources.list.d`, in apt's order.
pub fn of_this_machine() -> Vec<Source> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let mut parts: Vec<PathBuf> = std::fs::read_dir("/etc/apt/sources.list.d")
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    parts.sort();
    files.extend(parts);
    files.iter().flat_map(|file| parse_file(file)).collect()
}

fn parse_file(file: &Path) -> Vec<Source> {
    let Ok(text) = std::fs::read_to_string(file) else {
        return Vec::new();
    };
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("sources") => parse_deb822(&text),
        Some("list") => text.lines().filter_map(parse_line).collect(),
        _ => Vec::new(),
    }
}

/// One line of a `*.list` file: `deb [options] uri suite component…`.
fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or("").trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut options = "";
    if let Some(bracketed) = rest.strip_prefix('[') {
        (options, rest) = bracketed.split_once(']')?;
    }
    let option = |name: &str| {
        options
            .split_whitespace()
            .filter_map(|option| option.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: option("signed-by")
            .filter(|value| value.starts_with('/'))
            .map(str::to_owned),
        trusted: option("trusted") == Some("yes"),
    })
}

/// The stanzas of a `*.sources` file. Fields may go on in indented lines; `#` begins a comment line.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(source_of_stanza(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn source_of_stanza(fields: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let words = |name: &str| {
        field(name)
            .unwrap_or("")
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let enabled = !matches!(field("enabled"), Some("no" | "false" | "0" | "off"));
    (enabled && words("types").iter().any(|kind| kind == "deb")).then(|| Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by")
            .filter(|value| value.starts_with('/'))
            .map(str::to_owned),
        trusted: matches!(field("trusted"), Some("yes" | "true" | "1")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb
# a comment between fields
URIs: https://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main
 contrib

Types: deb
Enabled: no
URIs: https://off.example/debian
Suites: bookworm
Components: main
";

    #[test]
    fn deb822_stanzas_with_comments_and_continuations_are_read() {
        let sources = parse_deb822(DEB822);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            sources[0].signed_by.as_deref(),
            Some("/usr/share/keyrings/debian-archive-keyring.gpg")
        );
        assert_eq!(sources[1].components, ["main", "contrib"]);
    }

    #[test]
    fn a_key_written_into_the_entry_is_not_mistaken_for_a_file() {
        let text = "Types: deb\nURIs: https://m.example/debian\nSuites: sid\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";
        assert_eq!(parse_deb822(text)[0].signed_by, None);
    }

    #[test]
    fn one_line_entries_with_and_without_options_are_read() {
        let source = parse_line(
            "deb [arch=amd64 trusted=yes signed-by=/k.gpg] http://m.example/debian/ trixie main contrib # x",
        )
        .unwrap();
        assert_eq!(source.uris, ["http://m.example/debian/"]);
        assert_eq!(source.components, ["main", "contrib"]);
        assert_eq!((source.signed_by.as_deref(), source.trusted), (Some("/k.gpg"), true));
        assert_eq!(parse_line("deb-src http://m.example/debian trixie main"), None);
        assert_eq!(parse_line("# deb http://m.example/debian trixie main"), None);
    }

    #[test]
    fn the_mirror_is_debians_own_archive_and_not_another_vendors_or_the_security_one() {
        let mut sources: Vec<Source> = [
            "deb https://vendor.example/apt bookworm main",
            "deb https://vendor.example/node_20.x nodistro main",
            "deb https://mirror.example/debian-security bookworm-security main",
            "deb https://mirror.example/debian-security bookworm main",
        ]
        .iter()
        .filter_map(|line| parse_line(line))
        .collect();
        assert_eq!(debian_mirror(&sources), None);
        sources.extend(parse_deb822(DEB822));
        assert_eq!(debian_mirror(&sources).unwrap().uri, "https://mirror.example/debian");
    }
}
