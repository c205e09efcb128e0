//! Writes that come late: of a leader after those of a later one. A process that was stopped in the middle of a write
//! may send it when it goes on; nobody else may.

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use neap_e2e::ScaleWrite;

/// A late write must be put right within this time; and what was on its way in a process that was stopped is out within
/// it.
const CORRECTED: SignedDuration = SignedDuration::from_secs(1);

/// A coordinator that was stopped for a while.
pub(crate) struct Stop {
    /// Its pod.
    pub(crate) pod: String,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

impl Stop {
    fn explains(&self, write: &ScaleWrite) -> bool {
        write.pod() == Some(self.pod.as_str())
            && (self.from..=self.until + CORRECTED).contains(&write.at)
    }
}

/// What all writes of one target come to.
pub(crate) struct Order<'a> {
    /// Those of each leader before there was one of a later leader.
    pub(crate) timely: Vec<&'a ScaleWrite>,
    /// How many were late.
    pub(crate) late: usize,
}

/// Parts the late writes of `name` from the others. `writes` are those that the API server took, in order; `asked` are
/// all requests, taken or not: what was asked for in time was committed.
///
/// # Errors
/// A late write by a process that was not stopped, of a number that was not committed before, or one that the leader did
/// not put right.
pub(crate) fn order<'a>(
    name: &str,
    writes: &'a [ScaleWrite],
    asked: &[ScaleWrite],
    stops: &[Stop],
) -> Result<Order<'a>> {
    let mut timely: Vec<&ScaleWrite> = Vec::new();
    let (mut largest, mut late) = ((0, 0), 0);
    for (at, write) in writes.iter().enumerate() {
        let leader = write.leader();
        let leader = leader.with_context(|| format!("{name}: someone else: {write:?}"))?;
        if leader >= largest {
            largest = leader;
            timely.push(write);
            continue;
        }
        late += 1;
        ensure!(
            stops.iter().any(|stop| stop.explains(write)),
            "{name}: late, and by a process that was not stopped: {write:?}"
        );
        let committed = asked.iter().any(|before| {
            before.at < write.at
                && before.replicas == write.replicas
                && before.leader().is_some_and(|other| other <= leader)
        });
        ensure!(
            committed,
            "{name}: late, and of a number that was not decided on: {write:?}"
        );
        let wanted = timely.last().map_or(0, |last| last.replicas);
        let after = writes.iter().skip(at + 1);
        // The load only rises: meanwhile more may be wanted.
        let mended = after
            .take_while(|later| later.at.duration_since(write.at) <= CORRECTED)
            .any(|later| later.leader() >= Some(largest) && later.replicas >= wanted);
        ensure!(
            write.replicas == wanted || mended,
            "{name}: the late write {write:?} was not put right: {writes:?}"
        );
    }
    Ok(Order { timely, late })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_millis(millis)
    }

    fn write(millis: i64, replicas: i64, pod: &str, leader: &str) -> ScaleWrite {
        ScaleWrite {
            name: "web".into(),
            at: at(millis),
            replicas,
            user_agent: format!("neap/0.1.0 ({pod}; leader {leader})"),
            code: 200,
        }
    }

    fn late_in(writes: &[ScaleWrite], stops: &[Stop]) -> Result<usize, String> {
        let order = order("web", writes, writes, stops).map_err(|error| error.to_string())?;
        assert_eq!(order.timely.len() + order.late, writes.len());
        Ok(order.late)
    }

    #[test]
    fn only_a_process_that_was_stopped_may_be_late_and_it_is_put_right() {
        let stop = |pod: &str| {
            vec![Stop {
                pod: pod.into(),
                from: at(500),
                until: at(2_000),
            }]
        };
        let mut writes = vec![
            write(0, 5, "c-0", "7.1"),
            write(1_000, 6, "c-1", "8.2"),
            write(2_100, 5, "c-0", "7.1"),
            write(2_400, 6, "c-1", "8.2"),
        ];
        assert_eq!(late_in(&writes, &stop("c-0")), Ok(1));
        let refused = |writes: &[ScaleWrite], stops: &[Stop]| late_in(writes, stops).unwrap_err();
        for stops in [Vec::new(), stop("c-2")] {
            assert!(refused(&writes, &stops).contains("not stopped"));
        }
        // By someone who leads no more, or too late, it is not put right.
        for mend in [write(2_400, 6, "c-0", "7.1"), write(3_200, 6, "c-1", "8.2")] {
            writes[3] = mend;
            assert!(refused(&writes, &stop("c-0")).contains("not put right"));
        }
        writes[2] = write(2_100, 9, "c-0", "7.1");
        assert!(refused(&writes, &stop("c-0")).contains("not decided on"));
        writes[2] = write(3_100, 5, "c-0", "7.1");
        assert!(refused(&writes, &stop("c-0")).contains("not stopped"));
    }

    #[test]
    fn leaders_in_order_are_timely() {
        let writes = [
            write(0, 5, "c-0", "7.1"),
            write(1, 6, "c-1", "8.2"),
            write(2, 7, "c-1", "8.2"),
        ];
        assert_eq!(late_in(&writes, &[]), Ok(0));
        let strange = [ScaleWrite {
            user_agent: "kubectl/v1.36.0".into(),
            ..write(0, 5, "", "")
        }];
        assert!(late_in(&strange, &[]).unwrap_err().contains("someone else"));
    }
}
