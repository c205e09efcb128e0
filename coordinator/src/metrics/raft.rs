//! The log and its members, as an operator watches them.

use std::fmt;
use std::time::Duration;

use neap_consensus::{Consensus, FsyncStats, MemberStatus, Role, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use super::collect::Writer;
use crate::leading::Leading;

/// A member that was heard within this time is there.
const THERE: Duration = Duration::from_secs(2);

/// Reads the figures of the log.
pub struct RaftCollector {
    /// The log.
    pub consensus: Consensus,
    /// Who leads, as others are told.
    pub leading: watch::Receiver<Leading>,
}

impl fmt::Debug for RaftCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftCollector").finish_non_exhaustive()
    }
}

/// A time of each other member.
struct PerMember<'a, F>(&'a Status, F);

impl<F: Fn(&MemberStatus) -> Option<f64>> EncodeMetric for PerMember<'_, F> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Self(status, figure) = self;
        for member in status
            .members
            .iter()
            .filter(|member| status.node != Some(member.node))
        {
            if let Some(value) = figure(member) {
                let label = [("member", member.name.as_str())];
                ConstGauge::new(value).encode(encoder.encode_family(&label)?)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// Times of commits, by upper bound.
struct FsyncHistogram<'a>(&'a FsyncStats);

impl EncodeMetric for FsyncHistogram<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let FsyncStats {
            count,
            total,
            buckets,
            ..
        } = self.0;
        let bounds = FsyncStats::BOUNDS.iter().map(Duration::as_secs_f64);
        let mut below = 0;
        // Kept cumulative, and wanted one by one.
        let each = bounds
            .chain([f64::INFINITY])
            .zip(buckets)
            .map(|(bound, upto)| {
                let own = upto - below;
                below = *upto;
                (bound, own)
            });
        let each: Vec<(f64, u64)> = each.collect();
        encoder.encode_histogram::<NoLabelSet>(total.as_secs_f64(), *count, &each, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Voters that this member is sure of: itself, and those it heard lately.
fn voters_heard(status: &Status) -> usize {
    let lately = |since: Option<Duration>| since.is_some_and(|since| since < THERE);
    if status.role == Role::Leader {
        let voters = status.members.iter().filter(|member| member.voter);
        return voters
            .filter(|member| status.node == Some(member.node) || lately(member.last_ack))
            .count();
    }
    usize::from(status.node.is_some()) + usize::from(lately(status.leader_heard))
}

impl Collector for RaftCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut Writer(encoder);
        let status = self.consensus.status();
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let voters = status.members.iter().filter(|member| member.voter);
        for (name, help, value) in [
            (
                "neap_leader",
                "1 while this replica leads and holds its lease",
                usize::from(self.leading.borrow().leadership.is_self),
            ),
            (
                "neap_raft_term",
                "Latest Raft term seen",
                number(status.term),
            ),
            (
                "neap_raft_is_leader",
                "1 while this member leads",
                usize::from(status.role == Role::Leader),
            ),
            (
                "neap_raft_lease",
                "1 while this member leads and no other can",
                usize::from(self.consensus.lease().is_some()),
            ),
            (
                "neap_raft_members",
                "Members of the cluster",
                status.members.len(),
            ),
            ("neap_raft_voters", "Members that vote", voters.count()),
            (
                "neap_raft_voters_heard",
                "Voters that this member is in touch with, itself among them; a follower is with the leader alone",
                voters_heard(&status),
            ),
            (
                "neap_raft_last_index",
                "Index of the last entry in the log",
                number(status.last_index),
            ),
            (
                "neap_raft_committed_index",
                "Index of the last entry known to be committed",
                number(status.committed_index),
            ),
            (
                "neap_raft_applied_index",
                "Index of the last entry applied",
                status.applied.map_or(0, |at| number(at.index)),
            ),
            (
                "neap_raft_snapshot_index",
                "Index of the last entry in the last snapshot",
                number(status.snapshot_index),
            ),
            (
                "neap_raft_log_bytes",
                "Bytes of commands in the log",
                status.log_bytes,
            ),
        ] {
            out.gauge(name, help, value)?;
        }
        out.metric(
            "neap_raft_follower_lag",
            "Entries that a member has not acknowledged; on the leader",
            &PerMember(&status, |member: &MemberStatus| {
                member.lag.map(|lag| lag as f64)
            }),
        )?;
        out.metric(
            "neap_raft_follower_silence_seconds",
            "Time since a member acknowledged the leader; on the leader",
            &PerMember(&status, |member: &MemberStatus| {
                member.last_ack.map(|ago| ago.as_secs_f64())
            }),
        )?;
        out.metric(
            "neap_raft_fsync_duration_seconds",
            "Time of one commit of the log to disk",
            &FsyncHistogram(&status.fsync),
        )?;
        out.metric(
            "neap_raft_fsync_longest_seconds",
            "Longest commit of the log to disk",
            &ConstGauge::new(status.fsync.max.as_secs_f64()),
        )
    }
}
