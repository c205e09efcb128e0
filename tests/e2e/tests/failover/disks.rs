//! Disks that stall and disks that are full. The coordinators keep their logs on file systems of their
//! own (`tests/bed/disks`).

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use neap_e2e::{Bed, COORDINATOR, Coordinator};

use crate::targets::{COORDINATORS, MINUTE, SECOND, TARGETS, Targets};

/// The data directory of a coordinator, as this machine sees it.
fn data_dir(bed: &Bed, of: &Coordinator) -> Result<PathBuf> {
    let process = bed.process(&of.pod, COORDINATOR)?;
    Ok(format!("/proc/{process}/root/var/lib/neap").into())
}

/// A file system that takes no write until this is dropped. Held by an open directory: the way
/// through the process is gone when that ends.
struct Frozen(File);

impl Frozen {
    fn freeze(dir: &Path) -> Result<Self> {
        let this = Self(File::open(dir).with_context(|| dir.display().to_string())?);
        this.fsfreeze("--freeze")?;
        Ok(this)
    }

    fn fsfreeze(&self, what: &str) -> Result<()> {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd());
        let done = Command::new("fsfreeze").args([what, &path]).output()?;
        ensure!(
            done.status.success(),
            "fsfreeze {what}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = self.fsfreeze("--unfreeze") {
            println!("{error:#}");
        }
    }
}

/// Takes all that is free on the file system of `dir`, and gives the file that holds it.
fn fill(dir: &Path) -> Result<File> {
    let path = dir.join("filler");
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&path)?;
    // Large pieces first, the rest after them.
    for size in [1 << 20, 4096, 1] {
        let piece = vec![0; size];
        loop {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context(path.display().to_string()),
            }
        }
    }
    Ok(file)
}

/// The signals cross while the disk of the coordinator `which` (0 leads) stalls for two seconds.
async fn stall(targets: &mut Targets, which: usize) -> Result<()> {
    let all = targets.bed.settled(COORDINATORS, 2 * MINUTE).await?;
    let frozen = Frozen::freeze(&data_dir(&targets.bed, &all[which])?)?;
    let struck = Timestamp::now();
    targets.more_load().await?;
    let wrote = targets.await_targets().await;
    let left =
        (2 * SECOND).saturating_sub(Duration::try_from(Timestamp::now().duration_since(struck))?);
    tokio::time::sleep(left).await;
    let thawed = Timestamp::now();
    drop(frozen);
    wrote.with_context(|| format!("the disk of {} stalled", all[which].name()))?;
    let mut last = struck;
    for write in targets.asked_for(struck).await? {
        ensure!(write.at < thawed, "only once the disk was back: {write:?}");
        last = last.max(write.at);
    }
    println!(
        "figure bed_stalled_disk_{} {:.0} ms",
        if which == 0 { "leader" } else { "follower" },
        last.duration_since(struck).as_secs_f64() * 1e3
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators: tests/run failover"]
async fn decisions_go_on_while_one_disk_stalls() -> Result<()> {
    let mut targets = Targets::start("disk-stalls").await?;
    for which in [1, 0] {
        stall(&mut targets, which).await?;
    }
    targets.bed.settled(COORDINATORS, 2 * MINUTE).await?;
    targets.check().await?;
    targets.bed.drop_namespace(targets.ns).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators: tests/run failover"]
async fn a_full_disk_takes_one_member_and_no_decision() -> Result<()> {
    let mut targets = Targets::start("disk-full").await?;
    let all = targets.bed.settled(COORDINATORS, 2 * MINUTE).await?;
    let dir = data_dir(&targets.bed, &all[0])?;
    // Kept open: the process, and with it the way to its files, may end.
    let filler = fill(&dir)?;
    let struck = Timestamp::now();
    targets.more_load().await?;
    let wrote = targets.await_targets().await;
    // An empty file takes no space; the directory it is in may be out of reach by now.
    filler.set_len(0)?;
    drop(filler);
    wrote.with_context(|| format!("the disk of {} was full", all[0].name()))?;
    let writes = targets.asked_for(struck).await?;
    ensure!(writes.len() == TARGETS);
    let last = writes.iter().map(|write| write.at).max().unwrap_or(struck);
    println!(
        "figure bed_full_disk {:.0} ms",
        last.duration_since(struck).as_secs_f64() * 1e3
    );
    // With space it comes back by itself, as the member it was.
    let after = targets.bed.settled(COORDINATORS, 3 * MINUTE).await?;
    let cluster = |all: &[Coordinator]| all[0].status["cluster"].clone();
    ensure!(cluster(&after) == cluster(&all));
    targets.check().await?;
    targets.bed.drop_namespace(targets.ns).await;
    Ok(())
}
