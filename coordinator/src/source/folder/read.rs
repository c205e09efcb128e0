//! Reading the folder: which files changed, and what is in them now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::manifest::{self, Document};
use super::object::{Head, Manifest, ObjectId, head, object};
use crate::local::{Fault, Place};

/// Files that are read at most; a folder with more is not one of manifests.
const MAX_FILES: usize = 1_000;

/// Why the folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is not there, or may not be listed.
    #[error("cannot read the folder {folder}: {source}", folder = folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds no manifests.
    #[error("{folder} holds no manifests: files that end in .yaml, .yml or .json", folder = folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// It holds far too many files.
    #[error("{folder} holds more than {MAX_FILES} manifests", folder = folder.display())]
    TooMany {
        /// The folder.
        folder: PathBuf,
    },
}

/// What tells that a file changed.
type Print = (Option<SystemTime>, u64);

/// One file as last read.
#[derive(Debug, Default)]
struct FileSeen {
    print: Option<Print>,
    /// The objects in force that stand in it.
    objects: BTreeSet<ObjectId>,
    /// Subjects of the faults that were found in it.
    faults: BTreeSet<String>,
}

/// One look's outcome, in the order in which it is to be applied.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) applied: BTreeMap<ObjectId, (Manifest, Place)>,
    pub(super) removed: BTreeSet<ObjectId>,
    pub(super) faults: Vec<(Option<ObjectId>, Fault)>,
    /// Subjects that are in order (again).
    pub(super) mended: BTreeSet<String>,
}

/// The folder as last read.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    files: BTreeMap<PathBuf, FileSeen>,
}

impl Folder {
    /// A folder that has not been read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: BTreeMap::new(),
        }
    }

    /// Reads what changed since the last look.
    pub(super) fn look(&mut self) -> Result<Changed, FolderError> {
        let found = list(&self.path)?;
        let mut changed = Changed::default();
        let gone: Vec<PathBuf> = self
            .files
            .keys()
            .filter(|file| !found.contains_key(*file))
            .cloned()
            .collect();
        for file in gone {
            let seen = self.files.remove(&file).unwrap_or_default();
            changed.removed.extend(seen.objects);
            changed.mended.extend(seen.faults);
        }
        for (file, print) in found {
            let known = self.files.get(&file);
            if known.is_some_and(|known| known.print == Some(print)) {
                continue;
            }
            let former = self.files.remove(&file).unwrap_or_default();
            let seen = self.read(&file, print, former, &mut changed);
            self.files.insert(file, seen);
        }
        // What moved from one file to another is there.
        let applied: Vec<ObjectId> = changed.applied.keys().cloned().collect();
        for id in applied {
            changed.removed.remove(&id);
        }
        let said: Vec<String> = changed
            .faults
            .iter()
            .map(|(_, fault)| fault.subject.clone())
            .collect();
        for subject in said {
            changed.mended.remove(&subject);
        }
        Ok(changed)
    }

    fn read(&self, file: &Path, print: Print, former: FileSeen, changed: &mut Changed) -> FileSeen {
        let mut seen = FileSeen {
            print: Some(print),
            ..FileSeen::default()
        };
        changed.mended.extend(former.faults);
        let documents = match manifest::read(file) {
            Ok(documents) => documents,
            Err(error) => {
                let subject = format!("file {}", file.display());
                seen.faults.insert(subject.clone());
                changed.faults.push((
                    None,
                    Fault {
                        subject,
                        place: Place {
                            file: error.file,
                            line: error.line,
                        },
                        field: error.field,
                        message: error.message,
                        advice: "correct it; what stood in the file before stays in force"
                            .to_owned(),
                    },
                ));
                seen.objects = former.objects;
                return seen;
            }
        };
        let mut lost = false;
        for document in &documents {
            let id = match head(document) {
                Head::Known(id) => id,
                Head::Other(fault) => {
                    lost |= fault.field.as_deref() != Some("kind");
                    seen.faults.insert(fault.subject.clone());
                    changed.faults.push((None, fault));
                    continue;
                }
            };
            match self.read_one(document, &id, &seen) {
                Ok(object) => {
                    let place = super::object::place(document, document.line());
                    seen.objects.insert(id.clone());
                    changed.applied.insert(id, (object, place));
                }
                Err(fault) => {
                    if former.objects.contains(&id) {
                        seen.objects.insert(id.clone());
                    }
                    seen.faults.insert(fault.subject.clone());
                    changed.faults.push((Some(id), *fault));
                }
            }
        }
        for id in former.objects {
            if seen.objects.contains(&id) {
                continue;
            }
            // A document whose name cannot be told may be this one.
            if lost {
                seen.objects.insert(id);
            } else {
                changed.removed.insert(id);
            }
        }
        seen
    }

    fn read_one(
        &self,
        document: &Document,
        id: &ObjectId,
        seen: &FileSeen,
    ) -> Result<Manifest, Box<Fault>> {
        let other = self
            .files
            .iter()
            .find(|(_, known)| known.objects.contains(id))
            .map(|(file, _)| file.display().to_string());
        let twice = seen.objects.contains(id).then(|| document.file.clone());
        if let Some(other) = other.or(twice) {
            return Err(Box::new(Fault {
                subject: format!("{id} (the second)"),
                place: super::object::place(document, document.line()),
                field: Some("metadata.name".to_owned()),
                message: format!("{id} stands in {other} already"),
                advice: "remove or rename one of them; the first counts".to_owned(),
            }));
        }
        object(document, id, &self.path)
    }
}

fn list(folder: &Path) -> Result<BTreeMap<PathBuf, Print>, FolderError> {
    let unreadable = |source| FolderError::Unreadable {
        folder: folder.to_owned(),
        source,
    };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let hidden = name.is_none_or(|name| name.starts_with('.'));
        let ends = path.extension().and_then(|ends| ends.to_str());
        if hidden || !matches!(ends, Some("yaml" | "yml" | "json")) {
            continue;
        }
        // A file that went since is gone.
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        if metadata.is_file() {
            found.insert(path, (metadata.modified().ok(), metadata.len()));
        }
        if found.len() > MAX_FILES {
            return Err(FolderError::TooMany {
                folder: folder.to_owned(),
            });
        }
    }
    if found.is_empty() {
        return Err(FolderError::Empty {
            folder: folder.to_owned(),
        });
    }
    Ok(found)
}

#[cfg(test)]
#[path = "read_test.rs"]
mod tests;
