//! Coordinators whose wall clocks are ten minutes ahead, ten minutes behind and right.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use neap_e2e::{COORDINATOR, podless};

use crate::release::{rise_until_at, upgrade};
use crate::targets::{COORDINATORS, MINUTE, SECOND, TARGETS, Targets, counting, target};

/// Window of the target `brief`: all kills of the test fall into it.
const BRIEF: u32 = 60;
/// So that each of the three leads, and dies, in general.
const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators and an image with wrong clocks: tests/run failover"]
async fn zz_with_clocks_ten_minutes_off_windows_are_as_long_as_they_are() -> Result<()> {
    let mut targets = Targets::start("clocks").await?;
    let (bed, ns) = (targets.bed.clone(), targets.ns);
    upgrade(&["--set", "image.tag=clocks"])?;
    let rises = rise_until_at(&mut targets, "clocks").await?;
    println!("saw: all clocks shifted, while the signals of all targets crossed {rises} times");
    bed.apply(ns, &podless("brief", 1)).await?;
    bed.apply(ns, &counting("brief", "all", BRIEF)).await?;
    bed.await_replicas("Deployment", ns, "brief", MINUTE, |n| n > 1)
        .await?;

    let began = Timestamp::now();
    targets.no_load().await?;
    for _ in 0..KILLS {
        let all = bed.settled(COORDINATORS, MINUTE).await?;
        println!("saw: {} leads, and is killed", all[0].name());
        bed.kill(&all[0].pod, COORDINATOR)?;
    }
    bed.settled(COORDINATORS, MINUTE).await?;
    bed.await_replicas("Deployment", ns, "brief", 2 * MINUTE, |n| n == 1)
        .await?;
    let writes = bed.audit.scale_writes(ns, "brief", began)?;
    let down = writes.first().context("brief was not written")?;
    let held = Duration::try_from(down.at.duration_since(began))?;
    println!("figure bed_clocks_held {:.0} ms", held.as_secs_f64() * 1e3);
    ensure!(
        held + SECOND >= Duration::from_secs(BRIEF.into()),
        "after {held:?}: {writes:?}"
    );
    for name in (0..TARGETS).map(target).chain(["held".to_owned()]) {
        let writes = bed.audit.scale_writes(ns, &name, began)?;
        ensure!(
            writes.is_empty(),
            "{name}, whose window is longer: {writes:?}"
        );
    }
    bed.drop_namespace(ns).await;
    upgrade(&["--set", "image.tag=test"])?;
    bed.settled(COORDINATORS, 3 * MINUTE).await?;
    Ok(())
}
