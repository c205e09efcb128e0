//! A worker of a spool directory.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

const LOOK_EACH: Duration = Duration::from_millis(50);

/// Works until it is killed. A file belongs to the worker that could rename it.
pub(super) fn run(spool: &Path, service_ms: u64) -> io::Result<()> {
    let taken = spool.with_extension("taken");
    fs::create_dir_all(spool)?;
    fs::create_dir_all(&taken)?;
    let own = format!("{}", std::process::id());
    loop {
        let mut found = false;
        for entry in fs::read_dir(spool)? {
            let entry = entry?;
            let mine = taken.join(format!("{own}-{}", entry.file_name().to_string_lossy()));
            // Fails when another worker was first.
            if fs::rename(entry.path(), &mine).is_ok() {
                found = true;
                std::thread::sleep(Duration::from_millis(service_ms));
                fs::remove_file(&mine)?;
            }
        }
        if !found {
            std::thread::sleep(LOOK_EACH);
        }
    }
}
