//! Queries that give one number.

use futures::TryStreamExt;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Executor, Row, ValueRef};

use crate::error::PollError;

/// The first column of the first row of `query`, in MySQL's text protocol, as Go's
/// `QueryRow(..).Scan(&float64)` reads it.
pub(crate) async fn mysql_number(
    connection: &mut MySqlConnection,
    query: &str,
) -> Result<f64, sqlx::Error> {
    let mut rows = connection.fetch(sqlx::raw_sql(sqlx::AssertSqlSafe(query)));
    let row: MySqlRow = rows.try_next().await?.ok_or(sqlx::Error::RowNotFound)?;
    drop(rows);
    first_column(
        row.is_empty(),
        || Ok(row.try_get_raw(0)?.is_null()),
        || row.try_get_unchecked(0),
    )
}

/// The same of PostgreSQL, by its simple query protocol.
pub(crate) async fn postgres_number(
    connection: &mut PgConnection,
    query: &str,
) -> Result<f64, sqlx::Error> {
    let mut rows = connection.fetch(sqlx::raw_sql(sqlx::AssertSqlSafe(query)));
    let row: PgRow = rows.try_next().await?.ok_or(sqlx::Error::RowNotFound)?;
    drop(rows);
    first_column(
        row.is_empty(),
        || Ok(row.try_get_raw(0)?.is_null()),
        || row.try_get_unchecked(0),
    )
}

fn first_column<'r>(
    empty: bool,
    null: impl FnOnce() -> Result<bool, sqlx::Error>,
    text: impl FnOnce() -> Result<&'r str, sqlx::Error>,
) -> Result<f64, sqlx::Error> {
    if empty {
        return Err(decode("it has no columns"));
    }
    if null()? {
        return Err(decode("its first column is NULL"));
    }
    text_number(text()?)
}

/// A text as `strconv.ParseFloat` reads it, but for hexadecimal numbers.
fn text_number(text: &str) -> Result<f64, sqlx::Error> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        decode(&format!("its first column is not a number: {shown:?}"))
    })
}

fn decode(reason: &str) -> sqlx::Error {
    sqlx::Error::Decode(reason.into())
}

/// What an error of sqlx means for a poll.
pub(crate) fn number_error(source_name: &'static str, error: &sqlx::Error) -> PollError {
    match error {
        sqlx::Error::RowNotFound => PollError::Answer {
            source_name,
            reason: "it has no rows".to_owned(),
        },
        sqlx::Error::Decode(reason) => PollError::Answer {
            source_name,
            reason: reason.to_string(),
        },
        sqlx::Error::Database(error) => PollError::Refused {
            source_name,
            reason: error.to_string(),
        },
        error => PollError::Unreachable {
            source_name,
            reason: error.to_string(),
        },
    }
}
