//! Whether this replica can do a leader's work: whether it reaches the API server. A leader that
//! has not for a while gives leadership to a replica that does.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use neap_consensus::{Consensus, HandOverError};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// The API server is asked so often, and given so long.
const EVERY: Duration = Duration::from_secs(2);
/// A leader that was not answered for so long hands over.
const UNREACHED: Duration = Duration::from_secs(10);

/// Watches the way to the API server.
pub struct Fitness {
    client: Client,
    consensus: Consensus,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Fitness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fitness").finish_non_exhaustive()
    }
}

impl Fitness {
    /// Watches the API server that `client` is of, for the member `consensus`.
    pub fn new(client: Client, consensus: Consensus, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            consensus,
            clock,
        }
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = self.watch() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn watch(&self) {
        // At the start it has the benefit of the doubt: its first certificates came from there.
        let mut reached = self.clock.boottime();
        let mut fit = true;
        loop {
            let asked = self.clock.boottime();
            let answered = self.ask().await;
            let now = self.clock.boottime();
            if answered {
                reached = now;
            }
            if fit != answered {
                fit = answered;
                self.consensus.set_fit(fit);
                tracing::info!(fit, "the API server is reached, or not any more");
            }
            if now.since(reached) >= UNREACHED && self.consensus.leadership().borrow().is_self {
                self.hand_over().await;
            }
            self.clock.sleep_until(asked + EVERY).await;
        }
    }

    /// Whether anything answers that is not itself in trouble. A refusal is an answer.
    async fn ask(&self) -> bool {
        let bound = self.clock.sleep_until(self.clock.boottime() + EVERY);
        tokio::select! {
            answer = self.client.apiserver_version() => match answer {
                Ok(_) => true,
                Err(kube::Error::Api(status)) => status.code < 500,
                Err(_) => false,
            },
            () = bound => false,
        }
    }

    async fn hand_over(&self) {
        match self.consensus.hand_over().await {
            Ok(to) => {
                tracing::warn!(%to, after = ?UNREACHED, "handed over: this replica cannot reach the API server")
            }
            // Nobody is better off: who leads makes no difference.
            Err(HandOverError::NoSuccessor) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot reach the API server, and not hand over either")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::{Boottime, ManualClock};
    use crate::testing::api_server::ApiServer;
    use crate::testing::replicas::Replicas;

    const VERSION: &str = "/version";

    fn serve(server: &ApiServer) {
        server.get(
            VERSION,
            json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "",
                   "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
        );
    }

    /// Lets time pass until `done`, in steps that every replica has seen the end of.
    async fn pass(clock: &ManualClock, servers: &[ApiServer], mut done: impl FnMut() -> bool) {
        let deadline = Duration::from_secs(60);
        let counts = || {
            servers
                .iter()
                .map(|server| server.count(VERSION))
                .collect::<Vec<_>>()
        };
        let passing = async {
            while !done() {
                let before = counts();
                clock.advance(EVERY);
                while counts()
                    .iter()
                    .zip(&before)
                    .any(|(now, before)| now == before)
                {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        };
        let passed = tokio::time::timeout(deadline, passing).await;
        assert!(
            passed.is_ok(),
            "not within {deadline:?}; asked {:?}",
            counts()
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_leader_without_an_api_server_hands_over_to_one_that_has_one() {
        let replicas = Replicas::formed(3).await;
        let clock = ManualClock::new(Boottime::from_micros(0), jiff::Timestamp::UNIX_EPOCH);
        let servers: Vec<ApiServer> = replicas
            .members()
            .iter()
            .map(|member| {
                let (server, client) = ApiServer::new();
                serve(&server);
                let watched = Fitness::new(client, member.clone(), Arc::new(clock.clone()));
                tokio::spawn(watched.run(CancellationToken::new()));
                server
            })
            .collect();
        let asked = || servers.iter().all(|server| server.count(VERSION) > 2);
        pass(&clock, &servers, asked).await;

        // Nobody reaches it: leadership stays where it is.
        let first = replicas.leader().await;
        servers.iter().for_each(|server| server.fail(VERSION, 503));
        let before = servers[first].count(VERSION);
        let long = || servers[first].count(VERSION) > before + 10;
        pass(&clock, &servers, long).await;
        assert_eq!(replicas.leader().await, first);

        // One other reaches it again: that one leads.
        let other = (first + 1) % 3;
        serve(&servers[other]);
        pass(&clock, &servers, || replicas.leads(other)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refusal_is_an_answer() {
        let replicas = Replicas::formed(1).await;
        let (server, client) = ApiServer::new();
        let clock = ManualClock::new(Boottime::from_micros(0), jiff::Timestamp::UNIX_EPOCH);
        let watched = Fitness::new(client, replicas.members()[0].clone(), Arc::new(clock));
        server.fail(VERSION, 403);
        assert!(watched.ask().await);
        server.fail(VERSION, 500);
        assert!(!watched.ask().await);
    }
}
