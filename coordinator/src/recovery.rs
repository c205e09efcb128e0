//! Going on from one survivor after a majority was lost for good. An annotation of the StatefulSet
//! names the survivor and its cluster; a replica that knows no leader looks there, and where it is the
//! one, it ends and its data is made those of a cluster of one.
//!
//! This is done to a replica that has just been without a leader, and not at a start: words that were
//! left standing would else take a replica of a healthy cluster away from the others.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use neap_consensus::{Consensus, RecoverError, Status};

use crate::clock::Clock;
use crate::config::{Config, ordinal_name};
use crate::stateful_set::{OwnSet, RECOVER};

/// Whether there is a leader is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// A leader is heard ten times a second.
const UNHEARD: Duration = Duration::from_secs(1);
/// Elections are over long before.
const LEADERLESS: Duration = Duration::from_secs(5);
/// Without a leader, the StatefulSet is asked for this often.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Which member a lost cluster is to be recovered from: `CLUSTER@POD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// The cluster, as `/api/v1/status` names it.
    pub cluster: String,
    /// The survivor.
    pub pod: String,
}

/// Words that say nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {annotation} of the StatefulSet is {value:?}: it must be CLUSTER@POD, such as \
     4f1c9a0b7d2e6358.1@neap-coordinator-1, with the cluster that /api/v1/status names",
    annotation = RECOVER
)]
pub struct WordsError {
    value: String,
}

impl FromStr for Words {
    type Err = WordsError;

    fn from_str(text: &str) -> Result<Self, WordsError> {
        let words = text.trim().split_once('@').and_then(|(cluster, pod)| {
            let (lineage, generation) = cluster.split_once('.')?;
            let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            let is_cluster = !lineage.is_empty()
                && lineage.chars().all(hex)
                && generation.parse::<u32>().is_ok();
            let pod = ordinal_name(pod).ok().filter(|_| is_cluster)?;
            Some(Self {
                cluster: cluster.to_owned(),
                pod,
            })
        });
        words.ok_or_else(|| WordsError {
            value: text.to_owned(),
        })
    }
}

/// What a replica without a leader makes of the annotation.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// It is not about this replica.
    Nothing,
    /// It is, and there is nothing to do.
    Idle(String),
    /// It asks for this replica.
    Go(Words),
}

/// Follows whether this replica is asked to go on alone.
pub struct Recovery {
    consensus: Consensus,
    own: OwnSet,
    pod: String,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery")
            .field("pod", &self.pod)
            .finish_non_exhaustive()
    }
}

impl Recovery {
    /// For the pod `pod` of the set `own`, whose member is `consensus`.
    pub fn new(consensus: Consensus, own: OwnSet, pod: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            consensus,
            own,
            pod: pod.to_owned(),
            clock,
        }
    }

    /// Resolves once this replica is asked to go on alone.
    pub async fn asked(&self) -> Words {
        let mut led = self.clock.boottime();
        let mut told = String::new();
        loop {
            let now = self.clock.boottime();
            if self.is_led() {
                led = now;
            }
            let mut pause = LOOK;
            if now.since(led) >= LEADERLESS {
                let said = self.ask().await;
                match said {
                    Said::Go(words) => return words,
                    Said::Idle(why) if why != told => {
                        tracing::warn!(%why, "without a leader, and nothing is recovered");
                        told = why;
                    }
                    Said::Idle(_) | Said::Nothing => {}
                }
                pause = ASK_EVERY;
            }
            self.clock.sleep_until(now + pause).await;
        }
    }

    /// Whether there is nothing to recover: a leader is known, or no cluster was joined yet.
    fn is_led(&self) -> bool {
        let status = self.consensus.status();
        let heard = status.leader_heard.is_some_and(|ago| ago < UNHEARD);
        // A leader that hears no majority goes on leading, without a lease.
        heard || self.consensus.lease().is_some() || status.cluster.is_empty()
    }

    async fn ask(&self) -> Said {
        match self.own.ask().await {
            Ok(wanted) => wanted.recover.map_or(Said::Nothing, |text| {
                judge(&text, &self.pod, &self.consensus.status())
            }),
            Err(error) => Said::Idle(format!("cannot read the StatefulSet: {error}")),
        }
    }
}

