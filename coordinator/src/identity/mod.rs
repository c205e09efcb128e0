//! Who is who: Neap's own certificate authority and the certificates made from it, or those that
//! someone else makes, TLS settings that follow renewals while connections stay, and the tokens by
//! which agents prove their node.
//!
//! Everything a private key or a token is in stays out of logs and of `Debug`.

mod authority;
mod authority_store;
mod bundle;
mod caller;
mod credentials;
mod files;
mod jwks;
mod listener;
mod local;
mod others;
mod process;
mod renewal;
mod review;
#[cfg(test)]
pub(crate) mod testing;
mod token;

pub use authority::{Authority, AuthorityError, CertificateKind, LeafCertificate};
pub use authority_store::{AuthorityState, StoreError};
pub use caller::{Caller, CallerError};
pub use credentials::Credentials;
pub use jwks::{KeyError, SigningKeys};
pub use listener::{ConnectionLimits, TlsIncoming};
pub use local::LocalCredentials;
pub use process::{Identity, IdentityConfig, IdentityError};
pub use renewal::Expiry;
pub use review::{ReviewOutcome, Reviewer};
pub use token::{Claims, TokenError, TokenPolicy};
