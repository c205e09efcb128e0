//! Which objects: one, some, those of a namespace, or all.

use clap::Args;
use neap_triggers::LabelSelector;

use crate::answers::Target;
use crate::error::CliError;

/// `-A` and `-l`, as kubectl's.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ScopeFlags {
    /// All namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,

    /// Only objects with these labels, such as app=web,tier!=cache
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
}

/// Where to look, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The namespace; `None` for all.
    pub(crate) namespace: Option<String>,
    /// The names; empty for all.
    pub(crate) names: Vec<String>,
    /// The label selector.
    pub(crate) selector: Option<String>,
}

impl Scope {
    /// Reads `NAME`, `scaledobject/NAME` and `scaledobject NAME`, as kubectl does.
    ///
    /// # Errors
    /// The kind is another, or the arguments contradict each other.
    pub(crate) fn new(
        words: &[String],
        namespace: Option<String>,
        flags: &ScopeFlags,
    ) -> Result<Self, CliError> {
        let names = names(words)?;
        if !names.is_empty() && flags.all_namespaces {
            return Err(CliError::client(
                "a resource cannot be retrieved by name across all namespaces",
            ));
        }
        if !names.is_empty() && flags.selector.is_some() {
            return Err(CliError::client(
                "name cannot be provided when a selector is specified",
            ));
        }
        Ok(Self {
            namespace: namespace.filter(|_| !flags.all_namespaces),
            names,
            selector: flags
                .selector
                .clone()
                .filter(|selector| !selector.is_empty()),
        })
    }

    /// Reads the label selector.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn labels(&self) -> Result<Option<LabelSelector>, CliError> {
        let selector = self.selector.as_deref().map(LabelSelector::parse);
        selector
            .transpose()
            .map_err(|error| CliError::client(format!("--selector: {error}")))
    }

    /// Whether a target of the coordinator's list is meant; `labels` is what [`Self::labels`] gave.
    pub(crate) fn shows(&self, target: &Target, labels: Option<&LabelSelector>) -> bool {
        let namespace = self.namespace.as_ref();
        let here = namespace.is_none_or(|namespace| *namespace == target.namespace);
        let named = self.names.is_empty() || self.names.contains(&target.name);
        let label = |key: &str| target.labels.get(key).map(String::as_str);
        here && named && labels.is_none_or(|selector| selector.matches(label))
    }

    /// Fails where a name is not among `found`.
    ///
    /// # Errors
    /// kubectl's, for the first name that is missing.
    pub(crate) fn all_found<'a>(
        &self,
        found: impl Iterator<Item = &'a Target> + Clone,
    ) -> Result<(), CliError> {
        let known = |name: &String| found.clone().any(|target| target.name == *name);
        match self.names.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(missing) => Err(CliError::Server {
                reason: "NotFound".to_owned(),
                message: format!("scaledobjects.keda.sh \"{missing}\" not found"),
            }),
        }
    }

    /// What to say where nothing was found, as kubectl says it.
    pub(crate) fn nothing(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("No resources found in {namespace} namespace."),
            None => "No resources found".to_owned(),
        }
    }
}

/// The names that `words` mean.
pub(crate) fn names(words: &[String]) -> Result<Vec<String>, CliError> {
    let kind = |kind: &str| {
        let kind = kind
            .split('.')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        matches!(kind.as_str(), "so" | "scaledobject" | "scaledobjects")
    };
    if let Some((first, rest)) = words.split_first()
        && kind(first)
        && !first.contains('/')
    {
        return Ok(rest.to_vec());
    }
    let name = |word: &String| match word.split_once('/') {
        None => Ok(word.clone()),
        Some((of, name)) if kind(of) && !name.is_empty() => Ok(name.to_owned()),
        Some((of, _)) => Err(CliError::client(format!(
            "{word:?}: the server doesn't have a resource type {of:?} that Neap scales; use scaledobject/NAME"
        ))),
    };
    words.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn names_are_read_as_kubectl_reads_them() {
        for given in [
            &["web"][..],
            &["so/web"],
            &["scaledobject/web"],
            &["scaledobject", "web"],
            &["scaledobjects.keda.sh/web"],
        ] {
            assert_eq!(names(&words(given)).unwrap(), ["web"], "{given:?}");
        }
        assert_eq!(names(&words(&["so", "a", "b"])).unwrap(), ["a", "b"]);
        assert!(names(&words(&["so"])).unwrap().is_empty());
        let fault = names(&words(&["deployment/web"])).unwrap_err().to_string();
        assert!(
            fault.contains("\"deployment\"") && fault.contains("scaledobject/NAME"),
            "{fault}"
        );
    }

    #[test]
    fn contradictions_are_refused() {
        let all = ScopeFlags {
            all_namespaces: true,
            selector: None,
        };
        assert!(Scope::new(&words(&["a"]), None, &all).is_err());
        let some = ScopeFlags {
            all_namespaces: false,
            selector: Some("a=b".to_owned()),
        };
        assert!(Scope::new(&words(&["a"]), None, &some).is_err());
        let everywhere = Scope::new(&[], Some("shop".to_owned()), &all).unwrap();
        assert_eq!(everywhere.namespace, None);
    }
}
