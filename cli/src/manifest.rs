//! Manifests from files: YAML or JSON, several documents in one file.

use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A file with more than this is refused.
const MAX_BYTES: u64 = 16 << 20;

/// One document of a file.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The file, for messages.
    pub(crate) file: String,
    /// The line on which the document starts, from 1.
    line: usize,
    text: String,
    /// What it says it is.
    pub(crate) head: Head,
}

/// What every object carries.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    /// `apiVersion`.
    #[serde(default)]
    pub(crate) api_version: String,
    /// `kind`.
    #[serde(default)]
    pub(crate) kind: String,
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
    pub(crate) fn name(&self) -> &str {
        &self.metadata.name
    }

    /// `metadata.namespace`.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.metadata.namespace.as_deref()
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestError {
    file: String,
    line: Option<usize>,
    message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// Reads the documents of `path`; `-` is standard input.
///
/// # Errors
/// The file cannot be read, or a document is no YAML.
pub(crate) fn read(path: &Path) -> Result<Vec<Document>, ManifestError> {
    let file = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let fault = |message: String| ManifestError {
        file: file.clone(),
        line: None,
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
pub(crate) fn split(file: &str, text: &str) -> Result<Vec<Document>, ManifestError> {
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
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        parse(&self.file, self.line, &self.text)
    }

    /// A fault of this document as a whole.
    pub(crate) fn fault(&self, message: impl Into<String>) -> ManifestError {
        ManifestError {
            file: self.file.clone(),
            line: Some(self.line),
            message: message.into(),
        }
    }

    /// Whether it is a `kind` of the API group `group`, in any version.
    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        let of = self
            .head
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        self.head.kind == kind && of == group
    }
}

fn parse<T: DeserializeOwned>(file: &str, line: usize, text: &str) -> Result<T, ManifestError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error
            .location()
            .map(|at| line + (at.line() as usize).saturating_sub(1));
        ManifestError {
            file: file.to_owned(),
            line: Some(at.unwrap_or(line)),
            message: error.to_string(),
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
    fn a_fault_names_file_and_line() {
        let documents = split("a.yaml", TWO).unwrap();
        let error = documents[1]
            .parse::<ScaledObject>()
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("a.yaml:14: "), "{error}");
        let error = split("b.yaml", "a: 1\n---\nb: [1\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("b.yaml:"), "{error}");
    }
}
