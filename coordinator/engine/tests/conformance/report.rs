use std::collections::BTreeMap;
use std::fmt;

/// How a file's cases came out.
pub(crate) struct Report {
    name: String,
    passed: usize,
    differences: Vec<String>,
    failed: usize,
    apart: BTreeMap<String, usize>,
}

impl Report {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            passed: 0,
            differences: Vec::new(),
            failed: 0,
            apart: BTreeMap::new(),
        }
    }

    pub(crate) fn pass(&mut self) {
        self.passed += 1;
    }

    /// Counts a case apart under `tag`.
    pub(crate) fn apart(&mut self, tag: &str) {
        *self.apart.entry(tag.to_owned()).or_default() += 1;
    }

    /// Notes a difference with both answers.
    pub(crate) fn differ(&mut self, case: &str, found: &str, expected: &str) {
        self.failed += 1;
        if self.differences.len() < 10 {
            self.differences.push(format!(
                "  {case}\n    here:     {found}\n    upstream: {expected}"
            ));
        }
    }

    pub(crate) fn cases(&self) -> usize {
        self.passed + self.failed + self.apart.values().sum::<usize>()
    }

    pub(crate) fn failed(&self) -> usize {
        self.failed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: passed {} of {}",
            self.name,
            self.passed,
            self.passed + self.failed
        )?;
        if !self.apart.is_empty() {
            let each = self
                .apart
                .iter()
                .map(|(tag, count)| format!("{tag} {count}"));
            let all: usize = self.apart.values().sum();
            write!(f, ", {all} apart ({})", each.collect::<Vec<_>>().join(", "))?;
        }
        for difference in &self.differences {
            write!(f, "\n{difference}")?;
        }
        Ok(())
    }
}
