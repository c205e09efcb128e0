//! What is measured of a queue.

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Messages in the queue.
    QueueLength,
    /// Messages published per second.
    MessageRate,
    /// Messages delivered or fetched per second.
    DeliverGetRate,
    /// Published over delivered.
    PublishedToDeliveredRatio,
    /// Seconds until the queue is empty at its present rates.
    ExpectedQueueConsumptionTime,
}

/// One queue, or several taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Queue {
    /// Messages that count.
    pub(super) messages: i64,
    /// Messages published per second.
    pub(super) published: f64,
    /// Messages delivered or fetched per second.
    pub(super) delivered: f64,
}

impl Mode {
    pub(super) const NAMES: [&'static str; 5] = [
        "QueueLength",
        "MessageRate",
        "DeliverGetRate",
        "PublishedToDeliveredRatio",
        "ExpectedQueueConsumptionTime",
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "QueueLength" => Self::QueueLength,
            "MessageRate" => Self::MessageRate,
            "DeliverGetRate" => Self::DeliverGetRate,
            "PublishedToDeliveredRatio" => Self::PublishedToDeliveredRatio,
            "ExpectedQueueConsumptionTime" => Self::ExpectedQueueConsumptionTime,
            _ => return None,
        })
    }

    /// The value of the metric and whether it wakes the target, by KEDA's rules: where nothing is
    /// delivered a ratio or time cannot be had, and the activation value stands in for it.
    pub(super) fn measure(self, queue: &Queue, activation: f64) -> (f64, bool) {
        let Queue {
            messages,
            published,
            delivered,
        } = *queue;
        let count = messages as f64;
        match self {
            Self::QueueLength => (count, count > activation),
            Self::MessageRate => (published, published > activation || count > activation),
            Self::DeliverGetRate => (delivered, delivered > activation),
            Self::PublishedToDeliveredRatio => {
                let stalled = published > 0.0 && delivered == 0.0;
                let ratio = match () {
                    () if stalled => activation,
                    () if published > 0.0 && delivered > 0.0 => published / delivered,
                    () => 0.0,
                };
                (ratio, ratio > activation || stalled)
            }
            Self::ExpectedQueueConsumptionTime => {
                let seconds = match () {
                    () if messages == 0 => 0.0,
                    () if delivered == 0.0 => activation,
                    () => (published - delivered) / delivered + count / delivered,
                };
                (
                    seconds,
                    seconds > activation || (delivered == 0.0 && messages > 0),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_as_keda_does() {
        let queue = |messages, published, delivered| Queue {
            messages,
            published,
            delivered,
        };
        for (mode, queue, activation, expected) in [
            (Mode::QueueLength, queue(5, 9.0, 9.0), 5.0, (5.0, false)),
            (Mode::QueueLength, queue(6, 0.0, 0.0), 5.0, (6.0, true)),
            (Mode::MessageRate, queue(0, 1.4, 0.0), 1.0, (1.4, true)),
            (Mode::MessageRate, queue(4, 0.0, 0.0), 1.0, (0.0, true)),
            (Mode::DeliverGetRate, queue(9, 9.0, 1.5), 2.0, (1.5, false)),
            (
                Mode::PublishedToDeliveredRatio,
                queue(1, 3.0, 2.0),
                1.0,
                (1.5, true),
            ),
            (
                Mode::PublishedToDeliveredRatio,
                queue(1, 3.0, 0.0),
                2.0,
                (2.0, true),
            ),
            (
                Mode::PublishedToDeliveredRatio,
                queue(1, 0.0, 2.0),
                0.0,
                (0.0, false),
            ),
            (
                Mode::ExpectedQueueConsumptionTime,
                queue(0, 3.0, 2.0),
                0.0,
                (0.0, false),
            ),
            (
                Mode::ExpectedQueueConsumptionTime,
                queue(10, 3.0, 2.0),
                5.0,
                (5.5, true),
            ),
            (
                Mode::ExpectedQueueConsumptionTime,
                queue(10, 3.0, 0.0),
                7.0,
                (7.0, true),
            ),
        ] {
            assert_eq!(
                mode.measure(&queue, activation),
                expected,
                "{mode:?} {queue:?} {activation}"
            );
        }
    }
}
