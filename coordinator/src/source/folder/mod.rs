//! Objects from a folder of manifests: the files of `neap up`.
//!
//! The folder itself is read, not those below it: `*.yaml`, `*.yml` and `*.json`. A file that changes is
//! read anew; what of it cannot be understood is reported with file, line and field, and the last good
//! object stays.

pub mod manifest;

mod object;
mod read;
mod source;

pub use read::FolderError;
pub use source::FolderSource;
