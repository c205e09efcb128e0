//! When certificates end.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::collect::Writer;
use crate::identity::Expiry;

/// Reads the ends of the certificates in use.
pub struct CertificateCollector {
    /// Gives them; `None` before there are any.
    pub expiry: Box<dyn Fn() -> Option<Expiry> + Send + Sync>,
}

impl fmt::Debug for CertificateCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateCollector")
            .finish_non_exhaustive()
    }
}

struct Ends(Expiry);

impl EncodeMetric for Ends {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Self(expiry) = self;
        for (of, at) in [
            ("coordinator", expiry.coordinator),
            ("authority", expiry.authority),
        ] {
            ConstGauge::new(at.as_second()).encode(encoder.encode_family(&[("of", of)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl Collector for CertificateCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(expiry) = (self.expiry)() else {
            return Ok(());
        };
        Writer(encoder).metric(
            "neap_certificate_not_after_timestamp_seconds",
            "End of a certificate in use, seconds of the epoch",
            &Ends(expiry),
        )
    }
}
