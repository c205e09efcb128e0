//! What the triggers that run one SQL query have in common.

use std::sync::Arc;

use neap_units::MilliValue;

use super::polled::{external_metric, reading};
use crate::built::{
    Activation, BuiltTrigger, ExternalKind, PollCall, PollFuture, PolledTrigger, QueryKey, Reading,
    Source,
};
use crate::config::TriggerConfig;
use crate::error::{FieldError, PollError};
use crate::metadata::Settings;
use crate::shared::Digest;
use crate::sql::{ConnectionPool, Connector, number_error};

/// A query with the pool that it runs on. `S` knows how to connect and ask, `C` is a connection.
pub(super) struct SqlQuery<S, C> {
    pub(super) source_name: &'static str,
    pub(super) target: Result<(S, Arc<ConnectionPool<C>>), FieldError>,
    pub(super) key: Digest,
    pub(super) activation: f64,
}

impl<S, C> SqlQuery<S, C>
where
    S: Connector<C> + Send + Sync + 'static,
    C: Send + 'static,
{
    /// The trigger around the query. A connection that cannot be made becomes a warning.
    pub(super) fn built(
        self,
        config: &TriggerConfig,
        kind: ExternalKind,
        base_name: &str,
        target: f64,
        settings: Settings,
    ) -> BuiltTrigger {
        let metrics = external_metric(config, kind, base_name, MilliValue::from_metric_f64(target));
        let activation = Activation::Above(self.activation);
        let warnings = self.target.as_ref().err().cloned();
        let mut built = BuiltTrigger::new(
            self.source_name,
            config,
            metrics,
            activation,
            Source::Polled(Arc::new(self)),
            settings,
        );
        built.warnings.extend(warnings);
        built
    }

    async fn ask(&self, call: PollCall) -> Result<Reading, PollError> {
        let source_name = self.source_name;
        let (server, pool) = self
            .target
            .as_ref()
            .map_err(|error| PollError::Config(error.clone()))?;
        let timed_out = || PollError::Timeout {
            source_name,
            waited: call.timeout,
        };
        let value = tokio::time::timeout(call.timeout, pool.number(server))
            .await
            .map_err(|_| timed_out())?;
        Ok(reading(
            value.map_err(|error| number_error(source_name, &error))?,
            self.activation,
        ))
    }
}

impl<S, C> PolledTrigger for SqlQuery<S, C>
where
    S: Connector<C> + Send + Sync + 'static,
    C: Send + 'static,
{
    fn poll(&self, call: PollCall) -> PollFuture<'_> {
        Box::pin(self.ask(call))
    }

    fn query_key(&self) -> QueryKey {
        QueryKey(self.key.0)
    }
}

impl<S, C> std::fmt::Debug for SqlQuery<S, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlQuery")
            .field("source_name", &self.source_name)
            .finish_non_exhaustive()
    }
}
