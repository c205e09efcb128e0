//! What `neap_raft_*` tell an operator of a cluster: who leads, how far the log is, and how each follower does.

use std::collections::BTreeMap;

use crate::bench::Bench;

/// The samples of a page of metrics, by name and labels as they stand there.
async fn scrape(bench: &Bench, seat: usize) -> BTreeMap<String, f64> {
    let (code, text) = bench.text(seat, "/metrics").await;
    assert_eq!(code, 200, "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

fn of_member(what: &str, seat: usize) -> String {
    format!("neap_raft_follower_{what}{{member=\"neap-coordinator-{seat}\"}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leads_and_how_far_each_follower_is_can_be_scraped() {
    let bench = Bench::start().await;
    let leader = bench.leader().await;
    let followers: Vec<usize> = (0..3).filter(|seat| *seat != leader).collect();
    let told = bench
        .until("a leader whose followers have everything", async |bench| {
            let told = scrape(bench, leader).await;
            let near = followers.iter().all(|seat| {
                let lag = told.get(&of_member("lag", *seat)) == Some(&0.0);
                let silence = told.get(&of_member("silence_seconds", *seat));
                lag && silence.is_some_and(|silence| (0.0..2.0).contains(silence))
            });
            let leads = told.get("neap_raft_lease") == Some(&1.0);
            (near && leads && told.get("neap_raft_voters_heard") == Some(&3.0)).then_some(told)
        })
        .await;
    let figure = |name: &str| match told.get(name) {
        Some(value) => *value,
        None => panic!("no {name} in {told:#?}"),
    };
    assert_eq!(figure("neap_raft_is_leader"), 1.0);
    assert_eq!(figure("neap_raft_members"), 3.0);
    assert_eq!(figure("neap_raft_voters"), 3.0);
    assert!(figure("neap_raft_term") >= 1.0);
    let (last, committed, applied) = (
        figure("neap_raft_last_index"),
        figure("neap_raft_committed_index"),
        figure("neap_raft_applied_index"),
    );
    // Two members joined, each in some entries.
    assert!(committed >= 3.0 && applied >= 1.0, "{told:#?}");
    assert!(applied <= last && committed <= last, "{told:#?}");
    // It tells of the others, not of itself.
    for what in ["lag", "silence_seconds"] {
        assert_eq!(told.get(&of_member(what, leader)), None);
    }

    for seat in followers {
        let seen = bench
            .until("a follower that has everything", async |bench| {
                let seen = scrape(bench, seat).await;
                let index = seen.get("neap_raft_committed_index").copied();
                index.filter(|index| *index >= committed).map(|_| seen)
            })
            .await;
        assert_eq!(seen.get("neap_raft_is_leader"), Some(&0.0), "{seen:#?}");
        assert_eq!(seen.get("neap_raft_lease"), Some(&0.0), "{seen:#?}");
        assert_eq!(seen.get("neap_raft_term"), told.get("neap_raft_term"));
        // What only the leader knows is absent, and not zero.
        assert!(
            !seen
                .keys()
                .any(|name| name.starts_with("neap_raft_follower_")),
            "{seen:#?}"
        );
        assert_fsyncs(&seen);
    }
    assert_fsyncs(&told);
    bench.stop().await;
}

/// The histogram of commits to disk: some were made, and its parts belong together.
fn assert_fsyncs(seen: &BTreeMap<String, f64>) {
    let name = "neap_raft_fsync_duration_seconds";
    let of = |suffix: &str| seen.get(&format!("{name}{suffix}")).copied();
    let (count, sum) = (of("_count").unwrap(), of("_sum").unwrap());
    assert!(count >= 1.0 && sum > 0.0, "{seen:#?}");
    let longest = seen.get("neap_raft_fsync_longest_seconds").copied();
    assert!(longest.unwrap() <= sum + 1e-6, "{seen:#?}");
    assert_eq!(of("_bucket{le=\"+Inf\"}"), Some(count), "{seen:#?}");
    let prefix = format!("{name}_bucket");
    let buckets: Vec<f64> = seen
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix))
        .map(|(_, value)| *value)
        .collect();
    assert_eq!(buckets.len(), 12, "{seen:#?}");
    assert!(buckets.iter().all(|value| *value <= count), "{seen:#?}");
}
