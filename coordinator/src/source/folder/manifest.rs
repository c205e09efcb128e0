//! Manifests from files: YAML or JSON, several documents in one file.
//!
//! `neap simulate` and `neap up` read them alike.

use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A file with more than this is refused.
const MAX_BYTES: u64 = 16 << 20;

/// One document of a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file, for messages.
    pub file: String,
    /// The line on which the document starts, from 1.
    line: usize,
    text: String,
    /// What it says it is.
    pub head: Head,
}

/// What every object carries.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// `apiVersion`.
    #[serde(default)]
    pub api_version: String,
    /// `kind`.
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    metadata: HeadMetadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct HeadMetadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}

impl Head {
    /// `metadata.name`; empty if there is none.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> Option<&str> {
        self.metadata.namespace.as_deref()
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The key of the entry that the line has.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl std::error::Error for ManifestError {}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Reads the documents of `path`; `-` is standard input.
///
/// # Errors
/// The file cannot be read, or a document is no YAML.
pub fn read(path: &Path) -> Result<Vec<Document>, ManifestError> {
    let file = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let fault = |message: String| ManifestError {
        file: file.clone(),
        line: None,
        field: None,
        message,
    };
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|open| open.take(MAX_BYTES + 1).read_to_string(&mut text))
    };
    read.map_err(|error| fault(format!("cannot be read: {error}")))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(fault(format!("is larger than {} MiB", MAX_BYTES >> 20)));
    }
    split(&file, &text)
}

/// Takes the documents of `text` apart.
pub fn split(file: &str, text: &str) -> Result<Vec<Document>, ManifestError> {
    let mut documents = Vec::new();
    let mut start = 1;
    let mut lines = String::new();
    let mut push = |line: usize, text: &str| -> Result<(), ManifestError> {
        let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        if text.lines().all(blank) {
            return Ok(());
        }
        let head = parse(file, line, text)?;
        documents.push(Document {
            file: file.to_owned(),
            line,
            text: text.to_owned(),
            head,
        });
        Ok(())
    };
    for (at, line) in text.lines().enumerate() {
        // A line that starts a document does so even inside a scalar.
        if line == "---" || line.starts_with("--- ") {
            push(start, &lines)?;
            lines.clear();
            start = at + 2;
        } else {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    push(start, &lines)?;
    Ok(documents)
}

impl Document {
    /// The document as a `T`.
    ///
    /// # Errors
    /// Names file, line and field.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        parse(&self.file, self.line, &self.text)
    }

    /// A fault of this document as a whole.
    pub fn fault(&self, message: impl Into<String>) -> ManifestError {
        ManifestError {
            file: self.file.clone(),
            line: Some(self.line),
            field: None,
            message: message.into(),
        }
    }

    /// The line on which the document starts, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The line of `field` (`spec.ports[0].port`), as far as the words of its path are found one below
    /// the other; else that of the document. Of a list it is the first entry that has the field.
    pub fn line_of(&self, field: &str) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let (mut at, mut within) = (0, 0..lines.len());
        for word in field.split('.') {
            let word = word.split('[').next().unwrap_or(word);
            let inside = lines.get(within.clone()).unwrap_or_default();
            let Some(found) = inside.iter().position(|line| is_entry(line, word)) else {
                break;
            };
            at = within.start + found;
            let depth = key_column(lines.get(at).copied().unwrap_or_default());
            let below = lines.get(at + 1..).unwrap_or_default();
            let ends = below.iter().position(|line| is_outside(line, depth));
            within = at + 1..ends.map_or(lines.len(), |ends| at + 1 + ends);
        }
        self.line + at
    }

    /// Whether it is a `kind` of the API group `group`, in any version.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        let of = self
            .head
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        self.head.kind == kind && of == group
    }
}

/// The column of a line's key, after the dash of a list.
fn key_column(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-']).len()
}

/// Whether a line no longer belongs to the value of a key at column `depth`. A list may stand at the
/// column of its key.
fn is_outside(line: &str, depth: usize) -> bool {
    let text = line.trim_start();
    let column = line.len() - text.len();
    let says_nothing = text.is_empty() || text.starts_with('#');
    !says_nothing && (column < depth || (column == depth && !text.starts_with("- ")))
}

/// Whether a line of YAML or JSON is the entry of `key`.
fn is_entry(line: &str, key: &str) -> bool {
    let line = line.trim_start().trim_start_matches("- ").trim_start();
    let line = line.trim_start_matches(['"', '{']);
    line.strip_prefix(key)
        .is_some_and(|rest| rest.trim_start_matches('"').trim_start().starts_with(':'))
}

fn parse<T: DeserializeOwned>(file: &str, line: usize, text: &str) -> Result<T, ManifestError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let within = error.location().map(|at| at.line() as usize);
        let said = error.to_string();
        // Its own line counts from the document's beginning, and stands in the place already.
        let message = said.split(" at line ").next().unwrap_or(&said).to_owned();
        let field = within.and_then(|at| {
            let entry = text.lines().nth(at.checked_sub(1)?)?;
            let (key, _) = entry.trim_start_matches([' ', '-', '"']).split_once(':')?;
            Some(key.trim_end_matches('"').to_owned())
        });
        ManifestError {
            file: file.to_owned(),
            line: Some(within.map_or(line, |at| line + at.saturating_sub(1))),
            field,
            message,
        }
    })
}

#[cfg(test)]
mod tests {
    use neap_api::ScaledObject;

    use super::*;

    const TWO: &str = "# first\n---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n---\napiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata:\n  name: a\nspec:\n  scaleTargetRef: {name: web}\n  minReplicaCount: few\n  triggers: []\n";

    #[test]
    fn documents_are_told_apart() {
        let documents = split("a.yaml", TWO).unwrap();
        let kinds: Vec<&str> = documents.iter().map(|d| d.head.kind.as_str()).collect();
        assert_eq!(kinds, ["Secret", "ScaledObject"]);
        assert!(documents[1].is("keda.sh", "ScaledObject"));
        assert!(!documents[0].is("keda.sh", "Secret"));
        assert_eq!(documents[1].head.name(), "a");
    }

    #[test]
    fn the_line_of_a_field_is_found() {
        let documents = split("a.yaml", TWO).unwrap();
        assert_eq!(documents[1].line_of("spec.minReplicaCount"), 14);
        assert_eq!(documents[1].line_of("spec.scaleTargetRef"), 13);
        assert_eq!(documents[1].line_of("spec.nothing"), 12);
    }

    #[test]
    fn a_fault_names_file_and_line() {
        let documents = split("a.yaml", TWO).unwrap();
        let error = documents[1]
            .parse::<ScaledObject>()
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("a.yaml:14: minReplicaCount: "), "{error}");
        assert!(!error.contains(" at line "), "{error}");
        let error = split("b.yaml", "a: 1\n---\nb: [1\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("b.yaml:"), "{error}");
    }
}
