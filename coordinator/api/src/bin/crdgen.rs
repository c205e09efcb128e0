//! Writes the definitions of the custom resources into the chart.
//!
//! `cargo run -p neap-api --bin crdgen [DIRECTORY]`; by default the chart's directory of the checkout that cargo runs it for.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = match std::env::args_os().nth(1) {
        Some(named) => PathBuf::from(named),
        None => PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("name a directory")?)
            .join("../../charts/neap/charts/neap-crds/crds"),
    };
    std::fs::create_dir_all(&directory)?;
    for file in neap_api::crd::files()? {
        let path = directory.join(&file.name);
        std::fs::write(&path, &file.yaml)?;
        println!("{} {} bytes", path.display(), file.yaml.len());
    }
    Ok(())
}
