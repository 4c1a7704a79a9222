//! Where downloaded parts and logs are kept: outside the checkout, so that `cargo clean` does not cost a download.

use std::path::PathBuf;

use anyhow::{Result, anyhow};

/// `$XENSTORE_TEST_CACHE`, else `$XDG_CACHE_HOME/xenstore-stubdom`, else `~/.cache/xenstore-stubdom`.
pub fn folder() -> Result<PathBuf> {
    choose(|name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    })
    .ok_or_else(|| anyhow!("no cache folder: set XENSTORE_TEST_CACHE, XDG_CACHE_HOME or HOME"))
}

fn choose(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("XENSTORE_TEST_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|base| base.join("xenstore-stubdom")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/xenstore-stubdom")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_variable_wins_over_the_general_ones() {
        let folder = choose(|name| match name {
            "XENSTORE_TEST_CACHE" => Some("/own".into()),
            "XDG_CACHE_HOME" => Some("/xdg".into()),
            _ => Some("/home/me".into()),
        });
        assert_eq!(folder, Some("/own".into()));
    }

    #[test]
    fn home_is_the_last_resort() {
        let folder = choose(|name| (name == "HOME").then(|| "/home/me".into()));
        assert_eq!(folder, Some("/home/me/.cache/xenstore-stubdom".into()));
        assert_eq!(choose(|_| None), None);
    }
}
