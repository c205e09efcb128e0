//! `--load`: where the load comes from.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use super::csv::parse_csv;
use super::generate::generate;
use super::series::{Column, Load};
use crate::error::CliError;

/// One `--load`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoadSource {
    /// A CSV file; `-` is standard input.
    File(PathBuf),
    /// `generate:SHAPE`.
    Generated(String),
    /// `prometheus` or `prometheus:ADDRESS`.
    Prometheus(PrometheusSource),
}

/// A server to be asked; `None`: the one that the trigger names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PrometheusSource {
    pub(crate) address: Option<String>,
}

impl std::str::FromStr for LoadSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it must be a CSV file, generate:SHAPE or prometheus[:ADDRESS]".to_owned());
        }
        if let Some(shape) = text.strip_prefix("generate:") {
            // Tried at once, so that a typing error is one of the command line.
            generate(shape).map_err(|error| error.to_string())?;
            return Ok(Self::Generated(shape.to_owned()));
        }
        if text == "prometheus" {
            return Ok(Self::Prometheus(PrometheusSource { address: None }));
        }
        if let Some(address) = text.strip_prefix("prometheus:") {
            return Ok(Self::Prometheus(PrometheusSource {
                address: Some(address.to_owned()),
            }));
        }
        Ok(Self::File(PathBuf::from(text)))
    }
}

impl LoadSource {
    /// The load, where it needs no server.
    pub(crate) fn read(&self) -> Result<Option<Load>, CliError> {
        let load = match self {
            Self::Prometheus(_) => return Ok(None),
            Self::Generated(shape) => generate(shape).map_err(|error| error.to_string()),
            Self::File(path) if path.as_os_str() == "-" => {
                parse_csv("standard input", std::io::stdin().lock())
                    .map_err(|error| error.to_string())
            }
            Self::File(path) => {
                let name = path.display().to_string();
                let file = File::open(path).map_err(|error| {
                    CliError::client(format!("{name}: cannot be read: {error}"))
                })?;
                parse_csv(&name, BufReader::new(file)).map_err(|error| error.to_string())
            }
        };
        load.map(Some).map_err(CliError::Client)
    }
}

/// Puts loads together. A load with times from 0 runs beside one with dates from its start on.
pub(crate) fn merge(loads: Vec<Load>) -> Result<Load, CliError> {
    let calendar = loads.iter().find(|load| load.calendar).map(Load::start);
    let mut columns: Vec<Column> = Vec::new();
    for load in loads {
        let shift = calendar.filter(|_| !load.calendar);
        for mut column in load.columns {
            if columns.iter().any(|other| other.name == column.name) {
                let fault = format!(
                    "--load: two columns are named {:?}; give each its own name (in generate: with name=NAME)",
                    column.name
                );
                return Err(CliError::Client(fault));
            }
            if let Some(start) = shift {
                column.series = column.series.starting_at(start);
            }
            columns.push(column);
        }
    }
    Ok(Load {
        columns,
        calendar: calendar.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let parse = |text: &str| text.parse::<LoadSource>();
        assert_eq!(parse("a.csv"), Ok(LoadSource::File("a.csv".into())));
        let address = Some("http://p:9090".to_owned());
        assert_eq!(
            parse("prometheus:http://p:9090"),
            Ok(LoadSource::Prometheus(PrometheusSource { address }))
        );
        assert_eq!(
            parse("prometheus"),
            Ok(LoadSource::Prometheus(PrometheusSource { address: None }))
        );
        assert!(
            parse("generate:wave")
                .unwrap_err()
                .contains("\"wave\" is no shape")
        );
    }

    #[test]
    fn loads_run_beside_each_other() {
        let dated = parse_csv("a", &b"time,queue\n2026-11-01T00:00:00Z,1\n"[..]).unwrap();
        let made = generate("constant,value=1,for=1m,name=cpu").unwrap();
        let load = merge(vec![made.clone(), dated.clone()]).unwrap();
        assert!(load.calendar);
        assert_eq!(load.columns[0].series.start(), dated.start());
        let fault = merge(vec![made.clone(), made]).unwrap_err().to_string();
        assert!(fault.contains("two columns are named \"cpu\""), "{fault}");
    }
}
