//! Writes the definitions of the custom resources into the chart.
//!
//! `cargo run -p neap-api --bin crdgen [DIRECTORY]`; by default the chart's own directory.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(
        || {
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../../charts/neap/charts/neap-crds/crds")
        },
        PathBuf::from,
    );
    std::fs::create_dir_all(&directory)?;
    for file in neap_api::crd::files()? {
        let path = directory.join(&file.name);
        std::fs::write(&path, &file.yaml)?;
        println!("{} {} bytes", path.display(), file.yaml.len());
    }
    Ok(())
}
