//! `-o`: the forms that machines read.

use std::io::Write;

use clap::ValueEnum;
use serde::Serialize;

use crate::error::CliError;

/// `-o json` and `-o yaml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Structured {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Writes `value` in the form asked for.
pub(crate) fn write(
    value: &impl Serialize,
    form: Structured,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let text = match form {
        Structured::Json => serde_json::to_string_pretty(value)
            .map(|text| text + "\n")
            .map_err(|e| e.to_string()),
        Structured::Yaml => serde_saphyr::to_string(value).map_err(|e| e.to_string()),
    };
    let text =
        text.map_err(|error| CliError::client(format!("the answer cannot be written: {error}")))?;
    out.write_all(text.as_bytes())?;
    Ok(())
}
