//! HTTP for triggers: shared clients, authentication modes, bounded answers.

mod auth;
mod clients;
mod fetch;
mod oauth;

pub(crate) use auth::{AUTH_FIELDS, HttpAuth, header_name, secret_value};
pub(crate) use clients::{HttpClients, TlsOptions};
pub(crate) use fetch::{FetchLimits, fetch};
pub(crate) use oauth::ClientCredentials;
