//! Which `neap up` runs on this machine: each notes its folder and its address where the other commands
//! find it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// A running `neap up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Its process.
    pub(crate) pid: u32,
    /// The folder it runs.
    pub(crate) folder: PathBuf,
    /// Its HTTP API.
    pub(crate) http: String,
}

/// Takes the note away when it is dropped.
#[derive(Debug)]
pub(crate) struct Noted(PathBuf);

impl Drop for Noted {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The user's own folder for such notes.
fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        Some(path) => Path::new(&path).join("neap"),
        None => {
            let user = rustix::process::getuid().as_raw();
            std::env::temp_dir().join(format!("neap-{user}"))
        }
    }
}

/// Notes that this process runs `folder`.
///
/// # Errors
/// The folder for notes cannot be made, or is another user's.
pub(crate) fn note(running: &Running) -> io::Result<Noted> {
    let notes = folder();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&notes)?;
    if fs::metadata(&notes)?.uid() != rustix::process::getuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is another user's", notes.display()),
        ));
    }
    let file = notes.join(format!("{}.json", running.pid));
    fs::write(&file, serde_json::to_vec(running)?)?;
    Ok(Noted(file))
}

/// All that run. What a killed one left is passed over.
fn all() -> Vec<Running> {
    let own = rustix::process::getuid().as_raw();
    let notes = fs::read_dir(folder()).into_iter().flatten().flatten();
    notes
        .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.uid() == own))
        .filter_map(|entry| fs::read(entry.path()).ok())
        .filter_map(|bytes| serde_json::from_slice::<Running>(&bytes).ok())
        .filter(|running| Path::new(&format!("/proc/{}", running.pid)).exists())
        .collect()
}

/// The one that runs `wanted`, or without it the only one.
///
/// # Errors
/// There is none, or there are several to choose from.
pub(crate) fn find(wanted: Option<&Path>) -> Result<Running, CliError> {
    choose(all(), wanted)
}

fn choose(mut all: Vec<Running>, wanted: Option<&Path>) -> Result<Running, CliError> {
    if let Some(wanted) = wanted {
        let path = fs::canonicalize(wanted).unwrap_or_else(|_| wanted.to_owned());
        all.retain(|running| running.folder == path);
    }
    match (&all[..], wanted) {
        ([one], _) => Ok(one.clone()),
        ([], Some(wanted)) => Err(CliError::client(format!(
            "no neap up runs {0} on this machine; start it with: neap up {0}",
            wanted.display()
        ))),
        ([], None) => Err(CliError::client(
            "no neap up runs on this machine; start one with: neap up DIR",
        )),
        (several, _) => {
            let folders: Vec<String> = several
                .iter()
                .map(|running| format!("--local={}", running.folder.display()))
                .collect();
            Err(CliError::client(format!(
                "several neap up run on this machine; name one: {}",
                folders.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_found_and_of_several_one_must_be_named() {
        let running = |pid, folder: &str| Running {
            pid,
            folder: folder.into(),
            http: "http://127.0.0.1:1".to_owned(),
        };
        let (a, b) = (running(1, "/no/a"), running(2, "/no/b"));
        assert_eq!(choose(vec![a.clone()], None).unwrap(), a);
        let both = || vec![a.clone(), b.clone()];
        assert_eq!(choose(both(), Some(Path::new("/no/b"))).unwrap(), b);
        let error = choose(both(), None).unwrap_err().to_string();
        assert!(error.contains("--local=/no/a, --local=/no/b"), "{error}");
        let error = choose(both(), Some(Path::new("/no/c")))
            .unwrap_err()
            .to_string();
        assert!(error.contains("neap up /no/c"), "{error}");
        assert!(
            choose(vec![], None)
                .unwrap_err()
                .to_string()
                .contains("neap up DIR")
        );
    }
}
