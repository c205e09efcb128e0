//! The TLS provider of a load program.

use anyhow::{Result, bail};

/// Chooses the TLS provider of this process, before anything asks for one.
///
/// # Errors
/// When one was chosen before.
pub fn install_tls_provider() -> Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    if provider.install_default().is_err() {
        bail!("a TLS provider is installed already");
    }
    Ok(())
}