/// What the annotation `text` asks of the member of `pod`.
fn judge(text: &str, pod: &str, status: &Status) -> Said {
    let words: Words = match text.parse() {
        Ok(words) => words,
        Err(error) => return Said::Idle(error.to_string()),
    };
    if words.pod != pod {
        return Said::Nothing;
    }
    // A member that was recovered is of another generation: the same words do nothing to it again.
    if words.cluster != status.cluster {
        return Said::Idle(format!(
            "annotation {RECOVER} of the StatefulSet names cluster {}; this replica is of {}",
            words.cluster, status.cluster
        ));
    }
    // It would be refused, and each start would end like this one.
    if status.last_index == 0 {
        return Said::Idle("this replica has nothing of the log that it could go on from".into());
    }
    Said::Go(words)
}

/// Makes the member that `config` is about, which must not run any more, the only one of its cluster.
///
/// # Errors
/// [`RecoverError`]: nothing was changed.
pub fn recover(config: &Config, words: &Words) -> Result<(), RecoverError> {
    let address = config.own_address();
    let dir = &config.data_dir;
    let made = neap_consensus::recover(dir, &words.cluster, &config.pod_name, &address)?;
    tracing::warn!(
        cluster = made.cluster,
        before = made.before,
        last_index = made.last_index,
        "recovered: from its next start on this replica is the only member of the cluster"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::SystemClock;
    use crate::stateful_set::tests::{SET, config, set};
    use crate::testing::api_server::ApiServer;
    use crate::testing::replicas::Replicas;

    const POD: &str = "neap-coordinator-1";

    fn status(cluster: &str, last_index: u64) -> Status {
        Status {
            cluster: cluster.into(),
            last_index,
            ..Status::default()
        }
    }

    #[test]
    fn only_its_own_name_and_cluster_ask_for_a_replica() {
        let own = status("4f1c.2", 7);
        let words = |text| judge(text, POD, &own);
        let go = Words {
            cluster: "4f1c.2".into(),
            pod: POD.into(),
        };
        assert_eq!(words("4f1c.2@neap-coordinator-1"), Said::Go(go));
        assert_eq!(words("4f1c.2@neap-coordinator-0"), Said::Nothing);
        // What it was recovered from before.
        assert_eq!(
            words("4f1c.1@neap-coordinator-1"),
            Said::Idle(
                "annotation neap.dev/recover of the StatefulSet names cluster 4f1c.1; this replica is of 4f1c.2"
                    .into()
            )
        );
        let empty = judge("4f1c.2@neap-coordinator-1", POD, &status("4f1c.2", 0));
        assert!(matches!(empty, Said::Idle(_)), "{empty:?}");
    }

    #[test]
    fn bad_words_are_named_and_ignored() {
        for bad in [
            "neap-coordinator-1",
            "4f1c.1@coordinator",
            "4f1c@neap-coordinator-1",
            "@neap-coordinator-1",
            "4F1C.1@neap-coordinator-1",
            "",
        ] {
            let Said::Idle(text) = judge(bad, POD, &status("4f1c.1", 7)) else {
                panic!("{bad:?} is taken");
            };
            for part in [
                "annotation neap.dev/recover",
                &format!("{bad:?}"),
                "must be CLUSTER@POD",
            ] {
                assert!(text.contains(part), "{text}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_replica_that_is_led_asks_for_nothing_and_one_that_is_left_alone_goes() {
        let replicas = Replicas::formed(3).await;
        let survivor = (replicas.leader().await + 1) % 3;
        let member = replicas.members()[survivor].clone();
        let cluster = member.status().cluster;
        let (server, client) = ApiServer::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let own = OwnSet::new(client, clock.clone(), &config(0));
        let pod = format!("neap-coordinator-{survivor}");
        let recovery = Recovery::new(member, own, &pod, clock);
        let asked = tokio::spawn(async move { recovery.asked().await });

        let mut set = set(json!({"replicas": 3}));
        set["metadata"]["annotations"] = json!({RECOVER: format!("{cluster}@{pod}")});
        server.get(SET, set);
        tokio::time::sleep(LOOK * 2).await;
        assert_eq!(server.count(SET), 0, "it is led");
        for (seat, other) in replicas.members().iter().enumerate() {
            if seat != survivor {
                other.shutdown().await;
            }
        }
        let words = tokio::time::timeout(Duration::from_secs(60), asked).await;
        let words = words.expect("it is left alone").unwrap();
        assert_eq!(words, Words { cluster, pod });
    }
}
