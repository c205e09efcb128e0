//! How much one agent, and all of them, may ask for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use neap_units::NodeName;

/// Bounds of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestLimits {
    /// Streams of one node at once: an agent needs one, and two while it reconnects.
    pub streams_per_node: usize,
    /// Series of one stream.
    pub series_per_stream: usize,
    /// Largest message taken, in bytes.
    pub message_bytes: usize,
    /// An agent that does not say hello in this time is cut off.
    pub hello_within: Duration,
    /// An agent that does not take a message in this time is cut off.
    pub send_within: Duration,
    /// An active stream that is silent for this time is ended.
    pub silent_for: Duration,
    /// Time between two reviews of a token by the API server.
    pub review_each: Duration,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            streams_per_node: 4,
            series_per_stream: 65_536,
            message_bytes: 1 << 20,
            hello_within: Duration::from_secs(10),
            send_within: Duration::from_secs(10),
            // Thirty times the default heartbeat, and the longest that can be asked for.
            silent_for: Duration::from_secs(30),
            review_each: Duration::from_secs(600),
        }
    }
}

/// Counts the streams of each node.
#[derive(Debug, Clone, Default)]
pub struct StreamSlots(Arc<Mutex<HashMap<NodeName, usize>>>);

/// One counted stream; it counts until this is dropped.
#[derive(Debug)]
pub(super) struct StreamSlot {
    slots: StreamSlots,
    node: NodeName,
}

impl StreamSlots {
    /// Counts one more stream of `node`; `None` when it has `most` already.
    pub(super) fn take(&self, node: &NodeName, most: usize) -> Option<StreamSlot> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(node.clone()).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(StreamSlot {
            slots: self.clone(),
            node: node.clone(),
        })
    }

    /// Streams at the moment.
    pub fn len(&self) -> usize {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .sum()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut counts = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_so_many_streams_and_no_more() {
        let slots = StreamSlots::default();
        let node = NodeName::new("n1").unwrap();
        let first = slots.take(&node, 2).unwrap();
        let _second = slots.take(&node, 2).unwrap();
        assert!(slots.take(&node, 2).is_none());
        assert!(
            slots.take(&NodeName::new("n2").unwrap(), 2).is_some(),
            "other nodes are not concerned"
        );
        drop(first);
        assert!(slots.take(&node, 2).is_some());
        assert_eq!(slots.len(), 1);
    }
}
