//! How long from a signal's change to the scale PATCH arriving at the API server, whose own
//! instant of it (audit log) is taken. Run by tests/load/latency, on a bed.

mod cpu;
mod queue;

use anyhow::{Context, Result};
use neap_e2e::Bed;
use neap_load::{figure, percentile};

#[tokio::main]
async fn main() -> Result<()> {
    let bed = Bed::connect().await?;
    let queue = queue::measure(&bed).await?;
    for (name, share) in [
        ("latency_p50", 0.5),
        ("latency_p99", 0.99),
        ("latency_max", 1.0),
    ] {
        figure(name, percentile(&queue, share).context("no changes")?, "ms");
    }
    let cpu = cpu::measure(&bed).await?;
    for (name, share) in [("cpu_latency_p50", 0.5), ("cpu_latency_p99", 0.99)] {
        figure(name, percentile(&cpu, share).context("no changes")?, "ms");
    }
    Ok(())
}
