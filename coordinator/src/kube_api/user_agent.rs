//! Who a request says it comes from. Audit logs keep it.

use axum::http::HeaderValue;
use neap_consensus::LeaderId;

/// `neap/<version> (<pod>)`, and with the leadership that a write rests on
/// `neap/<version> (<pod>; leader <term>.<node>)`.
pub(crate) fn user_agent(pod_name: &str, leader: Option<LeaderId>) -> HeaderValue {
    let leader = leader.map_or_else(String::new, |leader| format!("; leader {leader}"));
    let text = format!("neap/{} ({pod_name}{leader})", env!("CARGO_PKG_VERSION"));
    // A pod's name is a DNS name; only one set by hand could hold what a header cannot.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("neap"))
}
