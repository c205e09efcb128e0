//! A coordinator that takes agents' streams.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::{
    Addresses, IngestCollector, IngestFigures, IngestLimits, IngestParts, StreamSlots, serve,
};
use crate::clock::Clock;
use crate::identity::Identity;
use crate::service::Service;

/// Has `service` take agents' streams on `listener` for as long as it runs. `addresses` is where they
/// find the others.
pub fn serve_agents(
    service: &mut Service,
    listener: TcpListener,
    identity: Arc<Identity>,
    addresses: Addresses,
    clock: Arc<dyn Clock>,
) {
    let (figures, slots) = (Arc::new(IngestFigures::default()), StreamSlots::default());
    service.metrics.add_collector(Box::new(IngestCollector {
        figures: figures.clone(),
        slots: slots.clone(),
    }));
    let parts = IngestParts {
        identity,
        store: service.store.clone(),
        world: service.world.clone(),
        wanted: service.wanted.clone(),
        leading: service.leading.clone(),
        addresses,
        clock,
        limits: IngestLimits::default(),
        figures,
        slots,
        stop: service.stop.clone(),
    };
    service.spawn("agents' server", async move {
        let served = serve(listener, parts).await;
        served
            .err()
            .map_or_else(String::new, |error| error.to_string())
    });
}
