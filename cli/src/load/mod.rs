//! The load that a simulation runs under: one series of numbers per column, each holding until the
//! next.

mod csv;
mod generate;
mod prometheus;
mod series;
mod source;

pub use csv::{CsvError, parse_csv};
pub use generate::{GenerateError, generate};
pub use prometheus::{
    MAX_POINTS_PER_QUERY, PrometheusError, RangeQuery, chunks, fetch as fetch_prometheus,
};
pub use series::{Column, Load, Point, Series, SeriesError};
pub(crate) use source::{LoadSource, merge};
